"""Arguments by which initializers are told their axes, and weights drawn with any axes."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, cast

import jax
import jax.numpy as jnp
import numpy as np

from initjax.initializers.fans import Axes, axes_tuple, fans
from initjax.support.arguments import count
from initjax.support.errors import UserError


class AxisArguments(TypedDict, total=False):
    """What a factory takes by `**axes: Unpack[AxisArguments]`; see `initjax.fans`."""

    in_axis: Axes
    out_axis: Axes
    batch_axis: Axes


class GroupArguments(AxisArguments, total=False):
    """For layers that may be several side by side."""

    groups: int
    split: int


class FanArguments(GroupArguments, total=False):
    """For all that has a fan."""

    transposed: Axes | bool


@dataclasses.dataclass(frozen=True, repr=False)
class AxisFields:
    """The fields behind `AxisArguments`."""

    in_axis: Axes = dataclasses.field(default=-2, kw_only=True)
    out_axis: Axes = dataclasses.field(default=-1, kw_only=True)
    batch_axis: Axes = dataclasses.field(default=(), kw_only=True)


@dataclasses.dataclass(frozen=True, repr=False)
class GroupFields(AxisFields):
    """The fields behind `GroupArguments`."""

    groups: int = dataclasses.field(default=1, kw_only=True)
    split: int = dataclasses.field(default=1, kw_only=True)


@dataclasses.dataclass(frozen=True, repr=False)
class FanFields(GroupFields):
    """The fields behind `FanArguments`."""

    transposed: Axes | bool = dataclasses.field(default=False, kw_only=True)


# What a factory's signature shows in place of `**fan`.
DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(FanFields)}


def check_axes(initializer: Any) -> None:
    """Checks those of the fields above that an initializer has, and makes them hashable."""
    for name in ("in_axis", "out_axis", "batch_axis"):
        if hasattr(initializer, name):
            axes = axes_tuple(getattr(initializer, name), name)
            object.__setattr__(initializer, name, axes[0] if len(axes) == 1 else axes)
    for name in ("groups", "split"):
        if hasattr(initializer, name):
            object.__setattr__(initializer, name, count(getattr(initializer, name), name))
    if isinstance(strides := getattr(initializer, "transposed", False), Sequence):
        object.__setattr__(initializer, "transposed", axes_tuple(strides, "transposed"))


def fan_arguments(initializer: Any) -> FanArguments:
    """The arguments by which an initializer was told its axes."""
    told = {name: getattr(initializer, name, default) for name, default in DEFAULTS.items()}
    return cast(FanArguments, {name: v for name, v in told.items() if v != DEFAULTS[name]})


def axis_roles(
    shape: Sequence[int], in_axis: Axes, out_axis: Axes, batch_axis: Axes
) -> tuple[tuple[int, ...], ...]:
    """The axes of an array that are (batch, positions, inputs, outputs), counted from 0.

    Raises:
      UserError (a ValueError): axes that `shape` does not have, or one axis in two roles.
    """
    fans(shape, in_axis, out_axis, batch_axis)  # checks them
    batch, inputs, outputs = (
        tuple(axis % len(shape) for axis in axes_tuple(axes, name))
        for axes, name in (
            (batch_axis, "batch_axis"),
            (in_axis, "in_axis"),
            (out_axis, "out_axis"),
        )
    )
    named = {*batch, *inputs, *outputs}
    return batch, tuple(i for i in range(len(shape)) if i not in named), inputs, outputs


def draw_arranged(
    draw: Callable[..., Any],
    key: jax.Array,
    shape: Sequence[int],
    batch: Sequence[int],
    merged: Sequence[Sequence[int]],
) -> jax.Array:
    """An array of `shape` from `draw(key, other shape)`.

    Args:
      draw: knows only arrays without batch axes, in which each of `merged` is one axis.
      key: a PRNG key; each slice along the batch axes has its own.
      shape: of the array.
      batch: its batch axes.
      merged: its other axes, in the order of `draw`.
    """
    order = [*batch, *(axis for axes in merged for axis in axes)]
    drawn = tuple(math.prod(shape[axis] for axis in axes) for axes in merged)
    if batch:
        w = draw_each(lambda key: draw(key, drawn), key, math.prod(shape[i] for i in batch))
    else:
        w = draw(key, drawn)
    return w.reshape([shape[i] for i in order]).transpose(np.argsort(order))


def draw_each(draw: Callable[[jax.Array], Any], key: jax.Array, number: int) -> Any:
    """`draw` with a key of its own for each of `number` slices."""

    def draw_slice(layer):
        return draw(jax.random.fold_in(key, layer))

    layers = jnp.arange(number, dtype=np.uint32)
    # Only threefry gives a slice the same weights under vmap as alone.
    if "fry" in str(jax.random.key_impl(key)):
        return jax.vmap(draw_slice)(layers)
    return jax.lax.map(draw_slice, layers)


def draw_side_by_side(
    draw: Callable[..., Any], key: jax.Array, shape: tuple[int, ...], parts: int
) -> jax.Array:
    """Weights of `shape` from `draw(key, shape of a part)`: so many layers along the outputs.

    Raises:
      UserError (a ValueError): parts that do not divide the outputs.
    """
    if parts == 1:
        return draw(key, shape)
    *others, outputs = shape
    if outputs % parts:
        raise UserError(f"{parts} groups do not divide the {outputs} outputs of {tuple(shape)}.")
    w = draw_each(lambda key: draw(key, (*others, outputs // parts)), key, parts)
    return jnp.moveaxis(w, 0, -2).reshape(shape)
