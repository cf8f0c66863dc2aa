"""Biases of the last layer, by which a network begins with the classes' frequencies."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.initializers.base import Structured, register
from initjax.initializers.constant import Constant
from initjax.support.arguments import finite, positive
from initjax.support.errors import UserError


@register(
    "b = -ln((1 - p) / p)",
    "Lin et al. 2017 (focal loss), arXiv:1708.02002",
    "the bias of a sigmoid head whose classes are rare; beside a head of zeros",
)
def prior_bias(probability: float = 0.01, *, dtype: DTypeLike | None = None) -> Constant:
    """The bias with which a sigmoid says `probability`: b = -ln((1 - p) / p).

    Else a detector's many background boxes swamp the first steps (Lin, Goyal, Girshick, He & Dollar
    2017, arXiv:1708.02002, section 4.1, p = .01).

    Args:
      probability: p, between 0 and 1.
      dtype: dtype of the biases where the call names none.

    Raises:
      UserError (a ValueError): a probability that is none, or 0 or 1.

    >>> round(prior_bias(0.01).value, 6)
    -4.59512
    """
    probability = finite(probability, "probability")
    if not 0 < probability < 1:
        raise UserError(f"probability={probability} must lie between 0 and 1.")
    return Constant(math.log(probability) - math.log1p(-probability), dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class ClassPrior(Structured):
    """See `class_prior`."""

    probabilities: Sequence[float] = ()
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "class_prior"
    least_axes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.probabilities, Sequence) or isinstance(self.probabilities, str):
            raise UserError(f"probabilities={self.probabilities!r} is no sequence of numbers.")
        checked = tuple(positive(p, "probabilities") for p in self.probabilities)
        object.__setattr__(self, "probabilities", checked)

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        del key  # nothing is random
        p = np.array(self.probabilities or (1.0,) * shape[-1])
        if len(p) != shape[-1]:
            raise UserError(f"{len(p)} probabilities do not fit the shape {shape}.")
        return jnp.broadcast_to(jnp.asarray(np.log(p / p.sum()), dtype), shape)


@register(
    "b_k = ln p_k",
    "Bishop 1995, Neural networks for pattern recognition",
    "the bias of a softmax head whose classes differ in frequency; beside a head of zeros. By"
    " default -ln K, for a sigmoid head of K classes",
)
def class_prior(
    probabilities: Sequence[float] = (), *, dtype: DTypeLike | None = None
) -> ClassPrior:
    """The biases with which a softmax says the frequencies of the classes: b_k = ln p_k.

    With a kernel of zeros the loss at step 0 is the entropy of the classes instead of ln K.

    Args:
      probabilities: one a class, or counts: they are divided by their sum. Without them all are
        1 / K.
      dtype: dtype of the biases where the call names none.

    Raises:
      UserError (a ValueError): a probability of 0 or less; another number than the last axis has,
        when it is called.

    >>> import jax
    >>> [round(float(b), 3) for b in class_prior((3, 1))(jax.random.key(0), (2,))]
    [-0.288, -1.386]
    """
    return ClassPrior(probabilities, dtype)
