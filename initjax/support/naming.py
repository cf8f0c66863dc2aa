"""A name is a call: `nspl(alpha=1.5, ratio=30)`, parsed, looked up and bound; never evaluated.

    parse(text) -> Call            what was written, as a value that prints as a text again
    split_names(text) -> texts     several of them, by commas
    Registry.bind(call) -> Any     what the name stands for, called with these arguments

A registry is filled by the files whose names it holds, with `Registry.add`. A name of the form
`package.module:name` is the user's own: the module is imported, and only when written so.
"""

import ast
import dataclasses
import difflib
import importlib
import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from initjax.support.errors import UserError

_OWN_NAME = re.compile(r"\s*([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)\s*(\(.*\))?\s*", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Call:
    """A name with its arguments, which are literals, infinity, or calls.

    Attributes:
      name: what is called; `package.module:name` for the user's own.
      args: positional arguments.
      keywords: (name, value) pairs, in the order in which they were written.
    """

    name: str
    args: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        """A text from which `parse` makes the same value."""
        shown = [_text(value) for value in self.args]
        shown += [f"{name}={_text(value)}" for name, value in self.keywords]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


def _text(value) -> str:
    return str(value) if isinstance(value, Call) else repr(value)


def parse(text: str, kind: str = "name") -> Call:
    """What a text such as "nspl(alpha=1.5, ratio=30)" says, without a look at what it names.

    Args:
      text: "name", "name(1, key=2.5)" or "package.module:name(...)"; arguments are Python literals,
        inf, or calls of the same form.
      kind: what the text is expected to name, for messages.

    Raises:
      UserError (a ValueError): a text of another form.
    """
    if not isinstance(text, str):
        raise UserError(f"{kind}={text!r} is neither a name nor a callable.")
    own, expression = None, text
    if match := _OWN_NAME.fullmatch(text):
        module, name, arguments = match.groups()
        own, expression = f"{module}:{name}", f"{name}{arguments or ''}"
    try:
        node = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        node = None
    call = _call(node, text)
    if call is None:
        raise UserError(f"{kind} {text!r} is not of the form name or name(key=value, ...).")
    return dataclasses.replace(call, name=own) if own else call


def split_names(text: str) -> list[str]:
    """The parts between the commas outside of brackets and quotes, without spaces around them.

    >>> split_names("he_normal, nspl(alpha=1.5, ratio=30)")
    ['he_normal', 'nspl(alpha=1.5, ratio=30)']
    >>> split_names(",lsuv")
    ['', 'lsuv']
    """
    parts, depth, quote = [""], 0, ""
    for i, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and character in text[i + 1 :]:
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
        if character == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _call(node, text) -> Call | None:
    """The call of `name` or `name(...)`; None for any other expression."""
    if isinstance(node, ast.Name):
        return Call(node.id)
    plain = (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and not any(isinstance(arg, ast.Starred) for arg in node.args)
        and all(keyword.arg for keyword in node.keywords)
    )
    if not plain:
        return None
    return Call(
        node.func.id,
        tuple(_value(arg, text) for arg in node.args),
        tuple((keyword.arg, _value(keyword.value, text)) for keyword in node.keywords),
    )


def _value(node, text):
    if isinstance(node, ast.Name) and node.id == "inf":
        return math.inf
    call = _call(node, text)
    if call is not None:
        return call
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise _not_a_value(ast.unparse(node), text) from None


def _not_a_value(shown, text):
    return UserError(f"{shown!r} in {str(text)!r} is not a number, a string, or another literal.")


class Registry:
    """What may be named, by name.

    Args:
      kind: what the names stand for, for messages: "initializer".
      nested: what may be called inside the arguments, by name.
    """

    def __init__(self, kind: str, nested: Mapping[str, Callable] | None = None):
        self.kind = kind
        self._nested = {} if nested is None else nested
        self._table: dict[str, Callable] = {}

    def add(self, name: str, value: Callable) -> None:
        """Lets `name` stand for `value`. A name that is taken is a ValueError."""
        if self._table.get(name, value) is not value:
            raise ValueError(f"{self.kind} {name!r} is registered twice.")
        self._table[name] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __getitem__(self, name: str) -> Callable:
        return self._table[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._table)

    def look_up(self, name: str) -> Callable:
        """What `name` stands for.

        Raises:
          UserError (a ValueError): an unknown name, with those that are known; a module or an
            attribute of the user's own that cannot be had.
        """
        if ":" in name:
            return import_own(name)
        if name not in self._table:
            close = difflib.get_close_matches(name, self._table, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UserError(
                f"Unknown {self.kind} {name!r}.{hint} Known: {', '.join(self.names())}."
            )
        return self._table[name]

    def bind(self, call: str | Call, **defaults: Any) -> Any:
        """Calls what a name stands for with the arguments that stand beside it.

        Args:
          call: a text, or what `parse` made of it.
          **defaults: keyword arguments that `call` overrides.

        Raises:
          UserError (a ValueError): an unknown name, or arguments that it does not take.
        """
        if not isinstance(call, Call):
            call = parse(call, self.kind)
        function = self.look_up(call.name)
        args = [self._argument(value, call) for value in call.args]
        keywords = {name: self._argument(value, call) for name, value in call.keywords}
        return _apply(call.name, function, args, defaults | keywords)

    def _argument(self, value, call):
        if not isinstance(value, Call):
            return value
        if value.name not in self._nested:
            raise _not_a_value(str(value), call)
        values = [*value.args, *(inner for _, inner in value.keywords)]
        for inner in values:
            if isinstance(inner, Call):
                raise _not_a_value(str(inner), call)
        return _apply(value.name, self._nested[value.name], value.args, dict(value.keywords))


def import_own(name: str) -> Any:
    """The user's own `package.module:name`, from the current directory or an installed package.

    Raises:
      UserError (a ValueError): no such module or name, or a module that fails while it is imported.
    """
    module_name, _, attribute = name.partition(":")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does; a script's path has its own folder only
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise UserError(
                f"{name!r}: there is no module {error.name!r} in {here} or among the installed"
                " packages."
            ) from None
        raise UserError(f"{name!r}: importing {module_name} failed: {error}.") from error
    except Exception as error:
        raise UserError(
            f"{name!r}: importing {module_name} failed: {type(error).__name__}: {error}."
        ) from error
    if not hasattr(module, attribute):
        close = difflib.get_close_matches(attribute, vars(module), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UserError(f"{name!r}: {module_name} has no {attribute!r}.{hint}")
    return getattr(module, attribute)


def _apply(name, function, args, keywords):
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **keywords)
    except TypeError as error:
        shown = ", ".join(
            name if parameter.default is parameter.empty else f"{name}={parameter.default!r}"
            for name, parameter in signature.parameters.items()
        )
        raise UserError(f"{name}: {error}. It takes: {shown or 'no arguments'}.") from None
    return function(*args, **keywords)


def call_by_name(
    text: str,
    table: Mapping[str, Callable],
    kind: str,
    nested: Mapping[str, Callable] | None = None,
    **defaults: Any,
) -> Any:
    """`Registry.bind` for a table that has not become a registry yet."""
    registry = Registry(kind, nested)
    for name, value in table.items():
        registry.add(name, value)
    return registry.bind(text, **defaults)
