"""A name is a call: `get("nspl(alpha=1.5, ratio=30)")` is `nspl(alpha=1.5, ratio=30)`.

The text is parsed, never evaluated: a name out of a table, and arguments that are literals (or, for
initializers, a named distribution with such arguments).
"""

import ast
import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from initjax.support.errors import UserError


def call_by_name(
    text: str,
    table: Mapping[str, Callable],
    kind: str,
    nested: Mapping[str, Callable] | None = None,
    **defaults: Any,
) -> Any:
    """Calls `table[name]` as `text` says.

    Args:
      text: "name" or "name(1, key=2.5)"; arguments are Python literals, inf, or calls of `nested`.
      table: what may be called, by name.
      kind: what the table holds, for messages.
      nested: what may be called inside the arguments.
      **defaults: keyword arguments that `text` overrides.

    Raises:
      UserError (a ValueError): with what is allowed.
    """
    if not isinstance(text, str):
        raise UserError(f"{kind}={text!r} is neither a name nor a callable.")
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        node = None
    name, args, keywords = _parts(node)
    if name is None:
        raise UserError(f"{kind} {text!r} is not of the form name or name(key=value, ...).")
    if name not in table:
        close = difflib.get_close_matches(name, table, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UserError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(sorted(table))}.")
    values = [_value(arg, text, nested or {}) for arg in args]
    named = {k.arg: _value(k.value, text, nested or {}) for k in keywords}
    return _call(name, table[name], values, defaults | named)


def _parts(node):
    """(name, positional, keyword nodes) of `name` or `name(...)`; None for any other expression."""
    if isinstance(node, ast.Name):
        return node.id, [], []
    plain = (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and not any(isinstance(arg, ast.Starred) for arg in node.args)
        and all(keyword.arg for keyword in node.keywords)
    )
    return (node.func.id, node.args, node.keywords) if plain else (None, [], [])


def _value(node, text, nested):
    name, args, keywords = _parts(node)
    if name == "inf" and isinstance(node, ast.Name):
        return float("inf")
    if name in nested:
        values = [_value(arg, text, {}) for arg in args]
        return _call(
            name, nested[name], values, {k.arg: _value(k.value, text, {}) for k in keywords}
        )
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise UserError(
            f"{ast.unparse(node)!r} in {text!r} is not a number, a string, or another literal."
        ) from None


def _call(function_name, function, args, keywords):
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **keywords)
    except TypeError as error:
        shown = ", ".join(
            name if parameter.default is parameter.empty else f"{name}={parameter.default!r}"
            for name, parameter in signature.parameters.items()
        )
        raise UserError(f"{function_name}: {error}. It takes: {shown or 'no arguments'}.") from None
    return function(*args, **keywords)
