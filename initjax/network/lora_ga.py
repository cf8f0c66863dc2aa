"""LoRA-GA: adapters whose first step is the gradient's."""

import dataclasses

import jax
import jax.numpy as jnp

from initjax.network.adapters import AdapterStart, register
from initjax.support.arguments import positive
from initjax.support.errors import UserError


@register("lora_ga")
@dataclasses.dataclass(frozen=True)
class LoRAGA(AdapterStart):
    """From the gradient G^T = U S V^T of a batch: A = columns r to 2r - 1 of V, B = columns 0 to
    r - 1 of U, both times out^(1/4) / gamma^(1/2), and W0 <- W0 - s A B.

    Wang, Yu & Li 2024 (arXiv:2407.05000); G is (in, out) here, G^T the source's.

    Attributes:
      gamma: the smaller, the larger the start.

    Raises:
      UserError (a ValueError): when it is called, no gradients, or a matrix smaller than 2 r.
    """

    gamma: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self.gamma, "gamma")

    def begin(
        self, key: jax.Array, w: jax.Array, gradient: jax.Array | None, inputs: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        if gradient is None:
            raise UserError("lora_ga needs gradients of a batch: gradients=jax.grad(loss)(params).")
        if 2 * self.rank > min(w.shape):
            raise UserError(f"rank={self.rank}: lora_ga needs twice as many inputs and outputs.")
        v, _, ut = jnp.linalg.svd(gradient, full_matrices=False)
        size = w.shape[1] ** 0.25 / self.gamma**0.5
        a, b = size * v[:, self.rank : 2 * self.rank], size * ut[: self.rank]
        return a, b, w - self.scale * (a @ b)
