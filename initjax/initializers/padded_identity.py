"""IDInit's identity, repeated where a layer widens."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.initializers.base import Structured, register


@dataclasses.dataclass(frozen=True, repr=False)
class PaddedIdentity(Structured):
    """See `padded_identity`."""

    scale: float = 1.0
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "padded_identity"

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        del key  # nothing is random
        *window, inputs, outputs = shape
        patch = inputs * math.prod(window)
        w = np.arange(patch)[:, None] == np.arange(outputs) % patch
        # An input's positions stand together, as in PyTorch's (out, in, height, width).
        w = np.moveaxis(w.reshape(inputs, *window, outputs), 0, -2)
        return jnp.asarray(w, dtype) * dtype.type(self.scale)


@register(
    "tau where i = j mod inputs, else 0",
    "Pan et al. 2025 (IDInit), arXiv:2503.04626",
    "residual networks that should begin as the identity in all layers, the last of each branch"
    " with scale=1e-6; not without shortcuts",
    "idinit",
)
def padded_identity(scale: float = 1.0, *, dtype: DTypeLike | None = None) -> PaddedIdentity:
    """The identity, again and again until all outputs have an input: full rank where `identity`
    leaves outputs 0.

    Pan, Wang, Wu, Wang, Zhang & Xu 2025, IDInit (arXiv:2503.04626). A convolution is a matrix from
    patches (inputs x positions) to outputs, so that its outputs hold different pixels.

    Args:
      scale: tau, 1; of the last layer of a residual branch 1e-6.
      dtype: dtype of the weights where the call names none.

    Raises:
      UserError (a ValueError): a scale of 0 or less.

    >>> import jax
    >>> padded_identity()(jax.random.key(0), (2, 5))
    Array([[1., 0., 1., 0., 1.],
           [0., 1., 0., 1., 0.]], dtype=float32)
    """
    return PaddedIdentity(scale, dtype)


idinit = padded_identity
