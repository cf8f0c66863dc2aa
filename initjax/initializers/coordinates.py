"""Networks of coordinates: SIREN, Fourier features."""

import dataclasses
import math
from typing import ClassVar, Unpack

import jax
import numpy as np
from jax.typing import DTypeLike

from initjax.distributions.normal import Normal
from initjax.initializers.axes import FanArguments, FanFields
from initjax.initializers.base import Structured, own_fans, register
from initjax.initializers.scaled import Scaled
from initjax.support.arguments import positive


@dataclasses.dataclass(frozen=True, repr=False)
class Siren(FanFields, Structured):
    """See `siren`."""

    first: bool = False
    frequency: float = 30.0
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "siren"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "frequency", positive(self.frequency, "frequency"))

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        fan_in, _ = own_fans(self, shape)
        bound = 1 / fan_in if self.first else math.sqrt(6 / fan_in) / self.frequency
        return jax.random.uniform(key, shape, dtype, -bound, bound)


@register(
    "U(-b, b), b = sqrt(6 / fan_in) / w0; of the first layer 1 / fan_in",
    "Sitzmann et al. 2020 (SIREN), arXiv:2006.09661",
    "networks of coordinates with layers sin(w0 (W x + b)); of no use with other activations",
)
def siren(
    *,
    first: bool = False,
    frequency: float = 30.0,
    dtype: DTypeLike | None = None,
    **fan: Unpack[FanArguments],
) -> Siren:
    """Uniform weights by which w0 (W x) has variance 1 where x = sin(...) of the layer before.

    The first layer, whose inputs are coordinates in [-1, 1], has b = 1 / fan_in, so that it spans
    w0 periods (Sitzmann, Martel, Bergman, Lindell & Wetzstein 2020, arXiv:2006.09661).

    Args:
      first: whether the layer takes the coordinates.
      frequency: w0, which multiplies the pre-activations.
      dtype: dtype of the weights where the call names none.
      **fan: in_axis, out_axis, batch_axis, groups, transposed, split, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): a frequency of 0 or less.
    """
    return Siren(first, frequency, dtype, **fan)


@register(
    "N(0, stddev^2), B of cos(2 pi B x), sin(2 pi B x)",
    "Tancik et al. 2020, arXiv:2006.10739",
    "the fixed first layer of a network of coordinates; stddev is its bandwidth, to be tuned",
)
def fourier_features(stddev: float = 10.0, *, dtype: DTypeLike | None = None) -> Scaled:
    """B ~ N(0, stddev^2), for the features cos(2 pi B x) and sin(2 pi B x), which are not trained.

    Their inner product is the kernel E cos(2 pi B (x - y)) = exp(-2 pi^2 stddev^2 |x - y|^2)
    (Rahimi & Recht 2007; Tancik et al. 2020, arXiv:2006.10739).

    Raises:
      UserError (a ValueError): a standard deviation of 0 or less.
    """
    return Scaled(stddev, Normal(), dtype)
