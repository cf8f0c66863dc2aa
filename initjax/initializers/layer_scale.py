"""The gains of LayerScale."""

from jax.typing import DTypeLike

from initjax.initializers.base import register
from initjax.initializers.constant import Constant
from initjax.support.arguments import count


@register(
    "w = .1 to depth 18, 1e-5 to 24, 1e-6 beyond",
    "Touvron et al. 2021, arXiv:2103.17239",
    "the gain of each channel of a residual branch of a vision transformer; num_layers=depth; not"
    " where another rule scales the branch already",
    example="layer_scale(num_layers=12)",
)
def layer_scale(num_layers: int, *, dtype: DTypeLike | None = None) -> Constant:
    """The gain that multiplies each channel of a residual branch: x + gain * f(x).

    .1 up to 18 layers, 1e-5 up to 24, 1e-6 beyond (Touvron, Cord, Sablayrolles, Synnaeve & Jegou
    2021, Going deeper with image transformers, arXiv:2103.17239).

    Args:
      num_layers: the depth of the network, in blocks.
      dtype: dtype of the gains where the call names none.

    Raises:
      UserError (a ValueError): no number of layers, or one below 1.

    >>> layer_scale(24)
    constant(value=1e-05)
    """
    depth = count(num_layers, "num_layers")
    return Constant(0.1 if depth <= 18 else 1e-5 if depth <= 24 else 1e-6, dtype)
