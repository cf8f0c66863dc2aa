"""PiSSA: adapters that begin with the largest singular values."""

import dataclasses

import jax
import jax.numpy as jnp

from initjax.network.adapters import AdapterStart, register


@register("pissa")
@dataclasses.dataclass(frozen=True)
class PiSSA(AdapterStart):
    """W0 = U S V^T: A = U_r (S_r / s)^(1/2), B = (S_r / s)^(1/2) V_r^T, and W0 <- W0 - s A B.

    What stays frozen has the norm of the next singular value, sigma_(r+1) (Meng, Wang & Zhang 2024,
    arXiv:2404.02948).
    """

    def begin(
        self, key: jax.Array, w: jax.Array, gradient: jax.Array | None, inputs: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        u, s, vt = jnp.linalg.svd(w, full_matrices=False)
        root = jnp.sqrt(s[: self.rank] / self.scale)
        a, b = u[:, : self.rank] * root, root[:, None] * vt[: self.rank]
        return a, b, w - self.scale * (a @ b)
