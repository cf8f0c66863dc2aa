"""Linear recurrent units."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.initializers.base import Structured, register
from initjax.support.arguments import finite, positive
from initjax.support.errors import UserError

_LRU = "Orvieto et al. 2023 (LRU), arXiv:2303.06349"


@dataclasses.dataclass(frozen=True, repr=False)
class LRUNuLog(Structured):
    """See `lru_nu_log`."""

    low: float = 0.9
    high: float = 0.999
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "lru_nu_log"
    least_axes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= finite(self.low, "low") < finite(self.high, "high") <= 1:
            raise UserError(f"low={self.low}, high={self.high}: 0 <= low < high <= 1 is needed.")

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        tiny = jnp.finfo(dtype).tiny  # ln 0 is none
        square = jax.random.uniform(key, shape, dtype, max(self.low**2, tiny), self.high**2)
        return jnp.log(-0.5 * jnp.log(square))


@register(
    "nu_log = ln(-ln |lambda|), |lambda|^2 ~ U(low^2, high^2)",
    _LRU,
    "the decay of a linear recurrent unit; with its gamma: lru_rule",
)
def lru_nu_log(
    low: float = 0.9, high: float = 0.999, *, dtype: DTypeLike | None = None
) -> LRUNuLog:
    """The decay of an LRU, whose eigenvalues are uniform on the ring low <= |lambda| <= high.

    |lambda| = exp(-exp(nu_log)). The input's gamma = sqrt(1 - |lambda|^2) belongs to the same draw:
    `initjax.lru_rule` (Orvieto et al. 2023, arXiv:2303.06349).

    Args:
      low, high: the range of |lambda|, in [0, 1].
      dtype: dtype of the array where the call names none.

    Raises:
      UserError (a ValueError): other than 0 <= low < high <= 1.
    """
    return LRUNuLog(low, high, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class LRUThetaLog(Structured):
    """See `lru_theta_log`."""

    max_phase: float = 2 * math.pi
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "lru_theta_log"
    least_axes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self.max_phase, "max_phase")

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        tiny = jnp.finfo(dtype).tiny  # ln 0 is none
        return jnp.log(jax.random.uniform(key, shape, dtype, tiny, self.max_phase))


@register(
    "theta_log = ln U(0, 2 pi)",
    _LRU,
    "the phase of a linear recurrent unit; pi / 10 for long memory",
)
def lru_theta_log(max_phase: float = 2 * math.pi, *, dtype: DTypeLike | None = None) -> LRUThetaLog:
    """The logarithm of an LRU's phase, uniform on [0, max_phase] (Orvieto et al. 2023).

    Raises:
      UserError (a ValueError): a phase of 0 or less.
    """
    return LRUThetaLog(max_phase, dtype)
