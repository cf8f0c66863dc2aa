"""Initializers without randomness: zeros, ones, any constant."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from initjax.initializers.base import Initializer, register
from initjax.support.arguments import finite
from initjax.support.dtypes import dtype_name
from initjax.support.errors import UserError


@dataclasses.dataclass(frozen=True, repr=False)
class Constant(Initializer):
    """Every weight equals `value`."""

    value: float = 0.0
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", dtype_name(self.dtype))

    def _weights(self, key, shape, dtype, out_sharding):
        dtype = dtype if dtype is not None else self.dtype
        dtype = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
        del key  # nothing is random
        if jnp.issubdtype(dtype, jnp.integer) and self.value != int(self.value):
            raise UserError(f"value={self.value} is no {dtype.name}, which holds whole numbers.")
        return jnp.full(shape, self.value, dtype, out_sharding=out_sharding)


zeros: Constant = Constant(0.0)
ones: Constant = Constant(1.0)


@register(
    "w = 0", "jax.nn.initializers", "biases; the last layer of a residual branch", name="zeros"
)
def zeros_init() -> Constant:
    """`zeros`, for code that calls a factory."""
    return zeros


@register("w = 1", "jax.nn.initializers", "scales of normalization layers", name="ones")
def ones_init() -> Constant:
    """`ones`, for code that calls a factory."""
    return ones


@register("w = value", "jax.nn.initializers", "biases that are not 0")
def constant(value: float = 0.0, dtype: DTypeLike | None = None) -> Constant:
    """Every weight equals `value`.

    Raises:
      UserError (a ValueError): a value that is not finite; called for a dtype of whole numbers, one
        that is not whole.

    >>> constant(0.5)(jax.random.key(0), (2,))
    Array([0.5, 0.5], dtype=float32)
    """
    return Constant(finite(value, "value"), dtype)
