"""The names of `initjax`, an explicit line each; `import initjax` reads this at first use."""

from initjax import distributions as distributions, meanfield as meanfield
from initjax.fit.draw import from_fit as from_fit, rules_from_fit as rules_from_fit
from initjax.initializers import *  # noqa: F403 - its __all__
from initjax.network import (
    JointRule as JointRule,
    Rule as Rule,
    chrono_rule as chrono_rule,
    erk_densities as erk_densities,
    erk_masks as erk_masks,
    find_layouts as find_layouts,
    fixup_rules as fixup_rules,
    from_checkpoint as from_checkpoint,
    gated_linear_unit as gated_linear_unit,
    lru_rule as lru_rule,
    mamba_rules as mamba_rules,
    mimetic_attention as mimetic_attention,
    parametrization as parametrization,
    reinitialize as reinitialize,
    torch_rules as torch_rules,
    unit_scaled_dot_general as unit_scaled_dot_general,
    zero_gamma as zero_gamma,
)
from initjax.support.errors import UserError as UserError
from initjax.theory.gains import gain as gain
from initjax.theory.unit_scaling import unit_scaling_gain as unit_scaling_gain
