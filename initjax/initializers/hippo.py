"""State space models: HiPPO and its diagonal forms, S4D."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.initializers.base import Structured, register
from initjax.support.arguments import finite, one_of
from initjax.support.errors import UserError

_HIPPO = "Gu et al. 2020 (HiPPO), arXiv:2008.07669; state-spaces/s4"
_S4D = "Gu et al. 2022 (S4D), arXiv:2206.11893"


def check_range(low: float, high: float) -> None:
    """Raises where 0 < low < high is not so."""
    if not 0 < finite(low, "low") < finite(high, "high"):
        raise UserError(f"low={low}, high={high}: 0 < low < high is needed.")


def log_uniform(
    key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, low: float, high: float
) -> jax.Array:
    """The logarithms of numbers that are log-uniform on [low, high]."""
    return jax.random.uniform(key, shape, dtype, math.log(low), math.log(high))


@dataclasses.dataclass(frozen=True, repr=False)
class HippoLegS(Structured):
    """See `hippo_legs`."""

    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "hippo_legs"

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        del key  # nothing is random
        n, k = np.ogrid[: shape[-2], : shape[-1]]
        below = -np.sqrt((2 * n + 1) * (2 * k + 1))
        a = np.where(n > k, below, np.where(n == k, -(n + 1.0), 0.0))
        return jnp.broadcast_to(jnp.asarray(a, dtype), shape)


@register(
    "A_nk = -sqrt((2n + 1)(2k + 1)) below the diagonal, -(n + 1) on it, 0 above",
    _HIPPO,
    "the state matrix of S4, (N, N), its input by hippo_legs_input; s4d where it is diagonal",
)
def hippo_legs(*, dtype: DTypeLike | None = None) -> HippoLegS:
    """HiPPO-LegS, by which a state of size N holds the Legendre coefficients of its whole past.

    A + B B^T / 2 is -I / 2 and a skew matrix: its eigenvalues have the real part -1/2. Axes before
    the last two repeat it (Gu, Dao, Ermon, Rudra & Re 2020, arXiv:2008.07669).
    """
    return HippoLegS(dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class HippoLegSInput(Structured):
    """See `hippo_legs_input`."""

    axis: int = -1
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "hippo_legs_input"
    least_axes: ClassVar[int] = 1

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        del key  # nothing is random
        if not -len(shape) <= self.axis < len(shape):
            raise UserError(f"axis={self.axis} is not an axis of {shape}.")
        b = np.sqrt(2 * np.arange(shape[self.axis]) + 1.0)
        others = [i for i in range(len(shape)) if i != self.axis % len(shape)]
        return jnp.broadcast_to(jnp.asarray(np.expand_dims(b, others), dtype), shape)


@register("B_n = sqrt(2n + 1)", _HIPPO, "the input beside hippo_legs")
def hippo_legs_input(axis: int = -1, *, dtype: DTypeLike | None = None) -> HippoLegSInput:
    """B_n = sqrt(2n + 1), n along `axis`: 0 of an array (N, 1)."""
    return HippoLegSInput(axis, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class S4D(Structured):
    """See `s4d`."""

    kind: str = "lin"
    part: str = "imaginary"
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "s4d"
    least_axes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.kind, ("lin", "inv", "real"), "kind")
        one_of(self.part, ("real", "imaginary"), "part")

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        del key  # nothing is random
        size, n = shape[-1], np.arange(shape[-1])
        real, imaginary = {
            "lin": (np.full(size, -0.5), math.pi * n),
            "inv": (np.full(size, -0.5), size / math.pi * (size / (2 * n + 1) - 1)),
            "real": (-(n + 1.0), np.zeros(size)),
        }[self.kind]
        row = real if self.part == "real" else imaginary
        return jnp.broadcast_to(jnp.asarray(row, dtype), shape)


@register(
    "A_n = -1/2 + i pi n (lin); -1/2 + i N/pi (N/(2n + 1) - 1) (inv); -(n + 1) (real)",
    _S4D,
    "the diagonal state matrix of S4D, its real and its imaginary part in arrays of their own",
)
def s4d(kind: str = "lin", part: str = "imaginary", *, dtype: DTypeLike | None = None) -> S4D:
    """The state matrix of S4D, (..., N), of which one conjugate half is stored.

    Gu, Gupta, Goel & Re 2022, On the parameterization and initialization of diagonal state space
    models (arXiv:2206.11893). A model that stores ln(-Re A) takes `constant(-0.693147)` for the
    real part of "lin" and "inv".

    Args:
      kind: "lin", "inv" or "real".
      part: "real" or "imaginary".
      dtype: dtype of the array where the call names none.

    Raises:
      UserError (a ValueError): an unknown kind or part.

    >>> [round(float(w), 3) for w in s4d("inv")(jax.random.key(0), (4,))]
    [3.82, 0.424, -0.255, -0.546]
    """
    return S4D(kind, part, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class LogStep(Structured):
    """See `log_step`."""

    low: float = 0.001
    high: float = 0.1
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "log_step"
    least_axes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.low, self.high)

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        return log_uniform(key, shape, dtype, self.low, self.high)


@register("ln dt ~ U(ln .001, ln .1)", _S4D, "the logarithm of the step size of S4 and S4D")
def log_step(low: float = 0.001, high: float = 0.1, *, dtype: DTypeLike | None = None) -> LogStep:
    """The logarithm of a step size dt that is log-uniform on [low, high].

    Raises:
      UserError (a ValueError): other than 0 < low < high.
    """
    return LogStep(low, high, dtype)
