"""Activation functions by name."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from initjax.support.errors import UserError
from initjax.support.naming import Call, Registry, parse


def gelu(x: jax.Array) -> jax.Array:
    """x Phi(x), exactly."""
    return jax.nn.gelu(x, approximate=False)


def linear(x: jax.Array) -> jax.Array:
    """x itself."""
    return x


def swish(x: jax.Array) -> jax.Array:
    """x sigmoid(x), as SiLU."""
    return jax.nn.silu(x)


def hard_swish(x: jax.Array) -> jax.Array:
    """x clip(x + 3, 0, 6) / 6."""
    return jax.nn.hard_swish(x)


class Bound:
    """An activation with its parameters, such as leaky_relu(0.2); equal to another with the same.

    Args:
      call: what `initjax.support.naming.parse` made of a text.
    """

    def __init__(self, call: Call):
        self.__name__: str = str(call)
        self._function = ACTIVATIONS.look_up(call.name)
        self._args, self._keywords = call.args, dict(call.keywords)
        try:
            inspect.signature(self._function).bind(0.0, *self._args, **self._keywords)
        except TypeError as error:
            raise UserError(f"activation={self.__name__}: {error}.") from None

    def __call__(self, x: jax.Array) -> jax.Array:
        return self._function(x, *self._args, **self._keywords)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bound) and self.__name__ == other.__name__

    def __hash__(self) -> int:
        return hash(self.__name__)

    def __repr__(self) -> str:
        return self.__name__

    def __reduce__(self) -> tuple[Any, ...]:  # most of JAX's functions cannot be pickled
        return get_activation, (self.__name__,)


# In the order in which they are tried where a network does not say which one it has.
ACTIVATIONS = Registry("activation")
for _name, _function in {
    "elu": jax.nn.elu,
    "erf": jax.lax.erf,
    "gelu": gelu,
    "hard_tanh": jax.nn.hard_tanh,
    "leaky_relu": jax.nn.leaky_relu,
    "linear": linear,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
    "celu": jax.nn.celu,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_swish": hard_swish,
    "log_sigmoid": jax.nn.log_sigmoid,
    "mish": jax.nn.mish,
    "relu6": jax.nn.relu6,
    "soft_sign": jax.nn.soft_sign,
    "squareplus": jax.nn.squareplus,
    "swish": swish,
}.items():
    ACTIVATIONS.add(_name, _function)


def activation_names() -> list[str]:
    """The names that `get_activation` knows, sorted."""
    return sorted(ACTIVATIONS)


def get_activation(activation: str | Call | Callable[..., Any]) -> Callable[..., Any]:
    """The activation function of a name; a callable is returned as it is.

    Parameters stand in parentheses: "leaky_relu(0.2)". "package.module:name" is a function of your
    own.

    Raises:
      UserError (a ValueError): an unknown name, or parameters that it does not take.

    >>> get_activation("tanh")(0.0)
    Array(0., dtype=float32, weak_type=True)
    """
    if callable(activation):
        return activation
    call = activation if isinstance(activation, Call) else parse(activation, "activation")
    return Bound(call) if call.args or call.keywords else ACTIVATIONS.look_up(call.name)
