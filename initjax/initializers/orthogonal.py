"""Orthogonal initializers, of matrices and of convolutions."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.initializers.axes import draw_side_by_side
from initjax.initializers.base import Structured, centre, register
from initjax.support.errors import UserError


@dataclasses.dataclass(frozen=True, repr=False)
class Orthogonal(Structured):
    """See `orthogonal`."""

    scale: float = 1.0
    column_axis: int = -1
    rescale: bool = False
    dtype: DTypeLike | None = None
    groups: int = 1
    split: int = 1
    factory: ClassVar[str] = "orthogonal"

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        if not -len(shape) <= self.column_axis < len(shape):
            raise UserError(f"column_axis={self.column_axis} is not an axis of {shape}.")
        axis = self.column_axis % len(shape)
        others, columns = shape[:axis] + shape[axis + 1 :], shape[axis]
        parts = self.groups * self.split
        if parts > 1:
            one = dataclasses.replace(self, column_axis=-1, groups=1, split=1)
            w = draw_side_by_side(
                lambda key, shape: one.build(key, shape, dtype), key, (*others, columns), parts
            )
            return jnp.moveaxis(w, -1, axis)
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
    scale: float = 1.0,
    column_axis: int = -1,
    dtype: DTypeLike | None = None,
    *,
    rescale: bool = False,
    groups: int = 1,
    split: int = 1,
) -> Orthogonal:
    """Weights with orthonormal rows or columns, whichever are fewer, times `scale`.

    Q of the QR decomposition of a normal matrix, Q <- Q sign(diag R), in float32 and cast last, in
    every float dtype (Saxe, McClelland & Ganguli 2014, arXiv:1312.6120). In float32 bit-equal to
    `jax.nn.initializers.orthogonal`.

    Args:
      scale: what the orthonormal matrix is multiplied by.
      column_axis: the axis of the outputs; all others are flattened.
      dtype: dtype of the weights where the call names none.
      rescale: multiply by max(sqrt(out / in), 1) as well, in being all axes but the outputs'; for
        convolutions see `scaled_orthogonal`.
      groups: groups of a convolution, of which each has orthonormal rows or columns of its own.
      split: layers packed side by side along the outputs, likewise.

    >>> w = orthogonal()(jax.random.key(0), (8, 8))
    >>> bool(jnp.allclose(w @ w.T, jnp.eye(8), atol=1e-6))
    True
    """
    return Orthogonal(scale, column_axis, rescale, dtype, groups, split)


@dataclasses.dataclass(frozen=True, repr=False)
class DeltaOrthogonal(Structured):
    """See `delta_orthogonal` and `scaled_orthogonal`."""

    scale: float = 1.0
    column_axis: int = -1
    dtype: DTypeLike | None = None
    rescale: bool = False
    groups: int = 1
    split: int = 1
    factory: ClassVar[str] = "delta_orthogonal"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.column_axis not in (-1, -2):
            raise UserError(f"column_axis={self.column_axis} is neither -1 nor -2.")

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        if any(size % 2 == 0 for size in shape[:-2]) and self.rescale:
            raise UserError(f"scaled_orthogonal needs odd sizes, which have a centre: {shape}.")
        axis, groups, split = self.column_axis, self.groups, self.split
        matrix = Orthogonal(self.scale, axis, self.rescale, groups=groups, split=split)
        return centre(shape, matrix.build(key, shape[-2:], dtype))


@register(
    "orthogonal * max(sqrt(out / in), 1), at a convolution's centre, else 0",
    "Martens et al. 2021, arXiv:2110.01765",
    "networks without normalization whose widths differ",
)
def scaled_orthogonal(
    scale: float = 1.0,
    column_axis: int = -1,
    dtype: DTypeLike | None = None,
    *,
    groups: int = 1,
    split: int = 1,
) -> DeltaOrthogonal:
    """Orthogonal times max(sqrt(out / in), 1), which keeps the size of a unit when widening.

    In and out are the channels. A convolution has it at its centre tap, and 0 at all others, so
    that every pixel is multiplied by one matrix whose singular values are equal; a flattened
    orthogonal kernel would keep norms in the mean only. Any in and out, odd sizes (Martens et al.
    2021, Rapid training of deep neural networks without skip connections or normalization layers
    using Deep Kernel Shaping, arXiv:2110.01765; the default of their package dks).

    Args:
      scale: what the matrix is multiplied by.
      column_axis: the axis of the outputs, -1 or -2.
      dtype: dtype of the weights where the call names none.
      groups: groups of a convolution, as in `orthogonal`; in and out are those of one group.
      split: layers packed side by side along the outputs, likewise.

    Raises:
      UserError (a ValueError): when it is called, an even size, which has no centre.

    >>> w = scaled_orthogonal()(jax.random.key(0), (3, 3, 64, 256))
    >>> s = jnp.linalg.svd(w[1, 1], compute_uv=False)
    >>> round(float(s.min()), 4), round(float(s.max()), 4), int((w != 0).any((2, 3)).sum())
    (2.0, 2.0, 1)
    """
    return DeltaOrthogonal(scale, column_axis, dtype, True, groups, split)


@register(
    "orthogonal at the kernel's centre, else 0",
    "Xiao et al. 2018, arXiv:1806.05393",
    "very deep convolutions without normalization",
)
def delta_orthogonal(
    scale: float = 1.0,
    column_axis: int = -1,
    dtype: DTypeLike | None = None,
    *,
    rescale: bool = False,
    groups: int = 1,
    split: int = 1,
) -> DeltaOrthogonal:
    """A convolution that acts as an orthogonal matrix on every pixel.

    The orthogonal matrix stands at the centre tap (k - 1) // 2, all other taps are 0 (Xiao et al.
    2018, arXiv:1806.05393). In float32 bit-equal to `jax.nn.initializers.delta_orthogonal`, which
    needs in <= out; with more inputs than outputs its columns are orthonormal.

    Args:
      scale: what the matrix is multiplied by.
      column_axis: the axis of the outputs, -1 or -2.
      dtype: dtype of the weights where the call names none.
      rescale: multiply by max(sqrt(out / in), 1) as well: `scaled_orthogonal`.
      groups: groups of a convolution, as in `orthogonal`: 64 of a depthwise one of 64 channels.
      split: layers packed side by side along the outputs, likewise.
    """
    return DeltaOrthogonal(scale, column_axis, dtype, rescale, groups, split)
