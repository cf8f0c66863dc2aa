"""Refinements by name: "lsuv", "consistency(divergence='w2')"."""

import inspect
from typing import Any

import jax
import optax

from initjax.refine.autoinit import autoinit
from initjax.refine.consistency import consistency
from initjax.refine.gradinit import gradinit
from initjax.refine.krahenbuhl import krahenbuhl
from initjax.refine.lsuv import lsuv
from initjax.refine.metainit import metainit
from initjax.refine.reports import Report
from initjax.refine.targets import TARGETS
from initjax.support.naming import call_by_name

_METHODS = {
    "autoinit": autoinit,
    "consistency": consistency,
    "gradinit": gradinit,
    "krahenbuhl": krahenbuhl,
    "lsuv": lsuv,
    "metainit": metainit,
}

# What may be called inside a method's arguments.
_NESTED = {
    **TARGETS,
    **{name: getattr(optax, name) for name in ("adam", "adamw", "rmsprop", "sgd")},
}
_GIVEN = ("model", "params", "batch", "key", "held_out", "loss")


def names() -> list[str]:
    """The names that `refine` knows, sorted."""
    return sorted(_METHODS)


def _with_settings(method):
    """`method` as a function of what may stand in its name's parentheses, to be called later."""
    signature = inspect.signature(method)

    def settings(**arguments):
        return method, arguments

    parameters = [p for p in signature.parameters.values() if p.name not in _GIVEN]
    settings.__signature__ = signature.replace(parameters=parameters)
    return settings


_SETTINGS = {name: _with_settings(method) for name, method in _METHODS.items()}


def check(name: str) -> None:
    """Raises a UserError where `name` is no method with arguments that it takes."""
    call_by_name(name, _SETTINGS, "refinement", _NESTED)


def refine(name: str, model, params, batch, key: jax.Array, *, held_out=None) -> tuple[Any, Report]:
    """Calls the refinement of a name, such as "lsuv" or "consistency(mode='joint')".

    Args:
      name: one of `names()`, with arguments that are literals; as the `target` of consistency
        gaussian, mean_field(...) or saved(file=...), as an `optimizer` adam, adamw, rmsprop or sgd,
        such as "consistency(mode='joint', optimizer=adam(0.05))".
      model: a Flax Linen module.
      params: its parameters, from any initializer.
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
    method, arguments = call_by_name(name, _SETTINGS, "refinement", _NESTED)
    return method(model, params, batch, key, held_out=held_out, **arguments)
