"""Interprets the pickles of PyTorch without calling anything that they name.

A pickle is a program for a stack machine that can call any Python function. This interpreter knows
the operations that build data, and the few functions with which PyTorch rebuilds tensors; any other
call becomes an `Unknown` that says what it would have been. Nothing is imported, and no value of
the pickle is hashed or compared, both of which take exponential time for tuples nested in tuples.
"""

import dataclasses
import pickletools
import warnings
from typing import Any

from initjax.support.errors import UserError

_MAX_BYTES = 32 << 20  # of one pickle; the numbers of the tensors are stored elsewhere
_MAX_OPERATIONS = 2_000_000  # 40 for each tensor
_MAX_ARGUMENTS = 10
_MAX_NAME = 300  # characters


class Pairs(list):
    """A dict of the pickle as its pairs (key, value)."""


@dataclasses.dataclass(frozen=True)
class Global:
    """A class or function that the pickle names, not imported."""

    module: str
    attribute: str

    @property
    def name(self) -> str:
        return f"{self.module}.{self.attribute}"


@dataclasses.dataclass
class Unknown:
    """What would be an object of a class, or the value of a call, that is not known here."""

    function: Any
    state: Any = None
    items: Pairs = dataclasses.field(default_factory=Pairs)  # of a subclass of dict

    @property
    def name(self) -> str:
        return self.function.name if isinstance(self.function, Global) else "an unknown object"


@dataclasses.dataclass(frozen=True)
class Storage:
    """Where the numbers of tensors are."""

    key: str
    type_name: str  # "FloatStorage"
    offset: Any = 0  # in elements: a view of the storage begins here


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A view of a storage, as claimed."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any
    dtype_name: str | None = None  # where the storage is untyped
    conjugated: bool = False  # the numbers are the conjugates of those that are stored
    negated: bool = False  # they are their negatives, as of x.conj().imag


class _Stop(Exception):
    """The end of the pickle."""


class _Bounded:
    """A stream that ends after `_MAX_BYTES`."""

    def __init__(self, stream):
        self._stream = stream
        self._rest = _MAX_BYTES

    def read(self, size: int) -> bytes:
        if size > self._rest:
            raise ValueError(f"it is larger than {_MAX_BYTES >> 20} MiB")
        self._rest -= size
        return self._stream.read(size)

    def readline(self) -> bytes:
        line = self._stream.readline(self._rest)
        self._rest -= len(line)
        return line


def interpret(stream, storages: dict[str, Storage] | None = None) -> Any:
    """The value of the pickle that `stream` is at; the stream is then at the pickle's end.

    Args:
      stream: a binary file.
      storages: takes all storages of the pickle, by key.

    Raises:
      UserError: it is damaged, or larger than the pickle of a checkpoint can be.
    """
    machine = _Machine({} if storages is None else storages)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names with backslashes
            for opcode, argument, _ in pickletools.genops(_Bounded(stream)):
                machine.charge(1)
                _OPERATIONS[opcode.name](machine, argument)
    except _Stop as stop:
        return stop.args[0]
    except KeyError as error:
        raise UserError(f"its pickle is damaged or malicious: no {error}.") from None
    except (ValueError, IndexError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f"its pickle is damaged or malicious: {error!s:.300}.") from None
    raise UserError("its pickle is damaged: it has no end.")


