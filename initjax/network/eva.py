"""EVA: adapters that see the directions in which inputs vary most."""

import dataclasses

import jax
import jax.numpy as jnp

from initjax.network.adapters import AdapterStart, check_inputs, register


@register("eva")
@dataclasses.dataclass(frozen=True)
class EVA(AdapterStart):
    """A = V_r of the layer's inputs X = U S V^T, B = 0 (Paischer et al. 2024, arXiv:2410.07170).

    X A keeps as much of ||X||^2 as r directions can, the sum of the r largest S^2, and W0 is
    unchanged. Each layer has rank r, which is the source's rho = 1.

    Raises:
      UserError (a ValueError): when it is called, no inputs, or fewer samples than r.
    """

    def begin(
        self, key: jax.Array, w: jax.Array, gradient: jax.Array | None, inputs: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = check_inputs("eva", inputs, w, self.rank)
        vt = jnp.linalg.svd(x, full_matrices=False)[2]
        return vt[: self.rank].T, jnp.zeros((self.rank, w.shape[1]), w.dtype), w
