"""CorDA: adapters from what a layer does to the inputs that it gets."""

import dataclasses

import jax
import jax.numpy as jnp

from initjax.network.adapters import AdapterStart, check_inputs, register
from initjax.support.arguments import one_of, positive

_MODES = ("knowledge_preserved", "instruction_previewed")


@register("corda")
@dataclasses.dataclass(frozen=True)
class CorDA(AdapterStart):
    """From C W0 = V S U^T, C = X^T X / n of the layer's inputs: A = C^-1 V_r (S_r / s)^(1/2),
    B = (S_r / s)^(1/2) U_r^T, and W0 <- W0 - s A B.

    Of the two modes "knowledge_preserved" takes the r smallest S, so that what the network does on
    these inputs stays frozen, and "instruction_previewed" the r largest, so that it is what is
    trained (Yang et al. 2024, CorDA, arXiv:2406.05223). As in the source's code a hundredth of C's
    mean variance is added to its diagonal, which else may have no inverse.

    Attributes:
      mode: see above.
      damping: that hundredth.

    Raises:
      UserError (a ValueError): an unknown mode, a damping of 0 or less; when it is called, no
        inputs.
    """

    mode: str = "knowledge_preserved"
    damping: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.mode, _MODES, "mode")
        positive(self.damping, "damping")

    def begin(
        self, key: jax.Array, w: jax.Array, gradient: jax.Array | None, inputs: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = check_inputs("corda", inputs, w, 1)
        c = x.T @ x / len(x)
        c += self.damping * jnp.trace(c) / len(c) * jnp.eye(len(c), dtype=c.dtype)
        v, s, ut = jnp.linalg.svd(c @ w, full_matrices=False)
        least = self.mode == "knowledge_preserved"
        chosen = slice(-self.rank, None) if least else slice(self.rank)
        root = jnp.sqrt(s[chosen] / self.scale)
        a, b = jnp.linalg.solve(c, v[:, chosen]) * root, root[:, None] * ut[chosen]
        return a, b, w - self.scale * (a @ b)
