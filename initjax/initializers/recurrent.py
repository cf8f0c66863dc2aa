"""Recurrent cells: orthogonal per gate, biases of gates, IRNN."""

import abc
import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.initializers.base import Structured, register
from initjax.initializers.fans import gate_size
from initjax.initializers.identity import Identity
from initjax.support.arguments import count, finite
from initjax.support.errors import UserError


@dataclasses.dataclass(frozen=True, repr=False)
class RecurrentOrthogonal(Structured):
    """See `recurrent_orthogonal`."""

    gates: int = 4
    scale: float = 1.0
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "recurrent_orthogonal"

    def __post_init__(self) -> None:
        super().__post_init__()
        count(self.gates, "gates")

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        rows, columns = math.prod(shape[:-1]), gate_size(self.gates, shape)
        q = jax.random.orthogonal(key, rows, (self.gates,), dtype, columns)
        return dtype.type(self.scale) * jnp.moveaxis(q, 0, 1).reshape(shape)


@register(
    "an orthogonal matrix for each gate, times scale",
    "Saxe et al. 2014, arXiv:1312.6120; Le et al. 2015, arXiv:1504.00941",
    "the recurrent kernel of an LSTM or GRU whose gates are packed, (n, gates n)",
)
def recurrent_orthogonal(
    gates: int = 4, *, scale: float = 1.0, dtype: DTypeLike | None = None
) -> RecurrentOrthogonal:
    """`gates` orthogonal matrices side by side along the last axis.

    `orthogonal` of the packed (n, 4 n) makes its rows orthonormal, and so gates whose singular
    values lie between 0 and 1: each loses three quarters of the state's norm^2 a step.

    Args:
      gates: how many are packed along the last axis: 4 of an LSTM, 3 of a GRU.
      scale: what the orthogonal matrices are multiplied by.
      dtype: dtype of the weights where the call names none.

    Raises:
      UserError (a ValueError): gates that do not divide the last axis, when it is called.
    """
    return RecurrentOrthogonal(gates, scale, dtype)


@register(
    "identity",
    "Le, Jaitly & Hinton 2015 (IRNN), arXiv:1504.00941",
    "the recurrent kernel of a plain ReLU network, its biases 0; not with tanh",
)
def irnn(scale: float = 1.0, *, dtype: DTypeLike | None = None) -> Identity:
    """The identity times `scale`, for the recurrent kernel of a ReLU network.

    The state stays, and sums what comes in; a scale below 1 forgets (Le, Jaitly & Hinton 2015,
    arXiv:1504.00941).
    """
    return Identity(1, finite(scale, "scale"), dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class GateBiases(Structured, abc.ABC):
    """Base: biases of gates that are packed along the last axis; those not drawn are 0."""

    gates: str = "ifgo"
    dtype: DTypeLike | None = None
    least_axes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.gates, str) or "f" not in self.gates:
            raise UserError(
                f"gates={self.gates!r} is no text with a letter a gate, such as 'ifgo': i input, f"
                " forget, others as you like."
            )

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        if shape[-1] % len(self.gates):
            raise UserError(f"gates={self.gates!r} do not divide the last axis of {shape}.")
        one = (*shape[:-1], shape[-1] // len(self.gates))
        drawn = self.build_gates(key, one, dtype)
        none = jnp.zeros(one, dtype)
        return jnp.concatenate([drawn.get(gate, none) for gate in self.gates], -1)

    @abc.abstractmethod
    def build_gates(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype
    ) -> dict[str, jax.Array]:
        """The biases of the gates that are not 0, by letter."""


@dataclasses.dataclass(frozen=True, repr=False)
class LSTMBias(GateBiases):
    """See `lstm_bias`."""

    forget: float = 1.0
    factory: ClassVar[str] = "lstm_bias"

    def build_gates(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype
    ) -> dict[str, jax.Array]:
        del key  # nothing is random
        return {"f": jnp.full(shape, self.forget, dtype)}


@register(
    "1 for the forget gate, else 0",
    "Gers et al. 2000; Jozefowicz et al. 2015",
    "the bias of an LSTM whose gates are packed; else ones for the forget gate's own",
)
def lstm_bias(
    forget: float = 1.0, *, gates: str = "ifgo", dtype: DTypeLike | None = None
) -> LSTMBias:
    """`forget` for the forget gate, which then begins open, and 0 for the others.

    Jozefowicz, Zaremba & Sutskever 2015, An empirical exploration of recurrent network
    architectures. Where each gate has a bias of its own, as in Flax Linen, a rule does it:
    ("hf/bias", "ones").

    Args:
      forget: the bias of the forget gate.
      gates: their order along the last axis, a letter each: "ifgo" in NNX and PyTorch, "ifco" in
        Keras.
      dtype: dtype of the biases where the call names none.

    Raises:
      UserError (a ValueError): gates without an f; gates that do not divide the last axis, when it
        is called.

    >>> lstm_bias()(jax.random.key(0), (8,))
    Array([0., 0., 1., 1., 0., 0., 0., 0.], dtype=float32)
    """
    return LSTMBias(gates, dtype, finite(forget, "forget"))


@dataclasses.dataclass(frozen=True, repr=False)
class Chrono(GateBiases):
    """See `chrono`."""

    max_time: float = 100.0
    factory: ClassVar[str] = "chrono"

    def __post_init__(self) -> None:
        super().__post_init__()
        if finite(self.max_time, "max_time") <= 2:
            raise UserError(f"max_time={self.max_time} must exceed 2.")

    def build_gates(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype
    ) -> dict[str, jax.Array]:
        forget = jnp.log(jax.random.uniform(key, shape, dtype, 1.0, self.max_time - 1))
        return {"f": forget, "i": -forget}


@register(
    "b_f = ln U(1, T - 1), b_i = -b_f, else 0",
    "Tallec & Ollivier 2018, arXiv:1804.11188",
    "the bias of an LSTM that must remember up to T steps; max_time=T",
)
def chrono(
    max_time: float = 100.0, *, gates: str = "ifgo", dtype: DTypeLike | None = None
) -> Chrono:
    """Forget gates of the time scales 1 to T - 1: b_f = ln U(1, T - 1), b_i = -b_f.

    A unit forgets in about 1 / (1 - sigmoid(b_f)) = 1 + exp(b_f) steps (Tallec & Ollivier 2018, Can
    recurrent neural networks warp time?, arXiv:1804.11188). Where the gates have biases of their
    own, which must be drawn together: `initjax.chrono_rule`.

    Args:
      max_time: T, the range of the dependencies, above 2.
      gates: as in `lstm_bias`.
      dtype: dtype of the biases where the call names none.

    Raises:
      UserError (a ValueError): as `lstm_bias`, or a time of 2 or less.
    """
    return Chrono(gates, dtype, max_time)
