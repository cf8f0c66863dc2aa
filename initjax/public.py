"""The names of `initjax`, an explicit line each; `import initjax` reads this at first use."""

from initjax import distributions as distributions, meanfield as meanfield
from initjax.fit.draw import from_fit as from_fit, rules_from_fit as rules_from_fit
from initjax.initializers import *  # noqa: F403 - its __all__
from initjax.network import (
    find_layouts as find_layouts,
    from_checkpoint as from_checkpoint,
    parametrization as parametrization,
)
from initjax.network.rules import Rule as Rule, reinitialize as reinitialize
from initjax.support.errors import UserError as UserError
from initjax.theory.gains import gain as gain
