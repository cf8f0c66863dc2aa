"""The spectral condition and the parametrizations of infinite width."""

import dataclasses
import math
from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.distributions.normal import Normal
from initjax.initializers.axes import (
    FanArguments,
    FanFields,
    GroupArguments,
    GroupFields,
    draw_side_by_side,
)
from initjax.initializers.base import Structured, own_fans, register
from initjax.initializers.scaled import Scaled


@dataclasses.dataclass(frozen=True, repr=False)
class Spectral(GroupFields, Structured):
    """See `spectral`."""

    scale: float = 1.0
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "spectral"

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        def draw(key, shape):
            inputs, outputs = math.prod(shape[:-1]), shape[-1]
            w = jax.random.normal(key, shape, dtype)
            # All singular values: a power iteration stops too early where two lie close together.
            norm = jnp.linalg.svd(w.reshape(inputs, outputs), compute_uv=False)[0]
            return w * (dtype.type(self.scale * math.sqrt(outputs / inputs)) / norm)

        return draw_side_by_side(draw, key, shape, self.groups * self.split)


@register(
    "z sqrt(out / in) / ||z||, z ~ N(0, 1)",
    "Yang et al. 2023, arXiv:2310.17813",
    "feature learning at every width: the spectral norm is exact",
)
def spectral(
    scale: float = 1.0, *, dtype: DTypeLike | None = None, **axes: Unpack[GroupArguments]
) -> Spectral:
    """Normal weights of spectral norm `scale` sqrt(out / in), exactly.

    The spectral condition for feature learning at every width (Yang, Simon & Bernstein 2023,
    arXiv:2310.17813): so does a layer make outputs of size 1 of inputs of size 1. A convolution
    counts as the matrix of its patches, (positions * in, out). Not for embeddings.

    Args:
      scale: what the norm is multiplied by.
      dtype: dtype of the weights where the call names none.
      **axes: in_axis, out_axis, batch_axis, groups and split, as in `initjax.fans`; each group has
        the norm of its own inputs and outputs.

    >>> w = spectral()(jax.random.key(0), (64, 16))
    >>> round(float(jnp.linalg.norm(w, 2)), 4)
    0.5
    """
    return Spectral(scale, dtype, **axes)


@dataclasses.dataclass(frozen=True, repr=False)
class SpectralNormal(FanFields, Structured):
    """See `spectral_normal`."""

    scale: float = 1.0
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "spectral_normal"

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        inputs, outputs = math.prod(shape[:-1]), shape[-1] / (self.groups * self.split)
        fan_in, _ = own_fans(self, shape)
        stddev = self.scale * min(1.0, math.sqrt(outputs / inputs)) / math.sqrt(fan_in)
        return jax.random.normal(key, shape, dtype) * dtype.type(stddev)


@register(
    "N(0, min(1, out / in) / in)",
    "Yang et al. 2023, arXiv:2310.17813",
    "feature learning at every width, from independent weights",
)
def spectral_normal(
    scale: float = 1.0, *, dtype: DTypeLike | None = None, **fan: Unpack[FanArguments]
) -> SpectralNormal:
    """w ~ N(0, s^2), s = `scale` min(1, sqrt(out / in)) / sqrt(in).

    The spectral norm is then about s (sqrt(in) + sqrt(out)): that of the spectral condition up to a
    factor that no width changes (Yang, Simon & Bernstein 2023, arXiv:2310.17813, section 3).

    Args:
      scale: what the weights are multiplied by.
      dtype: dtype of the weights where the call names none.
      **fan: in_axis, out_axis, batch_axis, groups, transposed, split, as in `initjax.fans`.
    """
    return SpectralNormal(scale, dtype, **fan)


@dataclasses.dataclass(frozen=True, repr=False)
class SpectralOrthogonal(GroupFields, Structured):
    """See `spectral_orthogonal`."""

    scale: float = 1.0
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "spectral_orthogonal"

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        def draw(key, shape):
            inputs, outputs = math.prod(shape[:-1]), shape[-1]
            q = jax.random.orthogonal(key, inputs, (), dtype, outputs)
            return q.reshape(shape) * dtype.type(self.scale * math.sqrt(outputs / inputs))

        return draw_side_by_side(draw, key, shape, self.groups * self.split)


@register(
    "orthogonal * sqrt(out / in)",
    "Yang et al. 2023, arXiv:2310.17813",
    "as spectral, exactly: all singular values are sqrt(out / in)",
)
def spectral_orthogonal(
    scale: float = 1.0, *, dtype: DTypeLike | None = None, **axes: Unpack[GroupArguments]
) -> SpectralOrthogonal:
    """Orthonormal rows or columns times sqrt(out / in), which is then the spectral norm.

    Yang, Simon & Bernstein 2023 (arXiv:2310.17813). `scaled_orthogonal`'s factor is never below 1.

    Args:
      scale: what the weights are multiplied by.
      dtype: dtype of the weights where the call names none.
      **axes: in_axis, out_axis, batch_axis, groups and split, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): a scale of 0 or less.
    """
    return SpectralOrthogonal(scale, dtype, **axes)


@register(
    "N(0, 1); the layer multiplies by 1 / sqrt(fan_in)",
    "Jacot, Gabriel & Hongler 2018, arXiv:1806.07572; Blake et al. 2023, arXiv:2303.11257",
    "the NTK parametrization and unit scaling, whose layers bring the multiplier; not in Flax's own"
    " layers, which do not",
    "unit_scaling",
)
def ntk(*, dtype: DTypeLike | None = None) -> Scaled:
    """w ~ N(0, 1), for layers that compute W x / sqrt(fan_in).

    The gradient then has another scale than with 1 / fan_in in the variance (Jacot, Gabriel &
    Hongler 2018, arXiv:1806.07572). Unit scaling starts alike and gives each activation
    `initjax.unit_scaling_gain` (Blake, Orr & Luschi 2023, arXiv:2303.11257).
    """
    return Scaled(1.0, Normal(), dtype)


unit_scaling = ntk
