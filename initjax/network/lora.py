"""LoRA and rsLoRA: one factor random, the other 0."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from initjax.network.adapters import AdapterStart, register


@register("lora")
@dataclasses.dataclass(frozen=True)
class LoRA(AdapterStart):
    """A ~ U(+-1/sqrt(in)), B = 0, s = alpha / r (Hu et al. 2021, arXiv:2106.09685).

    The uniform law is that of the source's code, kaiming_uniform(a=sqrt(5)). W0 is unchanged.
    """

    def begin(
        self, key: jax.Array, w: jax.Array, gradient: jax.Array | None, inputs: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        bound = 1 / math.sqrt(w.shape[0])
        a = jax.random.uniform(key, (w.shape[0], self.rank), w.dtype, -bound, bound)
        return a, jnp.zeros((self.rank, w.shape[1]), w.dtype), w


@register("rslora")
@dataclasses.dataclass(frozen=True)
class RsLoRA(LoRA):
    """LoRA with s = alpha / sqrt(r), stable in the rank (Kalajdzievski 2023, arXiv:2312.03732)."""

    @property
    def scale(self) -> float:
        return (self.rank if self.alpha is None else self.alpha) / math.sqrt(self.rank)
