"""Refinements by name: "lsuv", "consistency(divergence='w2')"."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import optax

from initjax.refine.network import join_variables, split_variables
from initjax.refine.reports import Report
from initjax.refine.targets import TARGETS
from initjax.support.arguments import count
from initjax.support.naming import Call, Registry

_GIVEN = ("model", "params", "batch", "key", "held_out", "loss")


def _settings(name: str, method: Callable) -> Callable[..., tuple[Callable, dict[str, Any]]]:
    """`method` as a function of what may stand in its name's parentheses, to be called later."""
    try:
        signature = inspect.signature(method)
    except ValueError:  # `Registry.bind` says so
        return method
    if missing := [given for given in _GIVEN[:5] if given not in signature.parameters]:
        raise METHODS.not_of_the_form(f"{name} takes no {' and no '.join(missing)}.")

    def settings(**arguments):
        for argument, value in arguments.items():
            if isinstance(value, int):  # said before anything runs
                count(value, argument, -(2**31))
        return method, arguments

    parameters = [
        p if p.kind is p.VAR_KEYWORD else p.replace(kind=p.KEYWORD_ONLY)
        for p in signature.parameters.values()
        if p.name not in _GIVEN
    ]
    settings.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore
    return settings


METHODS = Registry(
    "refinement",
    # What may be called inside a method's arguments.
    TARGETS | {name: getattr(optax, name) for name in ("adam", "adamw", "rmsprop", "sgd")},
    own=_settings,
    form="method(model, params, batch, key, *, held_out=None, ...) -> (params, Report)",
)

Method = TypeVar("Method", bound=Callable[..., tuple[Any, Report]])


def register(method: Method) -> Method:
    """Decorator: lets `refine` call a refinement by its name, and takes variables as parameters."""

    @functools.wraps(method)
    def refined(model, params, *args, **settings):
        network, inner = split_variables(model, params)
        found, report = method(network, inner, *args, **settings)
        return join_variables(params, inner, found), report

    METHODS.add(method.__name__, _settings(method.__name__, refined))
    return refined


def names() -> list[str]:
    """The names that `refine` knows, sorted."""
    return sorted(METHODS)


def check(name: str | Call) -> None:
    """Raises a UserError where `name` is no method with arguments that it takes."""
    METHODS.bind(name)


def refine(
    name: str | Call, model: Any, params: Any, batch: Any, key: jax.Array, *, held_out: Any = None
) -> tuple[Any, Report]:
    """Calls the refinement of a name, such as "lsuv" or "consistency(mode='joint')".

    Args:
      name: one of `names()`, with arguments that are literals; as the `target` of consistency
        gaussian, mean_field(...) or saved(file=...), as an `optimizer` adam, adamw, rmsprop or sgd,
        such as "consistency(mode='joint', optimizer=adam(0.05))". "package.module:method" is your
        own: method(model, params, batch, key, *, held_out=None, ...) -> (params, `Report`). What
        `initjax.support.naming.parse` made of a text is taken too.
      model: a Flax Linen or NNX module.
      params: its parameters, from any initializer, or all its variables; of an NNX module a state,
        such as `nnx.state(model, nnx.Param)`.
      batch: inputs [n, ...], or a pair (inputs, labels), which "gradinit" needs.
      key: a PRNG key.
      held_out: what the report is measured on; default: the last quarter of `batch`.

    Returns:
      (params, report).

    Raises:
      UserError (a ValueError): an unknown name or argument; what the method raises.

    >>> from initjax.models import create_model
    >>> model = create_model("mlp(depth=2, width=32)", kernel_init="normal")
    >>> x = jax.random.normal(jax.random.key(0), (512, 8, 8, 1))
    >>> params = model.init(jax.random.key(1), x)["params"]
    >>> params, report = refine("lsuv(tolerance=0.01)", model, params, x, jax.random.key(2))
    >>> report.method
    'lsuv'
    """
    method, arguments = METHODS.bind(name)
    return method(model, params, batch, key, held_out=held_out, **arguments)
