"""Orthogonal initializers, of matrices and of convolutions."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from initjax.initializers.base import Structured, centre, register
from initjax.support.errors import UserError


@dataclasses.dataclass(frozen=True, repr=False)
class Orthogonal(Structured):
    """See `orthogonal` and `scaled_orthogonal`."""

    scale: float = 1.0
    column_axis: int = -1
    rescale: bool = False
    dtype: str | None = None
    factory = "orthogonal"

    def build(self, key, shape, dtype):
        if not -len(shape) <= self.column_axis < len(shape):
            raise UserError(f"column_axis={self.column_axis} is not an axis of {shape}.")
        axis = self.column_axis % len(shape)
        others, columns = shape[:axis] + shape[axis + 1 :], shape[axis]
        rows = math.prod(others)
        q = jax.random.orthogonal(key, rows, (), dtype, columns)
        scale = self.scale * max(math.sqrt(columns / rows), 1.0) if self.rescale else self.scale
        return dtype.type(scale) * jnp.moveaxis(q.reshape((*others, columns)), -1, axis)


@register(
    "Q of a normal matrix's QR decomposition, times scale",
    "Saxe et al. 2014, arXiv:1312.6120",
    "deep linear and recurrent layers: all singular values equal",
)
def orthogonal(
    scale: float = 1.0, *, column_axis: int = -1, rescale: bool = False, dtype=None
) -> Orthogonal:
    """Weights with orthonormal rows or columns, whichever are fewer, times `scale`.

    Q of the QR decomposition of a normal matrix, Q <- Q sign(diag R), in float32 and cast last, in
    every float dtype (Saxe, McClelland & Ganguli 2014, arXiv:1312.6120). In float32 bit-equal to
    `jax.nn.initializers.orthogonal`.

    Args:
      scale: what the orthonormal matrix is multiplied by.
      column_axis: the axis of the outputs; all others are flattened.
      rescale: multiply by max(sqrt(out / in), 1) as well, see `scaled_orthogonal`.
      dtype: dtype of the weights where the call names none.

    >>> w = orthogonal()(jax.random.key(0), (8, 8))
    >>> bool(jnp.allclose(w @ w.T, jnp.eye(8), atol=1e-6))
    True
    """
    return Orthogonal(scale, column_axis, rescale, dtype)


@register(
    "orthogonal * max(sqrt(out / in), 1)",
    "Martens et al. 2021, arXiv:2110.01765",
    "networks without normalization whose widths differ",
)
def scaled_orthogonal(scale: float = 1.0, *, column_axis: int = -1, dtype=None) -> Orthogonal:
    """Orthogonal times max(sqrt(out / in), 1), which keeps the size of a unit when widening.

    Martens et al. 2021, Rapid training of deep neural networks without skip connections or
    normalization layers using Deep Kernel Shaping (arXiv:2110.01765).
    """
    return Orthogonal(scale, column_axis, True, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class DeltaOrthogonal(Structured):
    """See `delta_orthogonal`."""

    scale: float = 1.0
    dtype: str | None = None
    factory = "delta_orthogonal"

    def build(self, key, shape, dtype):
        fan_in, fan_out = shape[-2:]
        if fan_in > fan_out:
            raise UserError(
                f"delta_orthogonal needs in <= out; the kernel {shape} has {fan_in} > {fan_out}."
            )
        q = jax.random.orthogonal(key, fan_in, (), dtype, fan_out)
        return centre(shape, dtype.type(self.scale) * q)


@register(
    "orthogonal at the kernel's centre, else 0",
    "Xiao et al. 2018, arXiv:1806.05393",
    "very deep convolutions without normalization",
)
def delta_orthogonal(scale: float = 1.0, *, dtype=None) -> DeltaOrthogonal:
    """A convolution that acts as an orthogonal matrix on every pixel; needs in <= out.

    The orthogonal matrix stands at the centre tap (k - 1) // 2, all other taps are 0 (Xiao et al.
    2018, arXiv:1806.05393). In float32 bit-equal to `jax.nn.initializers.delta_orthogonal`.
    """
    return DeltaOrthogonal(scale, dtype)
