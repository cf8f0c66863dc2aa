"""OLoRA: adapters from a QR decomposition."""

import dataclasses

import jax
import jax.numpy as jnp

from initjax.network.adapters import AdapterStart, register


@register("olora")
@dataclasses.dataclass(frozen=True)
class OLoRA(AdapterStart):
    """W0^T = Q R: B = Q_r^T, A = R_r^T, and W0 <- W0 - s A B (Buyukakyuz 2024, arXiv:2406.01775).

    B has orthonormal rows; transposed, since other libraries' weights are (out, in).
    """

    def begin(
        self, key: jax.Array, w: jax.Array, gradient: jax.Array | None, inputs: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        q, r = jnp.linalg.qr(w.T)
        a, b = r[: self.rank].T, q[:, : self.rank].T
        return a, b, w - self.scale * (a @ b)
