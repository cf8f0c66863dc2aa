"""Heavy tails from unequal scales of positions and channels."""

import dataclasses
from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.initializers.axes import FanArguments
from initjax.initializers.base import FanScaled, register
from initjax.initializers.pli import relative_radius
from initjax.support.arguments import finite, not_negative


@dataclasses.dataclass(frozen=True, repr=False)
class ScaleMixture(FanScaled):
    """See `scale_mixture`."""

    position_spread: float = 0.5
    channel_spread: float = 0.5
    radial: float = 0.0
    factory: ClassVar[str] = "scale_mixture"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "radial", finite(self.radial, "radial"))
        for name in ("position_spread", "channel_spread"):
            object.__setattr__(self, name, not_negative(getattr(self, name), name))

    def build_unit(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        key_position, key_channel, key_draw = jax.random.split(key, 3)
        log_position = -self.radial * jnp.asarray(relative_radius(shape[:-2]), dtype)
        noise = jax.random.normal(key_position, shape[:-2], dtype)
        log_position = log_position + self.position_spread * noise
        log_channel = self.channel_spread * jax.random.normal(key_channel, shape[-1:], dtype)
        w = jax.random.normal(key_draw, shape, dtype)
        return w * _unit_power(log_position)[..., None, None] * _unit_power(log_channel)


def _unit_power(log_scale):
    """exp(log_scale), divided so that its mean square is exactly 1."""
    scale = jnp.exp(log_scale - jnp.max(log_scale))
    return scale / jnp.sqrt(jnp.mean(jnp.square(scale)))


@register(
    "position scale * channel scale * N(0, 1), Var = scale / fan_in",
    "initjax",
    "heavy tails of the kind that trained layers have: from unequal scales",
)
def scale_mixture(
    position_spread: float = 0.5,
    channel_spread: float = 0.5,
    *,
    radial: float = 0.0,
    scale: float = 2.0,
    mode: str = "fan_in",
    dtype: DTypeLike | None = None,
    **fan: Unpack[FanArguments],
) -> ScaleMixture:
    """w = scale of the position * scale of the output channel * a normal draw.

    In trained networks much of a layer's heavy tail is a mixture of positions and channels of
    different scales: dividing these out takes the kurtosis of depthwise kernels from 12-22 to
    2.5-3.1. The scales are log-normal and their mean squares over the layer are exactly 1, so that
    the weights' variance is scale / n. Ours; no source.

    Args:
      position_spread: standard deviation of the log scale of the kernel positions.
      channel_spread: standard deviation of the log scale of the output channels.
      radial: how much the log scale falls from a kernel's centre to its corners.
      scale: variance times n.
      mode: which n: "fan_in", "fan_out", "fan_avg", "fan_geo_avg".
      dtype: dtype of the weights where the call names none.
      **fan: in_axis, out_axis, batch_axis, groups, transposed, split, as in `initjax.fans`.
    """
    return ScaleMixture(scale, mode, dtype, position_spread, channel_spread, radial, **fan)
