"""Moments of a layer's pre-activations."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Statistics:
    """A layer's pre-activations z over a batch: rows are samples (and pixels), columns channels.

    Attributes:
      mean: the mean of all values.
      variance: the variance of all values.
      total_variance: the trace of the channels' covariance, the sum of the channels' variances.
      dead_channels: channels that are constant over the batch; no scale gives them a variance.
      num_channels: all channels.
    """

    mean: float
    variance: float
    total_variance: float
    dead_channels: int
    num_channels: int

    @property
    def dead(self) -> bool:
        """Whether every channel is constant."""
        return self.dead_channels == self.num_channels


def rows(z: jax.Array, num_axes: int = 1) -> jax.Array:
    """z as [rows, C] in float32 at least, its last `num_axes` axes being the channels."""
    size = math.prod(z.shape[-num_axes:])
    return z.reshape(-1, size).astype(jnp.promote_types(z.dtype, jnp.float32))


def channel_moments(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(mean, sd, alive), each [C], of z [rows, C]; alive: not constant but for rounding.

    Values are divided by the largest first, so that no square leaves the range of the dtype.
    """
    size = jax.lax.stop_gradient(jnp.abs(z).max())
    size = jnp.where(size > 0, size, 1)
    unit = z / size
    mean, variance = unit.mean(0), unit.var(0)
    positive = variance > 0  # the root has no derivative at 0
    sd = jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), 0)
    epsilon = jnp.finfo(z.dtype).eps
    dead = sd <= 8 * epsilon * jnp.maximum(jnp.abs(mean), epsilon)
    return mean * size, sd * size, ~dead  # what is not finite is not dead


def moments(z: jax.Array) -> dict[str, jax.Array]:
    """The fields of `Statistics`, as arrays."""
    _, sd, alive = channel_moments(z)
    return {
        "mean": z.mean(),
        "variance": z.var(),
        "total_variance": (sd**2).sum(),
        "dead_channels": (~alive).sum(),
        "num_channels": jnp.int32(z.shape[-1]),
    }


def as_statistics(arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, Statistics]:
    """Host arrays of `moments` by path, as `Statistics`."""
    return {path: Statistics(**{k: x.item() for k, x in a.items()}) for path, a in arrays.items()}
