"""Which axes of two networks of other widths stand for the same units, told by their sizes.

Axes of one size in the one network and one size in the other are one set of units wherever they
stand: what a layer puts out, what the next one takes, and what is added to it. So a choice of units
that holds for a set is consistent whatever the network's wiring.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from initjax.initializers.layout import Layout
from initjax.network.conventions import conventional_layout
from initjax.support.arguments import count
from initjax.support.errors import UserError

# Layers of attention, by Flax's names and others'.
_LAST = r"[aA]ttention.*/out(/|$)|(^|/)o_proj(/|$)"
_ATTENTION = rf"(^|/)(query|key|value|[qkv]_proj)(/|$)|{_LAST}"


class Units(NamedTuple):
    """A set of units.

    Attributes:
      source, target: how many there are in the trained network, and in the new one.
      heads: whether they are those of attention's heads, side by side.
    """

    source: int
    target: int
    heads: bool = False


class Axis(NamedTuple):
    """An axis that has another size in the new network.

    Attributes:
      axis: of the leaf.
      units: that it holds.
      repeats: how many times, the units running faster: positions of an image that was flattened.
      is_input: whether the leaf sums over it.
    """

    axis: int
    units: Units
    repeats: int
    is_input: bool

    def spread(self, index: np.ndarray) -> np.ndarray:
        """Indices of the axis, from indices of its units."""
        positions = np.arange(self.repeats)[:, None] * self.units.source
        return (positions + index).reshape(-1)


def changed_axes(params: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, list[Axis]]:
    """Of every leaf of `params` that `source` has, the axes whose size differs.

    Raises:
      UserError (a ValueError): a leaf with another number of axes, or with more than two axes of
        which it is not known which are inputs.
    """
    found: dict[str, list[tuple[int, Units, bool]]] = {}
    for path, leaf in params.items():
        if path not in source:
            continue
        new, old = np.shape(leaf), np.shape(source[path])
        if len(new) != len(old):
            raise UserError(f"{path}: shapes {old} of the source and {new} have other axes.")
        axes = [axis for axis in range(len(new)) if new[axis] != old[axis]]
        inputs = input_axes(path, new) if axes else ()
        found[path] = [
            (axis, Units(old[axis], new[axis], _is_of_heads(path, new, axis)), axis in inputs)
            for axis in axes
        ]
    own = {units for axes in found.values() for _, units, is_input in axes if not is_input}
    return {
        path: [
            Axis(axis, *_repeated(units, own, is_input), is_input) for axis, units, is_input in axes
        ]
        for path, axes in found.items()
    }


def input_axes(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes over which a leaf sums: none of biases and scales."""
    if len(shape) < 2:
        return ()
    if re.search(_ATTENTION, path) and len(shape) == 3:
        layout = Layout.read("iio" if re.search(_LAST, path) else "ioo")
    else:
        layout = conventional_layout(path, shape)
    if layout is None:
        raise UserError(f"{path}, shape {shape}: which axes are inputs is not known.")
    return layout.roles(shape)[2]


def _is_of_heads(path, shape, axis) -> bool:
    """Whether units of heads lie side by side on this axis; apart they are axes of their own."""
    return len(shape) <= 2 and is_inside_attention(path, shape, axis)


def is_inside_attention(path: str, shape: tuple[int, ...], axis: int) -> bool:
    """Whether an axis is of heads or their features, and not of what comes in or goes out."""
    if not re.search(_ATTENTION, path):
        return False
    is_input = axis in input_axes(path, shape)
    return is_input if re.search(_LAST, path) else not is_input


def _repeated(units, own, is_input) -> tuple[Units, int]:
    if is_input and units not in own:
        for other in sorted(own):
            repeats, rest = divmod(units.source, other.source)
            if not rest and not other.heads and other.target * repeats == units.target:
                return other, repeats
    return units, 1


def evenly(source: int, target: int) -> np.ndarray:
    """`target` of `source` indices: every n-th, or evenly spaced and rounded.

    >>> evenly(10, 4), evenly(12, 5), evenly(6, 3)
    (array([0, 3, 6, 9]), array([ 0,  3,  6,  8, 11]), array([0, 2, 4]))
    """
    if source % target == 0:
        return np.arange(target) * (source // target)
    return np.round(np.linspace(0, source - 1, target)).astype(int)


def check_heads(heads: Any) -> tuple[int, int] | None:
    """(number of heads of the source, number here), if they are given."""
    if heads is None:
        return None
    try:
        source, target = heads
    except (TypeError, ValueError):
        raise UserError(f"heads={heads!r} is not (heads of the source, heads here).") from None
    return count(source, "heads"), count(target, "heads")


def size_of_heads(units: Units, heads: tuple[int, int] | None) -> tuple[int, int]:
    """Features of a head (in the source, here).

    Raises:
      UserError (a ValueError): heads that are not given, or do not divide the features.
    """
    if heads is None:
        raise UserError(
            f"Attention of {units.source} and {units.target} features has heads, which are taken"
            " whole.\nSay how many there are: heads=(heads of the source, heads here)."
        )
    if units.source % heads[0] or units.target % heads[1]:
        raise UserError(f"heads={heads} do not divide {units.source} and {units.target} features.")
    return units.source // heads[0], units.target // heads[1]


def in_heads(units: Units, heads: tuple[int, int] | None, chosen: np.ndarray) -> np.ndarray:
    """Indices of the features of the chosen heads, evenly spaced within each."""
    old, new = size_of_heads(units, heads)
    if new > old:
        raise UserError(f"heads={heads}: a head has {old} features, fewer than {new}.")
    return (chosen[:, None] * old + evenly(old, new)).reshape(-1)


def check_narrower(path: str, source: tuple[int, ...], target: tuple[int, ...]) -> None:
    """UserError where a leaf has an axis that is larger than the source's."""
    if any(new > old for new, old in zip(target, source, strict=True)):
        raise UserError(f"{path}: the source's shape {source} is smaller than {target}.")


def fan_factor(path: str, source: tuple[int, ...], target: tuple[int, ...]) -> float:
    """sqrt(inputs in the source / inputs here), which keeps the size of what is put out."""
    inputs = input_axes(path, target) if source != target else ()
    return math.prod(source[i] / target[i] for i in inputs) ** 0.5
