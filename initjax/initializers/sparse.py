"""Few weights a unit, the others 0."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.initializers.base import Structured, register
from initjax.support.arguments import count, finite


@dataclasses.dataclass(frozen=True, repr=False)
class Sparse(Structured):
    """See `sparse`."""

    num_connections: int = 15
    stddev: float = 1.0
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "sparse"

    def __post_init__(self) -> None:
        super().__post_init__()
        count(self.num_connections, "num_connections")

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        fan_in, outputs = math.prod(shape[:-1]), shape[-1]
        key_choice, key_weight = jax.random.split(key)
        # The units with the smallest random numbers are connected.
        order = jnp.argsort(jax.random.uniform(key_choice, (fan_in, outputs)), axis=0)
        ranks = jnp.argsort(order, axis=0)
        w = jax.random.normal(key_weight, (fan_in, outputs), dtype) * dtype.type(self.stddev)
        return jnp.where(ranks < self.num_connections, w, 0).reshape(shape)


@register(
    "15 weights from N(0, stddev^2) a unit, else 0",
    "Martens 2010, Deep learning via Hessian-free optimization",
    "wide layers whose units should differ much",
)
def sparse(
    num_connections: int = 15, *, stddev: float = 1.0, dtype: DTypeLike | None = None
) -> Sparse:
    """Every output unit has `num_connections` incoming weights from N(0, stddev^2); the rest are 0.

    Martens 2010, Deep learning via Hessian-free optimization, where they are 15 and 1. The gain of
    the layer is stddev * sqrt(num_connections), whatever its fan.
    """
    return Sparse(num_connections, finite(stddev, "stddev"), dtype)
