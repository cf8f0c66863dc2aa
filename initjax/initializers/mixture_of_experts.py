"""The experts of a mixture."""

import dataclasses
import math
from typing import ClassVar, Unpack

import jax
import numpy as np
from jax.typing import DTypeLike

from initjax.distributions.truncated_normal import TruncatedNormal
from initjax.initializers.axes import AxisArguments, AxisFields
from initjax.initializers.base import Structured, register


@dataclasses.dataclass(frozen=True, repr=False)
class MixtureOfExperts(AxisFields, Structured):
    """See `mixture_of_experts`."""

    scale: float = 0.1
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "mixture_of_experts"

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        law = TruncatedNormal()
        multiplier = math.sqrt(self.scale / shape[-2]) / law.std
        return law.sample_scaled(key, shape, dtype, multiplier, None)


@register(
    "truncated normal, Var = .1 / fan_in, experts apart",
    "Fedus, Zoph & Shazeer 2021 (Switch), arXiv:2101.03961",
    "the dense layers of sparse transformers, (experts, in, out), and their router, whose routes"
    " then begin near 1 / experts; no convolutions",
)
def mixture_of_experts(
    scale: float = 0.1, *, dtype: DTypeLike | None = None, **axes: Unpack[AxisArguments]
) -> MixtureOfExperts:
    """Truncated normal weights (experts, in, out) of variance `scale` / in.

    All axes but those of inputs and outputs are independent layers and count in no fan: taken for
    positions of a kernel, 64 experts would have an eighth of their standard deviation. Switch
    transformers take a tenth of LeCun's variance for all weights (Fedus, Zoph & Shazeer 2021,
    arXiv:2101.03961, section 2.4).

    Args:
      scale: the variance times the inputs of one expert.
      dtype: dtype of the weights where the call names none.
      **axes: in_axis, out_axis and batch_axis, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): a scale of 0 or less.
    """
    return MixtureOfExperts(scale, dtype, **axes)
