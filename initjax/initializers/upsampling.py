"""Layers that make images larger: bilinear kernels, ICNR."""

import dataclasses
import functools
from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.initializers.axes import FanArguments
from initjax.initializers.base import FanScaled, Structured, register
from initjax.support.arguments import count, one_of
from initjax.support.errors import UserError


@dataclasses.dataclass(frozen=True, repr=False)
class Bilinear(Structured):
    """See `bilinear`."""

    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "bilinear"

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        del key  # nothing is random
        *window, inputs, outputs = shape
        rows = (_triangle(size) for size in window)
        kernel = functools.reduce(np.multiply.outer, rows, 1.0)
        channels = np.ones((1, outputs)) if inputs == 1 else np.eye(inputs, outputs)
        return jnp.asarray(np.multiply.outer(kernel, channels), dtype)


def _triangle(size: int) -> np.ndarray:
    """Linear interpolation by (size + 1) // 2: .25 .75 .75 .25 of size 4."""
    factor = (size + 1) // 2
    return 1 - np.abs(np.arange(size) - (size - 1) / 2) / factor


@register(
    "1 - |distance to the centre| / factor, each channel by itself",
    "Long, Shelhamer & Darrell 2015, arXiv:1411.4038",
    "transposed convolutions with a kernel of 2 s - s % 2 and stride s, which then interpolate",
)
def bilinear(*, dtype: DTypeLike | None = None) -> Bilinear:
    """A transposed convolution that interpolates linearly along every axis of the image.

    A kernel of size k enlarges (k + 1) // 2 times, which must be the stride: k = 4 for 2, with
    .25 .75 .75 .25 along each axis. Each input goes to the output of its number; a kernel with one
    input (depthwise) has it for every output (Long, Shelhamer & Darrell 2015, arXiv:1411.4038).
    """
    return Bilinear(dtype)


_ORDERS = ("depth_to_space", "pixel_shuffle")


@dataclasses.dataclass(frozen=True, repr=False)
class ICNR(FanScaled):
    """See `icnr`."""

    upscale: int = 2
    order: str = "depth_to_space"
    factory: ClassVar[str] = "icnr"

    def __post_init__(self) -> None:
        super().__post_init__()
        count(self.upscale, "upscale")
        one_of(self.order, _ORDERS, "order")

    def build_unit(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        copies = self.upscale ** max(len(shape) - 2, 1)
        if shape[-1] % copies:
            raise UserError(f"upscale={self.upscale} needs {copies} n outputs; {shape} has not.")
        w = jax.random.normal(key, (*shape[:-1], shape[-1] // copies), dtype)
        if self.order == "pixel_shuffle":
            return jnp.repeat(w, copies, -1)
        return jnp.tile(w, copies)


@register(
    "s^2 copies of each kernel, Var = scale / fan_in",
    "Aitken et al. 2017 (ICNR), arXiv:1707.02937",
    "the convolution before a pixel shuffle, which then begins without a checkerboard",
)
def icnr(
    upscale: int = 2,
    *,
    order: str = "depth_to_space",
    scale: float = 2.0,
    mode: str = "fan_in",
    dtype: DTypeLike | None = None,
    **fan: Unpack[FanArguments],
) -> ICNR:
    """Normal kernels, the same for all s^2 channels of which a pixel shuffle makes one: s x s equal
    pixels, as if the image were enlarged by its nearest pixels.

    Aitken et al. 2017, Checkerboard artifact free sub-pixel convolution (arXiv:1707.02937). An
    image of n axes has s^n copies; a dense layer s.

    Args:
      upscale: s.
      order: where the copies of a channel are: "depth_to_space", as in TensorFlow and
        `reshape(..., s, s, channels)`, the channels' number runs fastest; "pixel_shuffle", as in
        PyTorch, the copies'.
      scale: variance times n.
      mode: which n: "fan_in", "fan_out", "fan_avg", "fan_geo_avg".
      dtype: dtype of the weights where the call names none.
      **fan: in_axis, out_axis, batch_axis, groups, transposed, split, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): an argument out of its range; outputs that s^2 does not divide, when
        it is called.
    """
    return ICNR(scale, mode, dtype, upscale, order, **fan)
