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
from initjax.initializers.torch_default import (
    torch_default as torch_default,
    torch_recurrent as torch_recurrent,
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
from initjax.initializers.identity import dirac as dirac, identity as identity, zero as zero
from initjax.initializers.padded_identity import (
    idinit as idinit,
    padded_identity as padded_identity,
)
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
from initjax.initializers.layer_scale import layer_scale as layer_scale
from initjax.initializers.transformer import (
    deepnorm_encoder_decoder as deepnorm_encoder_decoder,
    small_init as small_init,
    t_fixup as t_fixup,
    t_fixup_scale as t_fixup_scale,
    wang_init as wang_init,
)
from initjax.initializers.mixture_of_experts import mixture_of_experts as mixture_of_experts
from initjax.initializers.edge_of_chaos import (
    EdgeOfChaos as EdgeOfChaos,
    edge_of_chaos as edge_of_chaos,
    edge_of_chaos_bias as edge_of_chaos_bias,
    edge_of_chaos_kernel as edge_of_chaos_kernel,
)
from initjax.initializers.kernel_shaping import (
    KernelShaping as KernelShaping,
    dks as dks,
    tat as tat,
)
from initjax.initializers.spectral import (
    ntk as ntk,
    spectral as spectral,
    spectral_normal as spectral_normal,
    spectral_orthogonal as spectral_orthogonal,
    unit_scaling as unit_scaling,
)
from initjax.initializers.prior import class_prior as class_prior, prior_bias as prior_bias
from initjax.initializers.recurrent import (
    chrono as chrono,
    irnn as irnn,
    lstm_bias as lstm_bias,
    recurrent_orthogonal as recurrent_orthogonal,
)
from initjax.initializers.hippo import (
    hippo_legs as hippo_legs,
    hippo_legs_input as hippo_legs_input,
    log_step as log_step,
    s4d as s4d,
)
from initjax.initializers.mamba import (
    mamba2_a_log as mamba2_a_log,
    mamba_a_log as mamba_a_log,
    mamba_step_bias as mamba_step_bias,
)
from initjax.initializers.lru import lru_nu_log as lru_nu_log, lru_theta_log as lru_theta_log
from initjax.initializers.coordinates import (
    fourier_features as fourier_features,
    siren as siren,
)
from initjax.initializers.upsampling import bilinear as bilinear, icnr as icnr
from initjax.initializers.rescale import rescale as rescale
from initjax.initializers.layout import Layout as Layout, laid_out as laid_out
from initjax.initializers import other_libraries as other_libraries  # lets them call initializers
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
