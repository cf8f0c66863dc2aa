"""Flax models that take their initializers by name or by value."""

from initjax.models.base import (
    ImageClassifier as ImageClassifier,
)
from initjax.models.catalog import (
    create_model as create_model,
    model_names as model_names,
)
