"""State space models that select: Mamba and Mamba-2."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.initializers.base import Structured, register
from initjax.initializers.hippo import check_range, log_uniform
from initjax.support.arguments import positive

_MAMBA = "Gu & Dao 2023 (Mamba), arXiv:2312.00752; state-spaces/mamba"


@dataclasses.dataclass(frozen=True, repr=False)
class MambaALog(Structured):
    """See `mamba_a_log`."""

    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "mamba_a_log"
    least_axes: ClassVar[int] = 1

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        del key  # nothing is random
        row = np.log(np.arange(1, shape[-1] + 1))
        return jnp.broadcast_to(jnp.asarray(row, dtype), shape)


@register("A_log_n = ln(n + 1)", _MAMBA, "Mamba's A_log, (channels, N): S4D-Real; see mamba_rules")
def mamba_a_log(*, dtype: DTypeLike | None = None) -> MambaALog:
    """ln 1 ... ln N along the last axis: A = -exp(A_log) is S4D-Real.

    Gu & Dao 2023, Mamba (arXiv:2312.00752). The other arrays of a block: `initjax.mamba_rules`.
    """
    return MambaALog(dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class Mamba2ALog(Structured):
    """See `mamba2_a_log`."""

    low: float = 1.0
    high: float = 16.0
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "mamba2_a_log"
    least_axes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.low, self.high)

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        return jnp.log(jax.random.uniform(key, shape, dtype, self.low, self.high))


@register(
    "A_log = ln U(1, 16)",
    "Dao & Gu 2024 (Mamba-2), arXiv:2405.21060",
    "Mamba-2's A_log, a scalar a head",
)
def mamba2_a_log(
    low: float = 1.0, high: float = 16.0, *, dtype: DTypeLike | None = None
) -> Mamba2ALog:
    """The logarithm of A ~ U(low, high), (heads,) (Dao & Gu 2024, arXiv:2405.21060).

    Raises:
      UserError (a ValueError): other than 0 < low < high.
    """
    return Mamba2ALog(low, high, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class MambaStepBias(Structured):
    """See `mamba_step_bias`."""

    low: float = 0.001
    high: float = 0.1
    floor: float = 1e-4
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "mamba_step_bias"
    least_axes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.low, self.high)
        positive(self.floor, "floor")

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        step = jnp.exp(log_uniform(key, shape, dtype, self.low, self.high))
        step = jnp.maximum(step, self.floor)
        return step + jnp.log(-jnp.expm1(-step))


@register(
    "b = dt + ln(1 - exp(-dt)), dt log-uniform on [.001, .1]",
    _MAMBA,
    "the bias of Mamba's step projection, behind which softplus stands; its kernel: torch_default",
)
def mamba_step_bias(
    low: float = 0.001, high: float = 0.1, *, floor: float = 1e-4, dtype: DTypeLike | None = None
) -> MambaStepBias:
    """The inverse of softplus at a step size dt that is log-uniform on [low, high].

    Gu & Dao 2023, Mamba (arXiv:2312.00752), as in state-spaces/mamba.

    Args:
      low, high: the range of dt.
      floor: what dt is at least.
      dtype: dtype of the biases where the call names none.

    Raises:
      UserError (a ValueError): other than 0 < low < high, a floor of 0 or less.
    """
    return MambaStepBias(low, high, floor, dtype)
