"""Which axes of a model's parameters are inputs, outputs and stacks: found, known, or asked for.

They are found in the model's program (its jaxpr, which is followed but not run): a parameter's axes
that meet inputs in a product are inputs, those that go on are outputs, those that a scan or a batch
of products runs over are stacks.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.extend as jex
import numpy as np

from initjax.initializers.layout import Layout
from initjax.network.paths import named_leaves
from initjax.support.errors import UserError


def find_layouts(model: Any, params: Any, *inputs: Any, **kwargs: Any) -> dict[str, Layout]:
    """The layouts of a model's parameters, from its program.

    Dense layers, convolutions (grouped, dilated, transposed, with their strides), attention,
    `DenseGeneral` and `Einsum`, layers stacked by `scan` and `vmap`, experts, embeddings (whose
    inputs are their columns, see `fans`) and shared weights are told by what is computed with them,
    whatever library wrote it. Parameters that are only added or multiplied elementwise, such as
    biases, have no layout; neither have those that are used in two ways.

    Args:
      model: a Flax Linen or NNX module, or a function (params, *inputs).
      params: of a Linen module its variables or its parameters alone; of an NNX module an
        `nnx.State`, such as `nnx.state(model, nnx.Param)`; of a function what it takes first.
        Shapes are enough.
      *inputs: what the model is called with, or its shapes.
      **kwargs: of `model.apply` or the call, such as `train=True`.

    Returns:
      {path: layout}, the paths being those of `params`, as in `reinitialize`.

    Raises:
      UserError (a ValueError): a model that is none of these.

    >>> import flax.linen as nn
    >>> import jax.numpy as jnp
    >>> model = nn.MultiHeadDotProductAttention(num_heads=2)
    >>> x = jnp.ones((1, 5, 6))
    >>> params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    >>> layout = find_layouts(model, params, x)["query/kernel"]
    >>> layout.in_axis, layout.out_axis
    ((0,), (1, 2))
    """
    function = _function(model, params, kwargs)
    shapes = {path: np.shape(leaf) for path, leaf in named_leaves(params)}
    jaxpr = jax.make_jaxpr(function)(params, *inputs).jaxpr
    pieces = [_Value((_Piece.whole(path, shape),)) for path, shape in shapes.items()]
    roles = _Roles()
    data = [_Value(data=True)] * (len(jaxpr.invars) - len(pieces))
    _follow(jaxpr, [*pieces, *data], roles)
    found = {path: roles.layout(path, shape) for path, shape in shapes.items()}
    return {path: layout for path, layout in found.items() if layout is not None}


def _function(model, params, kwargs):
    if "flax" in _packages(model):
        from flax import linen, nnx

        if isinstance(model, linen.Module):
            whole = isinstance(params, Mapping) and "params" in params
            return lambda params, *inputs: model.apply(
                params if whole else {"params": params}, *inputs, **kwargs
            )
        if isinstance(model, nnx.Module):
            graph, state = nnx.split(model)

            def run(params, *inputs):
                return nnx.merge(graph, nnx.merge_state(state, params))(*inputs, **kwargs)

            return run
    if not callable(model):
        raise UserError(
            f"model={type(model).__name__} is no Flax module and no function (params, *inputs)."
        )
    return lambda params, *inputs: model(params, *inputs, **kwargs)


def _packages(value) -> set[str]:
    return {cls.__module__.partition(".")[0] for cls in type(value).__mro__}


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A parameter, or what was made of it alone: for each axis the parameter's axes that it holds.

    Attributes:
      path: of the parameter.
      axes: for each axis of the value its parts, the slowest first: (axes of the parameter, size).
      stacked: axes of the parameter that were indexed or scanned away.
    """

    path: str
    axes: tuple[tuple[tuple[frozenset[int], int], ...], ...]
    stacked: frozenset[int] = frozenset()

    @classmethod
    def whole(cls, path, shape) -> "_Piece":
        return cls(path, tuple(((frozenset([i]), n),) for i, n in enumerate(shape)))

    def names(self, axes) -> frozenset[int]:
        """The parameter's axes that these axes of the value hold."""
        return frozenset().union(*(part for i in axes for part, _ in self.axes[i]))

    def keep(self, axes) -> "_Piece":
        """The value with these of its axes, in this order; None: an axis that is not of it."""
        return dataclasses.replace(
            self, axes=tuple(() if i is None else self.axes[i] for i in axes)
        )

    def without(self, axes) -> "_Piece":
        """One slice of the value along `axes`, which stack."""
        rest = self.keep([i for i in range(len(self.axes)) if i not in axes])
        return dataclasses.replace(rest, stacked=self.stacked | self.names(axes))

    def resized(self, shape) -> "_Piece":
        """The value with its axes cut, joined or padded to other sizes."""
        axes = tuple(
            parts if math.prod(n for _, n in parts) == size else ((self.names([i]), size),)
            for i, (parts, size) in enumerate(zip(self.axes, shape, strict=True))
        )
        return dataclasses.replace(self, axes=axes)

    def reshaped(self, shape) -> "_Piece | None":
        """The value in another shape; None where that mixes its axes."""
        parts = [part for axis in self.axes for part in axis if part[1] != 1]
        axes = []
        for size in shape:
            axis = []
            while size > 1:
                names, n = parts.pop(0)
                taken = math.gcd(n, size)
                if taken == 1:
                    return None
                axis.append((names, taken))
                size //= taken
                if taken < n:  # a part of it, the slower one
                    parts.insert(0, (names, n // taken))
            axes.append(tuple(axis))
        return dataclasses.replace(self, axes=tuple(axes))


@dataclasses.dataclass(frozen=True)
class _Value:
    """What is known of a variable of the program: whether inputs are in it, or else parameters."""

    pieces: tuple[_Piece, ...] = ()
    data: bool = False


class _Roles:
    """How every parameter was seen to be used."""

    def __init__(self):
        self._axes = defaultdict(lambda: defaultdict(set))
        self._packing = defaultdict(set)

    def add(self, piece: _Piece, inputs, outputs, stacked=frozenset(), packing=(1, ())) -> None:
        """The parameter's axes by role in one use; and (groups, ((axis, stride), ...))."""
        uses = {"in": inputs, "out": outputs, "stacked": stacked | piece.stacked}
        for role, axes in uses.items():
            for axis in axes:
                self._axes[piece.path][axis].add(role)
        self._packing[piece.path].add(packing)

    def layout(self, path, shape) -> Layout | None:
        """None where an axis has no role or two."""
        if len(self._packing[path]) != 1:
            return None
        ((groups, strides),) = self._packing[path]
        axes = defaultdict(list)
        for axis, size in enumerate(shape):
            roles = self._axes[path][axis]
            if not roles and (size == 1 or axis in dict(strides)):
                roles = {"position"}
            if len(roles) != 1:
                return None
            axes[next(iter(roles))].append(axis)
        strides = tuple(dict(strides).get(axis, 1) for axis in axes["position"])
        return Layout(
            *(tuple(axes[role]) for role in ("in", "out", "stacked")),
            groups=groups,
            transposed=strides if math.prod(strides) > 1 else False,
            num_axes=len(shape),
        )


def _follow(jaxpr, arguments, roles) -> list[_Value]:
    """What is known of a program's results."""
    known = dict(zip(jaxpr.invars, arguments, strict=True))

    def read(variable) -> _Value:
        return _Value() if isinstance(variable, jex.core.Literal) else known.get(variable, _Value())

    for equation in jaxpr.eqns:
        results = _apply(equation, [read(variable) for variable in equation.invars], roles)
        known.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _apply(equation, operands, roles) -> list[_Value]:
    """What is known of an operation's results."""
    data = any(value.data for value in operands)
    if programs := _programs(equation, operands, data):
        results = [_follow(jaxpr, arguments, roles) for jaxpr, arguments in programs]
        if equation.primitive.name not in _CONTROL:
            return results[0]
    elif data:
        _use(equation, operands, roles)
    else:
        return [
            _Value(tuple(_made(equation, operands, result.aval.shape)))
            for result in equation.outvars
        ]
    return [_Value(data=data)] * len(equation.outvars)


_CONTROL = ("scan", "while", "cond")


def _programs(equation, operands, data) -> list[tuple[Any, list[_Value]]]:
    """The programs inside an operation, each with what is known of its arguments."""
    name, params = equation.primitive.name, equation.params
    carried = [_Value(data=True)] if data else [_Value()]
    if name == "scan":
        first, last = params["num_consts"], params["num_consts"] + params["num_carry"]
        slices = [
            _Value(tuple(piece.without([0]) for piece in x.pieces), x.data) for x in operands[last:]
        ]
        found = [(params["jaxpr"], [*operands[:first], *carried * (last - first), *slices])]
    elif name == "while":
        first = params["cond_nconsts"]
        last = first + params["body_nconsts"]
        number = len(operands) - last
        found = [(params["body_jaxpr"], [*operands[first:last], *carried * number])]
    elif name == "cond":
        found = [(branch, operands[1:]) for branch in params["branches"]]
    else:
        inner = next((params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in params), None)
        found = [] if inner is None else [(inner, operands)]
    return [
        (jaxpr, [_fitted(x, v.aval) for x, v in zip(values, jaxpr.invars, strict=True)])
        for jaxpr, values in ((getattr(jaxpr, "jaxpr", jaxpr), values) for jaxpr, values in found)
        if len(jaxpr.invars) == len(values)  # not those of kernels, which take references
    ]


def _fitted(value, aval) -> _Value:
    """A value as an argument; inside `shard_map` it is smaller."""
    shape = getattr(aval, "shape", ())
    fit = (piece.resized(shape) for piece in value.pieces if len(piece.axes) == len(shape))
    return _Value(tuple(fit), value.data)


def _made(equation, operands, shape) -> Iterator[_Piece]:
    """The pieces that are in a result of parameters alone."""
    for number, value in enumerate(operands):
        for piece in value.pieces:
            made = _moved(equation, number, piece, shape)
            if made is not None and len(made.axes) == len(shape):
                yield made.resized(shape)


def _moved(equation, number, piece, shape) -> _Piece | None:
    """What an operation on parameters alone makes of its operand."""
    name, params = equation.primitive.name, equation.params
    axes = range(len(piece.axes))
    if name == "reshape":
        dimensions = params["dimensions"]
        return (piece if dimensions is None else piece.keep(dimensions)).reshaped(shape)
    if name == "transpose":
        return piece.keep(params["permutation"])
    if name == "squeeze":
        return piece.without(params["dimensions"])
    if name == "broadcast_in_dim":
        kept: list[int | None] = [None] * len(shape)
        for axis, to in zip(axes, params["broadcast_dimensions"], strict=True):
            kept[to] = axis if equation.invars[0].aval.shape[axis] == shape[to] else None
        return piece.keep(kept)
    if name.startswith("reduce_") and "axes" in params:
        return piece.keep([i for i in axes if i not in params["axes"]])
    if name == "dot_general":
        contracted, batch = (dims[number] for dims in params["dimension_numbers"])
        free = [i for i in axes if i not in (*contracted, *batch)]
        others = [None] * (len(shape) - len(batch) - len(free))
        return piece.keep([*batch, *free, *others] if number == 0 else [*batch, *others, *free])
    if name == "gather" and number == 0:
        dims = params["dimension_numbers"]
        taken = piece.without(dims.collapsed_slice_dims)
        rest = iter(range(len(taken.axes)))
        return taken.keep(
            [next(rest) if i in dims.offset_dims else None for i in range(len(shape))]
        )
    return None if name in _MIXING else piece


_MIXING = ("conv_general_dilated", "gather", "fft", "triangular_solve")


def _use(equation, operands, roles) -> None:
    """Notes the roles of parameters in an operation with inputs."""
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        for number, value in enumerate(operands):
            contracted, batch = (dims[number] for dims in params["dimension_numbers"])
            for piece in value.pieces:
                free = [i for i in range(len(piece.axes)) if i not in (*contracted, *batch)]
                roles.add(piece, *map(piece.names, (contracted, free, batch)))
    elif name == "conv_general_dilated":
        outputs, inputs, *window = params["dimension_numbers"].rhs_spec
        for piece in operands[1].pieces:
            groups, stacked = params["feature_group_count"], set()
            parts = list(piece.axes[outputs])
            # What vmap has made groups of is a stack.
            while len(parts) > 1 and groups > 1 and groups % parts[0][1] == 0:
                names, size = parts.pop(0)
                stacked |= names
                groups //= size
            strides = zip(window, params["lhs_dilation"], strict=True)
            by_axis = [(axis, stride) for i, stride in strides for axis in piece.names([i])]
            made = frozenset().union(*(names for names, _ in parts))
            packing = (groups, tuple(sorted(by_axis)))
            roles.add(piece, piece.names([inputs]), made, frozenset(stacked), packing)
    elif name == "gather":  # a table, of which rows are looked up
        looked_up = params["dimension_numbers"].start_index_map
        for piece in operands[0].pieces:
            rest = [i for i in range(len(piece.axes)) if i not in looked_up]
            roles.add(piece, piece.names(rest), piece.names(looked_up))