class _Machine:
    """The stack, the stacks that marks put aside, and the memo."""

    def __init__(self, storages):
        self.stack = []
        self.asides = []
        self.memo = {}
        self.storages = storages
        self.rest = _MAX_OPERATIONS

    def charge(self, operations: int) -> None:
        self.rest -= operations
        if self.rest < 0:
            raise ValueError(f"it takes more than {_MAX_OPERATIONS} operations")

    def push(self, value) -> None:
        self.stack.append(value)

    def mark(self, _) -> None:
        self.asides.append(self.stack)
        self.stack = []

    def pop_mark(self, _=None) -> list:
        items, self.stack = self.stack, self.asides.pop()
        return items

    def pop(self, _) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def put(self, index) -> None:
        if not 0 <= index < 2**32:  # beyond, indices can be made that collide in the dict
            raise ValueError("an index of its memo is out of range")
        self.memo[index] = self.stack[-1]

    def memoize(self, _) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index) -> None:
        if index not in self.memo:
            raise ValueError("it gets from its memo what it never put there")
        self.push(self.memo[index])

    def pop_tuple(self, size: int) -> None:
        if len(self.stack) < size:
            raise IndexError("the stack is empty")
        start = len(self.stack) - size
        self.stack[start:] = [tuple(self.stack[start:])]

    def append(self, _) -> None:
        value = self.stack.pop()
        self._extend([value])

    def appends(self, _) -> None:
        self._extend(self.pop_mark())

    def _extend(self, values) -> None:
        target = self.stack[-1]
        # Not to a subclass, which Pairs is; what is added to an unknown object is unknown too.
        if type(target) is list:
            target.extend(values)
        elif not isinstance(target, Unknown):
            raise ValueError("something is appended to what is no list")

    def set_item(self, _) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def set_items(self, _) -> None:
        self._update(self.pop_mark())

    def _update(self, items) -> None:
        target = self.stack[-1]
        target = target.items if isinstance(target, Unknown) else target
        if not isinstance(target, Pairs):
            raise ValueError("an item is set of what is no dict")
        target.extend(_pairs(items))

    def push_global(self, argument) -> None:
        if argument is None:
            name, module = self.stack.pop(), self.stack.pop()
        else:  # pickletools gives "module name"
            module, _, name = argument.partition(" ")
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("the name of a global is no string")
        if len(module) + len(name) > _MAX_NAME:
            raise ValueError("the name of a global is too long")
        self.push(Global(module, name))

    def reduce(self, _) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.call(function, arguments)

    def instance(self, argument) -> None:
        arguments = tuple(self.pop_mark())
        self.push_global(argument)
        self.call(self.stack.pop(), arguments)

    def obj(self, _) -> None:
        function, *arguments = self.pop_mark()
        self.call(function, tuple(arguments))

    def call(self, function, arguments) -> None:
        """Pushes the value of a call, where it is known without making it."""
        if not isinstance(arguments, tuple):
            raise ValueError("it calls a function with what are no arguments")
        if isinstance(function, Global) and function.name in _FROM_TYPE and len(arguments) == 4:
            function, _, arguments, _ = arguments  # (function, class, arguments, state)
        name = function.name if isinstance(function, Global) else None
        if not isinstance(arguments, tuple) or len(arguments) > _MAX_ARGUMENTS:
            self.push(Unknown(function))
        elif name == "collections.OrderedDict" and arguments:
            self.push(self.ordered_dict(*arguments))
        elif name in _FUNCTIONS:
            self.push(_FUNCTIONS[name](*arguments))
        else:
            self.push(Unknown(function))

    def ordered_dict(self, items) -> Pairs:
        """From a list of pairs, as Python 2 pickles it."""
        self.charge(4 * len(items))  # what it takes to build each item by operations
        if not all(isinstance(item, (list, tuple)) and len(item) == 2 for item in items):
            raise ValueError("an OrderedDict is not made of pairs")
        return Pairs(map(tuple, items))

    def new_object_with_keywords(self, _) -> None:
        self.stack.pop()
        self.reduce(None)

    def build(self, _) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Unknown):
            target.state = state
        # The attributes of dicts and tensors, such as OrderedDict's _metadata, hold no weights.

    def persistent(self, argument) -> None:
        identity = self.stack.pop() if argument is None else argument
        if not isinstance(identity, tuple) or len(identity) > _MAX_ARGUMENTS:
            raise ValueError("it refers to what is no storage")
        match identity:
            case ("storage", Global(_, kind), str(key), _, _):
                storage = Storage(key, kind)
            case ("storage", Global(_, kind), str(key), _, _, None):
                storage = Storage(key, kind)
            case ("storage", Global(_, kind), str(key), _, _, (_, offset, _)):
                storage = Storage(key, kind, offset)
            case ("module", kind, *_):  # a class with its source, which is not read
                self.push(kind)
                return
            case _:
                raise ValueError("it refers to what is no storage")
        self.storages.setdefault(key, storage)
        self.push(storage)

    def stop(self, _) -> None:
        raise _Stop(self.stack.pop())


def _pairs(items) -> Pairs:
    if len(items) % 2:
        raise ValueError("a key has no value")
    return Pairs(zip(items[::2], items[1::2], strict=True))


def _rebuild_tensor(storage, offset, shape, strides, _grad=None, _hooks=None, metadata=(), *_):
    return StoredTensor(storage, offset, shape, strides, None, *_bits(metadata))


def _rebuild_tensor_v3(storage, offset, shape, strides, _grad, _hooks, dtype, metadata=(), *_):
    if not isinstance(dtype, Global):
        raise ValueError("a tensor has no dtype")
    name = dtype.name.removeprefix("torch.")
    return StoredTensor(storage, offset, shape, strides, name, *_bits(metadata))


def _bits(metadata) -> tuple[bool, bool]:
    """PyTorch's conjugate and negative bits: views whose numbers are changed when they are read."""
    pairs = metadata if isinstance(metadata, Pairs) else ()
    names = [key for key, value in pairs if isinstance(key, str) and value is True]
    return "conj" in names, "neg" in names


def _first(value=(), *_):
    return value


_FUNCTIONS = {
    "collections.OrderedDict": Pairs,
    "torch.Size": _first,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch.nn.parameter.Buffer": _first,
}

_FROM_TYPE = ("torch._tensor._rebuild_from_type_v2", "torch.tensor._rebuild_from_type_v2")


def _constant(value):
    return lambda machine, _: machine.push(value)


def _new(create):
    """Values that can change are made anew each time."""
    return lambda machine, _: machine.push(create())


def _from_mark(create):
    return lambda machine, _: machine.push(create(machine.pop_mark()))


# By pickletools' names. Missing are the registry of extensions and buffers outside of the pickle.
_OPERATIONS = {
    **dict.fromkeys(
        (
            "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING"
            " SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE"
            " SHORT_BINUNICODE BINUNICODE BINUNICODE8"
        ).split(),
        _Machine.push,
    ),
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "EMPTY_LIST": _new(list),
    "EMPTY_DICT": _new(Pairs),
    "EMPTY_SET": _new(list),
    "EMPTY_TUPLE": _constant(()),
    "LIST": _from_mark(list),
    "DICT": _from_mark(_pairs),
    "FROZENSET": _from_mark(list),
    "TUPLE": _from_mark(tuple),
    "TUPLE1": lambda machine, _: machine.pop_tuple(1),
    "TUPLE2": lambda machine, _: machine.pop_tuple(2),
    "TUPLE3": lambda machine, _: machine.pop_tuple(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "MARK": _Machine.mark,
    "POP_MARK": _Machine.pop_mark,
    "POP": _Machine.pop,
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": _Machine.memoize,
    "GLOBAL": _Machine.push_global,
    "STACK_GLOBAL": _Machine.push_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.new_object_with_keywords,
    "INST": _Machine.instance,
    "OBJ": _Machine.obj,
    "BUILD": _Machine.build,
    "PERSID": _Machine.persistent,
    "BINPERSID": _Machine.persistent,
    "STOP": _Machine.stop,
}
