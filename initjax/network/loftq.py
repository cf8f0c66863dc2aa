"""LoftQ: adapters that begin with what quantization loses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from initjax.network.adapters import AdapterStart, register
from initjax.support.arguments import count, one_of
from initjax.support.errors import UserError

_LEVELS = ("normal_float", "uniform")


def quantization_levels(bits: int = 4, levels: str = "normal_float") -> np.ndarray:
    """The 2^bits values in [-1, 1] to which weights are rounded.

    "normal_float" are quantiles of a normal law, 0 among them (NF4 of Dettmers et al. 2023, QLoRA,
    arXiv:2305.14314), "uniform" lie apart by 2 / (2^bits - 1).

    Raises:
      UserError (a ValueError): unknown levels, bits other than 2 to 8.

    >>> quantization_levels()[[0, 7, 8, 15]].round(4).tolist()
    [-1.0, 0.0, 0.0796, 1.0]
    """
    number = 2 ** count(bits, "bits", 2)
    if bits > 8:
        raise UserError(f"bits={bits} must be at most 8.")
    if one_of(levels, _LEVELS, "levels") == "uniform":
        return np.linspace(-1, 1, number)
    last = 1 - (1 / (number - 1) + 1 / number) / 4
    from scipy import special  # here, so that importing initjax does not

    above = special.ndtri(np.linspace(last, 0.5, number // 2 + 1)[:-1])
    below = -special.ndtri(np.linspace(last, 0.5, number // 2)[:-1])
    found = np.sort(np.concatenate([above, [0.0], below]))
    return found / found.max()


def quantize(w: jax.Array, levels: np.ndarray, block_size: int = 64) -> jax.Array:
    """`w`, rounded to levels times the largest |w| of each block of that many weights."""
    padding = -w.size % block_size
    blocks = jnp.pad(w.reshape(-1), (0, padding)).reshape(-1, block_size)
    largest = jnp.abs(blocks).max(1, keepdims=True)
    middles = jnp.asarray((levels[1:] + levels[:-1]) / 2, w.dtype)
    at = jnp.searchsorted(middles, blocks / jnp.where(largest > 0, largest, 1))
    rounded = jnp.asarray(levels, w.dtype)[at] * largest
    return rounded.reshape(-1)[: w.size].reshape(w.shape)


@register("loftq")
@dataclasses.dataclass(frozen=True)
class LoftQ(AdapterStart):
    """W0 ~ Q + s A B, by turns Q = quantized(W0 - s A B) and A B from the r largest singular values
    of W0 - Q, shared as in PiSSA. Q is frozen, in place of W0.

    Li et al. 2023 (arXiv:2310.08659). Alone of the methods, the network does not begin as it was:
    it begins nearer to it than with Q = quantized(W0) and B = 0. Q's values are kept in the tree's
    dtype; the blocks that share a scale run along the inputs of an output.

    Attributes:
      bits: of a weight, 2 to 8.
      levels: "normal_float" (NF4 of 4 bits) or "uniform".
      block_size: weights that share a scale.
      iterations: turns.

    Raises:
      UserError (a ValueError): an argument out of its range.
    """

    bits: int = 4
    levels: str = "normal_float"
    block_size: int = 64
    iterations: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        quantization_levels(self.bits, self.levels)
        for name in ("block_size", "iterations"):
            count(getattr(self, name), name)

    def begin(
        self, key: jax.Array, w: jax.Array, gradient: jax.Array | None, inputs: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        levels = quantization_levels(self.bits, self.levels)
        a, b = jnp.zeros((w.shape[0], self.rank)), jnp.zeros((self.rank, w.shape[1]))
        kept = w
        for _ in range(self.iterations):
            kept = quantize((w - self.scale * (a @ b)).T, levels, self.block_size).T
            u, s, vt = jnp.linalg.svd(w - kept, full_matrices=False)
            root = jnp.sqrt(s[: self.rank] / self.scale)
            a, b = u[:, : self.rank] * root, root[:, None] * vt[: self.rank]
        return a, b, kept
