"""A model's parameter tree and its layers: rules by path, and taps into what layers put out."""

from initjax.network.paths import (
    path_key as path_key,
    path_name as path_name,
)
from initjax.network.rules import (
    Rule as Rule,
    reinitialize as reinitialize,
)
