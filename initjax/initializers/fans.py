"""How many inputs and outputs one weight array connects."""

import collections
import math
import operator
from collections.abc import Sequence

from initjax.support.errors import UserError

Axes = int | Sequence[int]

MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")


def axes_tuple(axes: Axes, name: str) -> tuple[int, ...]:
    """`axes` as a tuple of ints; UserError names the argument that is not."""
    try:
        if isinstance(axes, Sequence):
            return tuple(operator.index(axis) for axis in axes)
        return (operator.index(axes),)
    except TypeError:
        raise UserError(f"{name}={axes!r} is neither an int nor a sequence of ints.") from None


def fans(
    shape: Sequence[int],
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    *,
    groups: int = 1,
    transposed: Axes | bool = False,
    split: int = 1,
) -> tuple[float, float]:
    """Number of inputs and outputs that a weight array of `shape` connects.

    With the axes split into input I, output O, batch B and the rest R (the receptive field of a
    convolution),

        fan_in = prod(I) prod(R) / prod(strides),   fan_out = prod(O) prod(R) / (groups split).

    Batch axes count in neither.

    | layer | weights | call |
    |---|---|---|
    | dense | (in, out) | `fans(shape)` |
    | convolution | (height, width, in, out) | `fans(shape)` |
    | grouped, depthwise | (height, width, in / groups, out) | `fans(shape, groups=groups)` |
    | transposed convolution | (height, width, in, out) | `fans(shape, transposed=strides)` |
    | packed projections, as of Q, K, V | (d, 3 d) | `fans(shape, split=3)` |
    | several heads | (d, heads, head size) | `fans(shape, in_axis=0, out_axis=(1, 2))` |
    | embedding | (vocabulary, d) | `fans(shape, in_axis=1, out_axis=0)` |
    | bias, gate | (d,) | `fans(shape, in_axis=0, out_axis=())` |

    The inputs of an embedding are its d columns: a row is looked up, not summed over the
    vocabulary, so a variance of 1 / fan_in makes rows of unit length.

    Args:
      shape: the shape of the weights, (in, out) for a dense layer, (height, width, in, out) for a
        convolution.
      in_axis: axis or axes of the inputs.
      out_axis: axis or axes of the outputs.
      batch_axis: axis or axes along which independent layers are stacked.
      groups: groups of a convolution whose input axis holds the inputs of one group only and whose
        output axis holds the outputs of all; a depthwise one has as many as it has inputs. An input
        then meets only out / groups outputs.
      transposed: strides of a transposed convolution, one for every axis of the receptive field or
        an int for all of them; False for any other layer. An output meets one position of the
        kernel in prod(strides), on average over the positions of the output.
      split: how many layers of equal width are packed side by side along the output axes.

    Returns:
      (fan_in, fan_out); ints, but where the strides do not divide the receptive field.

    Raises:
      UserError (a ValueError): an axis that `shape` does not have, one axis in two roles, groups or
        split that do not divide the outputs, or strides that do not fit the receptive field.

    >>> fans((3, 3, 16, 32))
    (144, 288)
    >>> fans((3, 3, 1, 64), groups=64)
    (9, 9)
    >>> fans((4, 4, 16, 32), transposed=2)
    (64, 512)
    >>> fans((512, 1536), split=3)
    (512, 512)
    """
    shape = tuple(shape)
    named_axes = {"in_axis": in_axis, "out_axis": out_axis, "batch_axis": batch_axis}
    roles: dict[int, str] = {}
    sizes = {}
    for name, axes in named_axes.items():
        sizes[name] = 1
        for axis in axes_tuple(axes, name):
            if not -len(shape) <= axis < len(shape):
                raise UserError(
                    f"{name}={axes!r} names an axis that the shape {shape} does not have."
                    " Weights of one axis, as biases are, need in_axis=0, out_axis=()."
                )
            positive = axis % len(shape)
            if positive in roles:
                raise UserError(
                    f"Axis {positive} of the shape {shape} is named twice, by {roles[positive]} and"
                    f" by {name}={axes!r}; each axis has one role."
                )
            roles[positive] = name
            sizes[name] *= shape[positive]
    receptive_field = [n for axis, n in enumerate(shape) if axis not in roles]
    outputs = sizes["out_axis"]
    for name, parts in (("groups", groups), ("split", split)):
        if outputs % _positive_int(parts, name):
            raise UserError(
                f"{name}={parts} does not divide the {sizes['out_axis']} outputs of {shape}."
            )
        outputs //= parts
    fan_in = sizes["in_axis"] * math.prod(receptive_field)
    stride = _stride(transposed, receptive_field, shape)
    if stride > 1:
        fan_in = fan_in // stride if fan_in % stride == 0 else fan_in / stride
    return fan_in, outputs * math.prod(receptive_field)


