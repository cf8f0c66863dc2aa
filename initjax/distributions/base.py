"""Unit-free laws of a weight: each can be sampled and evaluated.

A `Distribution` is a frozen dataclass of its shape parameters, so it is hashable, picklable and
equal to another with the same parameters. Its scale is fixed by its definition; an initializer
multiplies it by what a layer's fans ask for. Samples are drawn in float32 (float64 where float64 is
asked for) and cast last: drawing random bits in bfloat16 gives 128 distinct values and a bias.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from initjax.support.dtypes import compute_dtype
from initjax.support.types import Sharding


@dataclasses.dataclass(frozen=True)
class Distribution(abc.ABC):
    """A law of a real random variable.

    Subclasses define `std`, `kurtosis` (of the law, E[(w - E w)^4] / Var^2: 3 for a normal law),
    `log_prob`, `cdf`, `icdf` and `draw`.
    """

    # Arguments for which the law is tested.
    examples: ClassVar[tuple[tuple[float, ...], ...]] = ((),)

    @property
    def mean(self) -> float:
        """E[w]."""
        return 0.0

    @property
    @abc.abstractmethod
    def std(self) -> float:
        """Standard deviation."""

    @property
    def rms(self) -> float:
        """Root of E[w^2], which differs from `std` where the mean is not 0."""
        return math.hypot(self.std, self.mean)

    @property
    @abc.abstractmethod
    def kurtosis(self) -> float:
        """Fourth central moment over the squared variance; 3 for a normal law."""

    @abc.abstractmethod
    def log_prob(self, x: ArrayLike) -> jax.Array:
        """Natural logarithm of the density at `x`; -inf outside the support."""

    @abc.abstractmethod
    def cdf(self, x: ArrayLike) -> jax.Array:
        """P(w <= x)."""

    @abc.abstractmethod
    def icdf(self, p: ArrayLike) -> Any:
        """The quantile: the x with cdf(x) = p, for p in [0, 1]."""

    @abc.abstractmethod
    def draw(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding
    ) -> jax.Array:
        """Samples of the real dtype float32 or float64."""

    def draw_complex(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding
    ) -> jax.Array:
        """Complex samples with E|w|^2 = std^2: independent parts, each over sqrt(2)."""
        key_real, key_imag = jax.random.split(key)
        real = self.draw(key_real, shape, dtype, out_sharding)
        imag = self.draw(key_imag, shape, dtype, out_sharding)
        return jax.lax.complex(real, imag) * np.sqrt(dtype.type(0.5))

    def sample(
        self,
        key: jax.Array,
        shape: Sequence[int] = (),
        dtype: DTypeLike | None = None,
        out_sharding: Sharding = None,
    ) -> jax.Array:
        """Independent samples.

        Args:
          key: a PRNG key, typed or legacy.
          shape: the shape of the result.
          dtype: a float or complex dtype; default: JAX's default float dtype. The draw itself is in
            float32 (float64 for float64) and is cast last.
          out_sharding: as in `jax.random.normal`.

        Returns:
          An array of `shape` and `dtype`.
        """
        return self.sample_scaled(key, shape, dtype, 1.0, out_sharding)

    def sample_scaled(
        self,
        key: jax.Array,
        shape: Sequence[int],
        dtype: DTypeLike | None,
        multiplier: Any,
        out_sharding: Sharding = None,
    ) -> jax.Array:
        """`multiplier` times `sample(...)`, cast last."""
        real_dtype = compute_dtype(dtype)
        dtype = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
        multiplier = real_dtype.type(multiplier)
        is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
        shape = tuple(shape)
        if is_complex:
            w = _draw_scaled(self.draw_complex, key, shape, real_dtype, multiplier, out_sharding)
        else:
            w = self.draw_scaled(key, shape, real_dtype, multiplier, out_sharding)
        return w.astype(dtype)

    def draw_scaled(
        self,
        key: jax.Array,
        shape: tuple[int, ...],
        dtype: np.dtype,
        multiplier: Any,
        out_sharding: Sharding,
    ) -> jax.Array:
        """`multiplier` times `draw(...)`, as one compiled program."""
        return _draw_scaled(self.draw, key, shape, dtype, multiplier, out_sharding)

    def multiplier(self, variance: np.floating) -> np.floating:
        """What a sample is multiplied by for E[w^2] = `variance`, in the dtype of `variance`."""
        return np.sqrt(variance) / variance.dtype.type(self.rms)


@functools.partial(jax.jit, static_argnums=(0, 2, 3, 5))
def _draw_scaled(draw, key, shape, dtype, multiplier, out_sharding):
    return draw(key, shape, dtype, out_sharding) * multiplier


def random_sign_and_probability(
    key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding
) -> tuple[jax.Array, jax.Array]:
    """(a fair bool, v uniform in (0, 1]) of one random word each: what a symmetric law needs.

    The low bit is the sign; the high bits are v = (n + 1/2) 2^-digits, never 0.
    """
    digits = 24 if dtype == np.float32 else 53
    word = np.uint32 if dtype == np.float32 else np.uint64
    bits = jax.random.bits(key, shape, word, out_sharding=out_sharding)
    shift = word(8 * word().itemsize - digits)
    v = ((bits >> shift).astype(dtype) + dtype.type(0.5)) * dtype.type(2.0**-digits)
    return (bits & word(1)).astype(bool), v


def polar(
    modulus: jax.Array,
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: np.dtype,
    out_sharding: Sharding,
) -> jax.Array:
    """modulus * exp(i angle) with uniform angles."""
    angle = jax.random.uniform(key, shape, dtype, 0, 2 * math.pi, out_sharding=out_sharding)
    return jax.lax.complex(modulus * jnp.cos(angle), modulus * jnp.sin(angle))
