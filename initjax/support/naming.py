"""A name is a call: `nspl(alpha=1.5, ratio=30)`, parsed, looked up and bound; never evaluated.

    parse(text) -> Call            what was written, as a value that prints as a text again
    split_names(text) -> texts     several of them, by commas
    Registry.bind(call) -> Any     what the name stands for, called with these arguments

A registry is filled by the files whose names it holds, with `Registry.add`. A name of the form
`package.module:name` is the user's own: the module is imported, and only when written so.
"""

import ast
import contextlib
import copy
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
from initjax.support.text import shown

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

    @property
    def is_own(self) -> bool:
        """Whether the name is the user's own."""
        return ":" in self.name

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
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return None
    keywords = [(keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg]
    if len(keywords) < len(node.keywords) or any(isinstance(x, ast.Starred) for x in node.args):
        return None  # **keywords or *args
    return Call(
        node.func.id,
        tuple(_value(arg, text) for arg in node.args),
        tuple((name, _value(value, text)) for name, value in keywords),
    )


def _value(node, text):
    is_infinity = isinstance(node, ast.Name) and node.id == "inf"
    if not is_infinity and (call := _call(node, text)) is not None:
        return call
    try:
        return ast.literal_eval(_Infinity().visit(copy.deepcopy(node)))
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise _not_a_value(ast.unparse(node), text) from None


class _Infinity(ast.NodeTransformer):
    """Makes the name inf a number, which it is no literal of."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(math.inf) if node.id == "inf" else node


def _not_a_value(shown, text):
    return UserError(f"{shown!r} in {str(text)!r} is not a number, a string, or another literal.")


class Registry(Mapping[str, Any]):
    """What may be named, by name.

    Args:
      kind: what the names stand for, for messages: "initializer".
      nested: what may be called inside the arguments, by name.
      own: makes of the user's own what a name of this table would stand for; default: as it is.
      form: what the user's own must be, for messages.
    """

    def __init__(
        self,
        kind: str,
        nested: Mapping[str, Any] | None = None,
        *,
        own: Callable[[str, Any], Any] = lambda name, value: value,
        form: str = "a function",
    ):
        self.kind = kind
        self._nested = {} if nested is None else nested
        self._own, self._form = own, form
        self._table: dict[str, Any] = {}
        self._examples: dict[str, str] = {}

    def add(self, name: str, value: Any, example: str = "") -> None:
        """Lets `name` stand for `value`. A name that is taken is a ValueError.

        Args:
          name: the name.
          value: what it stands for.
          example: a call with the arguments that it needs, for messages where they are missing.
        """
        if self._table.get(name, value) is not value:
            raise ValueError(f"{self.kind} {name!r} is registered twice.")
        self._table[name] = value
        self._examples[name] = example

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """A context at whose end names that were added inside are forgotten, as in tests."""
        table = dict(self._table)
        try:
            yield
        finally:
            self._table = table

    def __getitem__(self, name: str) -> Any:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def look_up(self, name: str) -> Any:
        """What `name` stands for.

        Raises:
          UserError (a ValueError): an unknown name, with those that are known; a module or an
            attribute of the user's own that cannot be had, or that cannot be called.
        """
        if ":" in name:
            value = import_own(name)
            if not callable(value):
                raise self.not_of_the_form(f"{name} is {value!r}.")
            return self._own(name, value)
        if name not in self._table:
            close = difflib.get_close_matches(name, self._table, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            known = ", ".join(sorted(self._table))
            raise UserError(f"Unknown {self.kind} {name!r}.{hint} Known: {known}.")
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
        keywords = defaults | {name: self._argument(value, call) for name, value in call.keywords}
        example = self._examples.get(call.name, "")
        if problem := call_problem(call.name, function, args, keywords, example):
            raise self.not_of_the_form(problem) if call.is_own else UserError(problem)
        return function(*args, **keywords)

    def not_of_the_form(self, problem: str) -> UserError:
        """The error of what the user's own is, in two lines: what is wrong, and what it must be."""
        return UserError(f"{problem}\nYour own {self.kind} must be {self._form}.")

    def _argument(self, value, call):
        if not isinstance(value, Call):
            if isinstance(value, int) and value.bit_length() > 63:
                raise UserError(f"{call.name}: {shown(value)} is more than 64 bits hold.")
            return value
        if value.name not in self._nested:
            raise _not_a_value(str(value), call)
        function = self._nested[value.name]
        args = [self._argument(inner, call) for inner in value.args]
        keywords = {name: self._argument(inner, call) for name, inner in value.keywords}
        if problem := call_problem(value.name, function, args, keywords):
            raise UserError(problem)
        return function(*args, **keywords)


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


def call_problem(
    name: str, function: Callable[..., Any], args: Any, keywords: Any, example: str = ""
) -> str:
    """What is wrong with the arguments of a call; empty where it can be made.

    Where one is missing it ends with `example`, if there is one, such as "fixup(num_branches=16)".
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # of some that are written in C
        return f"{name} does not say what it takes."
    try:
        signature.bind(*args, **keywords)
    except TypeError as error:
        if example and str(error).startswith("missing a required"):
            return f"{name}: {error}, which it cannot know.\nSay it, as in {example}."
        shown = ", ".join(
            name if parameter.default is parameter.empty else f"{name}={parameter.default!r}"
            for name, parameter in signature.parameters.items()
        )
        return f"{name}: {error}. It takes: {shown or 'no arguments'}."
    return ""
