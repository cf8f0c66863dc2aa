"""Every initializer; each is called as init(key, shape, dtype)."""

# ruff: noqa: I001 - the catalogue has the order of these lines.

import types
import typing

from initjax.initializers.base import Initializer as Initializer
from initjax.initializers.constant import (
    Constant as Constant,
    constant as constant,
    ones as ones,
    ones_init as ones_init,
    zeros as zeros,
    zeros_init as zeros_init,
)
from initjax.initializers.scaled import (
    Scaled as Scaled,
    normal as normal,
    scaled as scaled,
    truncated_normal as truncated_normal,
    uniform as uniform,
)
from initjax.initializers.variance_scaling import (
    VarianceScaling as VarianceScaling,
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
    variance_scaling as variance_scaling,
    xavier_normal as xavier_normal,
    xavier_uniform as xavier_uniform,
    xavier_untruncated_normal as xavier_untruncated_normal,
)
from initjax.initializers.survey import (
    survey_kaiming as survey_kaiming,
    survey_xavier as survey_xavier,
)
from initjax.initializers.nspl import nspl as nspl
from initjax.initializers.pli import pli as pli
from initjax.initializers.scale_mixture import scale_mixture as scale_mixture
from initjax.initializers.orthogonal import (
    delta_orthogonal as delta_orthogonal,
    orthogonal as orthogonal,
    scaled_orthogonal as scaled_orthogonal,
)
from initjax.initializers.spectral import (
    spectral as spectral,
    spectral_normal as spectral_normal,
)
from initjax.initializers.identity import dirac as dirac, identity as identity, zero as zero
from initjax.initializers.sparse import sparse as sparse
from initjax.initializers.residual import (
    deepnorm as deepnorm,
    fixup as fixup,
    fixup_scale as fixup_scale,
    gpt2_residual as gpt2_residual,
    mean_field_residual as mean_field_residual,
    residual_scale as residual_scale,
    rezero as rezero,
    skipinit as skipinit,
)
from initjax.initializers.edge_of_chaos import (
    EdgeOfChaos as EdgeOfChaos,
    edge_of_chaos as edge_of_chaos,
    edge_of_chaos_bias as edge_of_chaos_bias,
    edge_of_chaos_kernel as edge_of_chaos_kernel,
)
from initjax.initializers.rescale import rescale as rescale
from initjax.initializers.layout import Layout as Layout, laid_out as laid_out
from initjax.initializers.fans import (
    axes_from_einsum as axes_from_einsum,
    fans as fans,
    fans_from_einsum as fans_from_einsum,
)
from initjax.initializers.catalog import get as get, names as names

if not typing.TYPE_CHECKING:
    # All of the above: importing has left modules here too, such as `base`; they are not public.
    __all__ = [
        name
        for name, value in list(globals().items())
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    ]
