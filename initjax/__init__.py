"""initjax: from which weights should a network start?"""

from initjax.support import command as _command

if _command.is_starting():  # `python -m initjax.fit` imports this first, and JAX takes a second
    _command.start()

from initjax import distributions as distributions, meanfield as meanfield
from initjax.depth import (
    deepnorm as deepnorm,
    fixup as fixup,
    fixup_scale as fixup_scale,
    gpt2_residual as gpt2_residual,
    mean_field_residual as mean_field_residual,
    rescale as rescale,
    residual_scale as residual_scale,
    rezero as rezero,
    skipinit as skipinit,
)
from initjax.errors import UserError as UserError
from initjax.fans import (
    axes_from_einsum as axes_from_einsum,
    fans as fans,
    fans_from_einsum as fans_from_einsum,
)
from initjax.fit_file import from_fit as from_fit, rules_from_fit as rules_from_fit
from initjax.gains import gain as gain
from initjax.initializers import (
    constant as constant,
    glorot_normal as glorot_normal,
    glorot_uniform as glorot_uniform,
    glorot_untruncated_normal as glorot_untruncated_normal,
    he_normal as he_normal,
    he_uniform as he_uniform,
    he_untruncated_normal as he_untruncated_normal,
    kaiming_normal as kaiming_normal,
    kaiming_uniform as kaiming_uniform,
    kaiming_untruncated_normal as kaiming_untruncated_normal,
    lecun_normal as lecun_normal,
    lecun_uniform as lecun_uniform,
    lecun_untruncated_normal as lecun_untruncated_normal,
    normal as normal,
    nspl as nspl,
    ones as ones,
    ones_init as ones_init,
    scaled as scaled,
    truncated_normal as truncated_normal,
    uniform as uniform,
    variance_scaling as variance_scaling,
    xavier_normal as xavier_normal,
    xavier_uniform as xavier_uniform,
    xavier_untruncated_normal as xavier_untruncated_normal,
    zeros as zeros,
    zeros_init as zeros_init,
)
from initjax.kernels import pli as pli, scale_mixture as scale_mixture
from initjax.meanfield import (
    edge_of_chaos as edge_of_chaos,
    edge_of_chaos_bias as edge_of_chaos_bias,
    edge_of_chaos_kernel as edge_of_chaos_kernel,
)
from initjax.registry import get as get, names as names
from initjax.rules import Rule as Rule, reinitialize as reinitialize
from initjax.structured import (
    delta_orthogonal as delta_orthogonal,
    identity as identity,
    orthogonal as orthogonal,
    scaled_orthogonal as scaled_orthogonal,
    sparse as sparse,
    zero as zero,
)

dirac = identity

__version__ = "0.1.0"
