"""initjax: from which weights should a network start?"""

from initjax.support import command as _command

if _command.is_starting():  # `python -m initjax.fit` imports this first, and JAX takes a second
    _command.start()


from initjax import distributions as distributions, meanfield as meanfield
from initjax.fit.draw import from_fit as from_fit, rules_from_fit as rules_from_fit
from initjax.initializers import (
    constant as constant,
    deepnorm as deepnorm,
    delta_orthogonal as delta_orthogonal,
    edge_of_chaos as edge_of_chaos,
    edge_of_chaos_bias as edge_of_chaos_bias,
    edge_of_chaos_kernel as edge_of_chaos_kernel,
    fixup as fixup,
    fixup_scale as fixup_scale,
    get as get,
    glorot_normal as glorot_normal,
    glorot_uniform as glorot_uniform,
    glorot_untruncated_normal as glorot_untruncated_normal,
    gpt2_residual as gpt2_residual,
    he_normal as he_normal,
    he_uniform as he_uniform,
    he_untruncated_normal as he_untruncated_normal,
    identity as identity,
    kaiming_normal as kaiming_normal,
    kaiming_uniform as kaiming_uniform,
    kaiming_untruncated_normal as kaiming_untruncated_normal,
    lecun_normal as lecun_normal,
    lecun_uniform as lecun_uniform,
    lecun_untruncated_normal as lecun_untruncated_normal,
    mean_field_residual as mean_field_residual,
    names as names,
    normal as normal,
    nspl as nspl,
    ones as ones,
    ones_init as ones_init,
    orthogonal as orthogonal,
    pli as pli,
    rescale as rescale,
    residual_scale as residual_scale,
    rezero as rezero,
    scale_mixture as scale_mixture,
    scaled as scaled,
    scaled_orthogonal as scaled_orthogonal,
    skipinit as skipinit,
    sparse as sparse,
    truncated_normal as truncated_normal,
    uniform as uniform,
    variance_scaling as variance_scaling,
    xavier_normal as xavier_normal,
    xavier_uniform as xavier_uniform,
    xavier_untruncated_normal as xavier_untruncated_normal,
    zero as zero,
    zeros as zeros,
    zeros_init as zeros_init,
)
from initjax.initializers.fans import (
    axes_from_einsum as axes_from_einsum,
    fans as fans,
    fans_from_einsum as fans_from_einsum,
)
from initjax.network.rules import Rule as Rule, reinitialize as reinitialize
from initjax.support.errors import UserError as UserError
from initjax.support.version import __version__ as __version__
from initjax.theory.gains import gain as gain

dirac = identity


def __getattr__(name):
    if name == "load_run":  # not at import: `import initjax` needs no Flax, Optax or Orbax
        from initjax.training.inference import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
