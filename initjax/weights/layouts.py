"""Which axes of a tensor are inputs, outputs, positions of a kernel, and layers in a stack.

A word with a letter an axis says it: `i` for inputs, `o` for outputs, `h`, `w` and `d` for the
positions of a kernel, `s` for layers (or experts) that are stacked. "hwio" are convolutions of Flax
and "oihw" those of PyTorch, "iohw" its transposed ones, "ioo" projections to several heads (in,
heads, head size), "iio" those back, "sio" dense layers under `nn.scan`, "oi" embeddings, of which a
row is looked up.

A file does not say it. The names that frameworks give and the shapes of biases, which are those of
the outputs, tell most; the rest is left to whoever knows.
"""

import re
from collections.abc import Mapping

import numpy as np

from initjax.support.errors import UserError
from initjax.weights.tensors import Tensor

_POSITIONS = "hwd"
_MAX_POSITIONS = 32  # along an axis of an image's kernel: the patches of vision transformers

# Readings by the framework's habit and the number of axes: first what is meant if nothing speaks
# against it, where there is such a one.
_READINGS = {
    "flax": {
        2: ("io", "oi"),
        3: (None, "wio", "sio", "ioo", "iio"),
        4: ("hwio", "hwoi", "swio", "sioo", "siio"),
        5: ("dhwio", "dhwoi", "shwio"),
    },
    "torch": {
        2: ("oi", "io"),
        3: ("oiw", "iow"),
        4: ("oihw", "iohw"),
        5: ("oidhw", "iodhw"),
    },
}
_FLAX_LEAVES = ("kernel", "w")
_EMBEDDING = re.compile(r"embedding|embeddings|embed|wte|wpe")
_TO_HEADS = re.compile(r"(^|[._])(q|k|v|query|key|value)(_proj)?$", re.I)
_FROM_HEADS = re.compile(r"(^|[._])(out|output|o_proj|out_proj)$", re.I)
# What the name of a module says of its axes, where they may be several things.
_NAMED = (
    (re.compile(r"transpose|deconv", re.I), ("iow", "iohw", "iodhw")),
    (_TO_HEADS, ("ioo", "sioo")),
    (_FROM_HEADS, ("iio", "siio")),
    (re.compile(r"dense_?general", re.I), ("ioo", "iio", "sioo", "siio")),
    (re.compile(r"conv", re.I), ("wio", "swio", "hwio", "shwio", "dhwio", "oiw", "oihw", "oidhw")),
    (re.compile(r"scan|stack|experts?", re.I), ("sio",)),
)


def parse_axes(text: str) -> dict[int, str]:
    """The words of a user, "hwio" or "oihw,oi", by their numbers of axes.

    Raises:
      UserError: a word that is no layout, or two for one number of axes.
    """
    words: dict[int, str] = {}
    for word in filter(None, text.lower().replace(" ", "").split(",")):
        positions = [letter for letter in word if letter in _POSITIONS]
        if not {"i", "o"} <= set(word) <= set("ios" + _POSITIONS) or len(positions) != len(
            set(positions)
        ):
            raise UserError(
                f"{word!r:.40} is no layout: a letter an axis, i for inputs, o for outputs,"
                " h, w, d for a kernel's positions, s for stacked layers, such as hwio or oihw."
            )
        if words.setdefault(len(word), word) != word:
            raise UserError(f"{words[len(word)]} and {word} are two layouts of {len(word)} axes.")
    return words


def find_axes(tensor: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The layout of a tensor of two or more axes; None where several are as likely.

    Args:
      tensor: of a checkpoint; a layout of "torch" is what the format says, or its names.
      shapes: of all tensors of the checkpoint by path, for the bias beside it.
    """
    module, _, leaf = tensor.path.replace("/", ".").rpartition(".")
    shape, number = tensor.shape, len(tensor.shape)
    bias = _bias(tensor.path, leaf, shapes)
    flax, torch = (
        _choose(readings.get(number, (None,)), shape, bias, module)
        for readings in _READINGS.values()
    )
    if number == 2 and _EMBEDDING.fullmatch(leaf):
        return "oi"
    if tensor.layout == "torch":
        if number == 3 and "expert" in module:
            return None  # (experts, out, in) is as usual as (experts, in, out)
        return torch
    if number == 2:
        told = bias is not None or leaf in _FLAX_LEAVES or shape[0] == shape[1]
        return flax if told else None
    if number == 3:
        return flax
    if bias is None and (_TO_HEADS.search(module) or _FROM_HEADS.search(module)):
        return None  # the stack's axis may be any
    # Most kernels of images are square. That finds another framework's, under whatever names.
    readings = [word for word in (flax, torch) if word]
    if len(readings) > 1:
        square = [word for word in readings if len(set(_sizes(word, shape, _POSITIONS))) == 1]
        if leaf in _FLAX_LEAVES:
            return flax if flax in square or not square else None
        return square[0] if len(square) == 1 else None
    return readings[0] if readings else None


def as_kernel(values: np.ndarray, axes: str) -> np.ndarray:
    """A tensor as (positions..., in, out); a stack's layers have output channels of their own."""
    order = sorted(range(len(axes)), key=lambda axis: "hwdiso".index(axes[axis]))
    positions = [n for n, axis in zip(values.shape, axes, strict=True) if axis in _POSITIONS]
    inputs = int(np.prod(_sizes(axes, values.shape, "i")))
    return values.transpose(order).reshape(*positions, inputs, -1)


def _bias(path: str, leaf: str, shapes) -> tuple[int, ...] | None:
    """The shape of the bias that belongs to a tensor."""
    before = path[: len(path) - len(leaf)]
    names = {re.sub("kernel|weight", "bias", leaf, count=1), "bias", "b"} - {leaf}
    found = {shapes[before + name] for name in names if before + name in shapes}
    return found.pop() if len(found) == 1 else None


def _sizes(word: str, shape, letters: str) -> list[int]:
    return [n for n, letter in zip(shape, word, strict=True) if letter in letters]


def _choose(readings, shape, bias, module: str) -> str | None:
    """The one reading that shape, bias and the module's name leave; None for none or several."""
    usual = readings[0]
    readings = [word for word in readings if word and _is_possible(word, shape, bias)]
    for name, words in _NAMED:
        if name.search(module) and (named := [word for word in readings if word in words]):
            readings = named
            break
    if usual in readings:
        return usual
    return readings[0] if len(readings) == 1 else None


def _is_possible(word: str, shape, bias) -> bool:
    """Whether kernels of images are small, and a bias has the shape of the outputs."""
    positions = _sizes(word, shape, _POSITIONS)
    if len(positions) > 1 and max(positions) > _MAX_POSITIONS:
        return False
    # Only a bias tells a stack of layers, and kernels that are turned, from the usual.
    return word[0] != "s" if bias is None else tuple(_sizes(word, shape, "so")) == bias
