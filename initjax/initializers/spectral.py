"""The spectral condition and the parametrizations of infinite width."""

import dataclasses
import math

import jax

from initjax.distributions.normal import Normal
from initjax.initializers.base import Structured, register
from initjax.initializers.fans import fans
from initjax.initializers.scaled import Scaled

_SOURCE = "Yang, Simon & Bernstein 2023, arXiv:2310.17813"


def spectral_norm_of(shape) -> float:
    """The spectral norm that features of size 1 in, size 1 out ask for: sqrt(out / in)."""
    return math.sqrt(shape[-1] / fans(shape)[0])


@dataclasses.dataclass(frozen=True, repr=False)
class Spectral(Structured):
    """See `spectral`."""

    scale: float = 1.0
    dtype: str | None = None
    factory = "spectral"

    def build(self, key, shape, dtype):
        stddev = self.scale * min(1.0, spectral_norm_of(shape)) / math.sqrt(fans(shape)[0])
        return jax.random.normal(key, shape, dtype) * dtype.type(stddev)


@register(
    "N(0, s^2), s = min(1, sqrt(out / in)) / sqrt(in)",
    _SOURCE,
    "networks whose width will grow; logits then begin small: out / in of LeCun's variance",
)
def spectral(scale: float = 1.0, *, dtype=None) -> Spectral:
    """Normal weights whose spectral norm is of the order of sqrt(out / in), whatever the width.

    It is s (sqrt(in) + sqrt(out)) in wide layers (Yang, Simon & Bernstein 2023, A spectral
    condition for feature learning, arXiv:2310.17813). A kernel's inputs are of all positions.

    Args:
      scale: what the weights are multiplied by.
      dtype: dtype of the weights where the call names none.

    Raises:
      UserError (a ValueError): a scale of 0 or less.
    """
    return Spectral(scale, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class SpectralOrthogonal(Structured):
    """See `spectral_orthogonal`."""

    scale: float = 1.0
    dtype: str | None = None
    factory = "spectral_orthogonal"

    def build(self, key, shape, dtype):
        q = jax.random.orthogonal(key, math.prod(shape[:-1]), (), dtype, shape[-1])
        return q.reshape(shape) * dtype.type(self.scale * spectral_norm_of(shape))


@register(
    "orthogonal * sqrt(out / in)",
    _SOURCE,
    "as spectral, exactly: all singular values are sqrt(out / in)",
)
def spectral_orthogonal(scale: float = 1.0, *, dtype=None) -> SpectralOrthogonal:
    """Orthonormal rows or columns times sqrt(out / in), which is then the spectral norm.

    Yang, Simon & Bernstein 2023 (arXiv:2310.17813). `scaled_orthogonal`'s factor is never below 1.

    Args:
      scale: what the weights are multiplied by.
      dtype: dtype of the weights where the call names none.

    Raises:
      UserError (a ValueError): a scale of 0 or less.
    """
    return SpectralOrthogonal(scale, dtype)


@register(
    "N(0, 1); the layer multiplies by 1 / sqrt(fan_in)",
    "Jacot, Gabriel & Hongler 2018, arXiv:1806.07572; Blake et al. 2023, arXiv:2303.11257",
    "the NTK parametrization and unit scaling, whose layers bring the multiplier; not in Flax's own"
    " layers, which do not",
    "unit_scaling",
)
def ntk(*, dtype=None) -> Scaled:
    """w ~ N(0, 1), for layers that compute W x / sqrt(fan_in).

    The gradient then has another scale than with 1 / fan_in in the variance (Jacot, Gabriel &
    Hongler 2018, arXiv:1806.07572). Unit scaling starts alike and gives each activation
    `initjax.unit_scaling_gain` (Blake, Orr & Luschi 2023, arXiv:2303.11257).
    """
    return Scaled(1.0, Normal(), dtype)


unit_scaling = ntk