def _positive_int(value, name: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise UserError(f"{name}={value!r} is not an int.") from None
    if number < 1:
        raise UserError(f"{name}={value!r} must be at least 1.")
    return number


def _stride(transposed, receptive_field, shape) -> int:
    """The product of the strides of a transposed convolution; 1 for any other layer."""
    if transposed is False or transposed is None:
        return 1
    if transposed is True:
        raise UserError("transposed=True: give the strides, such as transposed=2 or (2, 2).")
    strides = axes_tuple(transposed, "transposed")
    for stride in strides:
        _positive_int(stride, "transposed")
    if isinstance(transposed, (list, tuple)):
        fits = len(strides) == len(receptive_field)
    else:
        fits = bool(receptive_field)
        strides = strides * len(receptive_field)
    if not fits:
        raise UserError(
            f"transposed={transposed!r} does not fit the {len(receptive_field)} axes of the"
            f" receptive field of {shape}."
        )
    return math.prod(strides)


def axes_from_einsum(equation: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The (in_axis, out_axis, batch_axis) of the weights of `equation`; see `fans_from_einsum`.

    They are what a factory takes: an initializer for this einsum is
    `he_normal(in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis)`.

    >>> axes_from_einsum("bld,dnh->blnh")
    ((0,), (1, 2), ())
    """
    refusal = f"equation={equation!r}"
    operands, arrow, result = str(equation).replace(" ", "").partition("->")
    inputs, comma, weights = operands.partition(",")
    if not (arrow and comma and "," not in weights):
        raise UserError(f"{refusal} is not of the form 'inputs,weights->outputs'.")
    # An ellipsis stands for axes of the inputs that the weights do not have.
    for part in (inputs.replace("...", "", 1), result.replace("...", "", 1), weights):
        if part and not (part.isascii() and part.isalpha()):
            raise UserError(f"{refusal}: {part!r} is not a row of letters.")
    repeated = [letter for letter, n in collections.Counter(weights).items() if n > 1]
    if repeated:
        raise UserError(f"{refusal}: the weights repeat {repeated[0]!r}.")
    axes: dict[tuple[bool, bool], list[int]] = {}
    for axis, letter in enumerate(weights):
        role = (letter in inputs, letter in result)
        if role == (False, False):
            raise UserError(
                f"{refusal}: the axis {letter!r} of the weights is in neither inputs nor outputs."
            )
        axes.setdefault(role, []).append(axis)
    for letter in result.replace("...", ""):
        if letter not in inputs + weights:
            raise UserError(f"{refusal}: the axis {letter!r} of the outputs comes from nowhere.")
    roles = ((True, False), (False, True), (True, True))
    in_axis, out_axis, batch_axis = (tuple(axes.get(role, ())) for role in roles)
    return in_axis, out_axis, batch_axis


def fans_from_einsum(equation: str, shape: Sequence[int]) -> tuple[float, float]:
    """Number of inputs and outputs that the weights of an einsum connect.

    An axis of the weights that is contracted with the inputs is an input axis, one that appears in
    the outputs an output axis, and one that inputs, weights and outputs share is a batch axis: one
    independent layer for every value of it.

    Args:
      equation: "inputs,weights->outputs", as `jnp.einsum` reads it; the inputs and outputs may have
        an ellipsis.
      shape: the shape of the weights, the second operand.

    Returns:
      (fan_in, fan_out).

    Raises:
      UserError (a ValueError): an equation of another form, or one that does not fit `shape`.

    >>> fans_from_einsum("bld,dnh->blnh", (512, 8, 64))
    (512, 512)
    >>> fans_from_einsum("ecd,edf->ecf", (16, 512, 2048))  # 16 experts
    (512, 2048)
    """
    in_axis, out_axis, batch_axis = axes_from_einsum(equation)
    shape = tuple(shape)
    num_axes = len(in_axis) + len(out_axis) + len(batch_axis)
    if num_axes != len(shape):
        raise UserError(
            f"equation={equation!r} gives the weights {num_axes} axes; the shape {shape} has"
            f" {len(shape)}."
        )
    return fans(shape, in_axis, out_axis, batch_axis)


def effective_fan(mode: str, fan_in: float, fan_out: float) -> float:
    """The n in Var = scale / n that `mode` chooses."""
    if mode == "fan_in":
        return fan_in
    if mode == "fan_out":
        return fan_out
    if mode == "fan_avg":
        return (fan_in + fan_out) / 2
    return math.sqrt(fan_in * fan_out)


def gate_size(gates: int, shape: tuple[int, ...]) -> int:
    """The size of each of so many gates, which are packed along the last axis."""
    if shape[-1] % gates:
        raise UserError(f"gates={gates} does not divide the last axis of {shape}.")
    return shape[-1] // gates
