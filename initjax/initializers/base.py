"""What every initializer is: a frozen value, called as init(key, shape, dtype)."""

import abc
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from initjax.distributions.base import Distribution
from initjax.distributions.normal import Normal
from initjax.distributions.truncated_normal import TruncatedNormal
from initjax.distributions.uniform import Uniform
from initjax.initializers.fans import MODES, effective_fan, fans
from initjax.support.arguments import one_of, positive
from initjax.support.dtypes import canonical_dtype, compute_dtype, dtype_name
from initjax.support.errors import UserError


@dataclasses.dataclass(frozen=True, repr=False)
class Initializer:
    """Base of the initializers: `init(key, shape, dtype=None, out_sharding=None)`."""

    factory = ""  # the name under which `repr` shows the value, and `initjax.get` reads it

    def __repr__(self):
        shown = (
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        )
        return f"{self.factory}({', '.join(shown)})"


def reshard(w, out_sharding):
    """`w` laid out as `out_sharding` says; None leaves it."""
    return w if out_sharding is None else jax.sharding.reshard(w, out_sharding)


def check_scale(initializer, name):
    object.__setattr__(initializer, name, positive(getattr(initializer, name), name))


_NAMED_DISTRIBUTIONS = {
    "normal": Normal(),
    "truncated_normal": TruncatedNormal(),
    "uniform": Uniform(),
}


def _distribution(value: Any) -> Distribution:
    """A Distribution, or one of the three names that JAX has for them."""
    if isinstance(value, Distribution):
        return value
    if isinstance(value, str) and value in _NAMED_DISTRIBUTIONS:
        return _NAMED_DISTRIBUTIONS[value]
    raise UserError(
        f"distribution={value!r} is neither an initjax Distribution nor one of"
        f" {', '.join(_NAMED_DISTRIBUTIONS)}."
    )


@dataclasses.dataclass(frozen=True, repr=False)
class Structured(Initializer, abc.ABC):
    """Base: subclasses `build(key, shape, dtype)` in float32 or float64, which is cast last."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.name == "dtype":
                object.__setattr__(self, "dtype", dtype_name(self.dtype))
            elif field.name in ("scale", "stddev"):
                check_scale(self, field.name)

    def __call__(self, key, shape, dtype=None, out_sharding=None):
        shape = tuple(shape)
        dtype = dtype if dtype is not None else self.dtype
        real_dtype = compute_dtype(dtype)
        if len(shape) < 2:
            raise UserError(f"{self.factory} needs at least two axes; the shape is {shape}.")
        if math.prod(shape) == 0:
            w = jnp.zeros(shape, real_dtype)
        else:
            w = self.build(key, shape, real_dtype)
        return reshard(w.astype(canonical_dtype(dtype)), out_sharding)

    @abc.abstractmethod
    def build(self, key, shape, dtype):
        """Weights of float32 or float64, of a shape of at least two axes, none of size 0."""


def centre(shape, matrix):
    """A kernel of `shape` whose centre tap is `matrix` and whose other taps are 0."""
    if len(shape) == 2:
        return matrix
    centre = tuple((size - 1) // 2 for size in shape[:-2])
    return jnp.zeros(shape, matrix.dtype).at[centre].set(matrix)


@dataclasses.dataclass(frozen=True, repr=False)
class FanScaled(Structured):
    """Base: weights (..., in, out) of unit variance from `build_unit`, scaled to scale / fan."""

    scale: float = 2.0
    mode: str = "fan_in"
    dtype: str | None = None

    def __post_init__(self):
        super().__post_init__()
        one_of(self.mode, MODES, "mode")

    def build(self, key, shape, dtype):
        std = math.sqrt(self.scale / effective_fan(self.mode, *fans(shape)))
        return self.build_unit(key, shape, dtype) * dtype.type(std)

    @abc.abstractmethod
    def build_unit(self, key, shape, dtype):
        """Weights of variance 1 over the layer."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One initializer with its defaults.

    Attributes:
      names: under which `initjax.get` knows it.
      formula: what it draws.
      reference: the source, with its year.
      use: when to use it.
    """

    names: tuple[str, ...]
    formula: str
    reference: str
    use: str
