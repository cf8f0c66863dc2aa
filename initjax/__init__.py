"""initjax: from which weights should a network start?"""

from initjax.support import command as _command

if _command.is_starting():  # `python -m initjax.fit` imports this first, and JAX takes a second
    _command.start()


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
    reinitialize as reinitialize,
    torch_rules as torch_rules,
    zero_gamma as zero_gamma,
)
from initjax.support.errors import UserError as UserError
from initjax.support.version import __version__ as __version__
from initjax.theory.gains import gain as gain
from initjax.theory.unit_scaling import unit_scaling_gain as unit_scaling_gain


def __getattr__(name):
    if name == "load_run":  # not at import: `import initjax` needs no Flax, Optax or Orbax
        from initjax.training.inference import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
