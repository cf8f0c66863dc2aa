"""Layers that begin by passing on what they get: identity, ZerO."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.initializers.base import Structured, centre, register
from initjax.support.arguments import count
from initjax.support.errors import UserError


@dataclasses.dataclass(frozen=True, repr=False)
class Identity(Structured):
    """See `identity`."""

    groups: int = 1
    scale: float = 1.0
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "identity"

    def __post_init__(self) -> None:
        super().__post_init__()
        count(self.groups, "groups")

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        del key  # nothing is random
        inputs, outputs = shape[-2:]  # of one group, of all
        if outputs % self.groups:
            raise UserError(f"groups={self.groups} does not divide the {outputs} outputs.")
        block = np.eye(inputs, outputs // self.groups, dtype=dtype) * dtype.type(self.scale)
        return centre(shape, jnp.asarray(np.tile(block, (1, self.groups))))


@register(
    "(partial) identity at the kernel's centre",
    "Zagoruyko & Komodakis 2017, arXiv:1706.00388",
    "layers that should begin by doing nothing",
    "dirac",
)
def identity(groups: int = 1, *, scale: float = 1.0, dtype: DTypeLike | None = None) -> Identity:
    """The layer that hands its inputs on: a (partial) identity matrix at the centre tap.

    Where a layer has more outputs than inputs the rest are 0; the other way round the last inputs
    are dropped. Also called dirac.

    Args:
      groups: groups of a grouped convolution; its kernel is (..., in / groups, out).
      scale: what the identity is multiplied by.
      dtype: dtype of the weights where the call names none.

    >>> identity()(jax.random.key(0), (2, 3))
    Array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)
    """
    return Identity(groups, scale, dtype)


dirac = identity


@dataclasses.dataclass(frozen=True, repr=False)
class Zero(Structured):
    """See `zero`."""

    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "zero"

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        del key  # nothing is random
        inputs, outputs = shape[-2:]
        if outputs <= inputs:
            return centre(shape, jnp.eye(inputs, outputs, dtype=dtype))
        size = 2 ** math.ceil(math.log2(outputs))
        # H[i, j] = (-1)^(ones in the binary number i & j): the corner alone is made.
        common = jnp.arange(inputs)[:, None] & jnp.arange(outputs)
        sign = 1 - 2 * (jax.lax.population_count(common) & 1)
        return centre(shape, sign.astype(dtype) * dtype.type(1 / math.sqrt(size)))


@register(
    "identity, or Hadamard / sqrt(2^m) where a layer widens",
    "Zhao et al. 2022 (ZerO), arXiv:2110.12661",
    "a deterministic start; needs residual connections",
)
def zero(*, dtype: DTypeLike | None = None) -> Zero:
    """ZerO: nothing but zeros and ones, up to a normalization; deterministic.

    The partial identity where out <= in, else a corner of the Hadamard matrix H / sqrt(2^m),
    2^m >= out, which breaks the symmetry that an identity would leave; at the centre tap (Zhao,
    Schaefer & Anandkumar 2022, arXiv:2110.12661). Normalized as in the authors' program; their
    text's constant is larger by sqrt(2).
    """
    return Zero(dtype)
