"""The layouts that libraries give their layers, by what a leaf is called and whose it is."""

import math
from typing import Any

from initjax.initializers.layout import Layout

_LARGEST_WINDOW = 16


def conventional_layout(path: str, shape: tuple[int, ...], owner: Any = None) -> Layout | None:
    """The layout of a leaf whose library leaves no doubt of it; None where one has to ask.

    - A layer of `equinox.nn` has (out, in, ...), and says its groups and strides.
    - Else "weight", and what belongs to an Equinox module of one's own, may be (in, out) or (out,
      in): None.
    - Else two axes are (in, out), as in Flax, Haiku and Keras.
    - More are a convolution (..., in, out) where "conv" is in the path, or where the window is
      square and odd, as long as it is no larger than 16 and not transposed or depthwise in a layout
      that differs between libraries. Other leaves may be attention's (features, heads, head size),
      its last projection, a stack of layers, or PyTorch's (out, in, height, width): None.

    Args:
      path: as "Block_0/Conv_0/kernel".
      shape: of the leaf.
      owner: the node of the tree that holds the leaf.
    """
    if "equinox" in {cls.__module__.partition(".")[0] for cls in type(owner).__mro__}:
        return _equinox(path.rpartition("/")[2], shape, owner)
    if len(shape) < 2:
        return Layout()
    if path.rpartition("/")[2] == "weight":
        return None
    return Layout() if len(shape) == 2 or _is_convolution(path.lower(), shape) else None


def _is_convolution(path, shape) -> bool:
    *window, inputs, outputs = shape
    named = "conv" in path
    if max(window) > _LARGEST_WINDOW or "transpose" in path:
        return False
    if "depthwise" in path and inputs > 1:  # Keras' (height, width, in, multiplier)
        return False
    if len(window) == 1:
        return named
    square = len(set(window)) == 1
    if inputs == outputs < window[0]:  # PyTorch's (16, 16, 3, 3)
        return False
    return (named and (square or 1 in window)) or (square and window[0] % 2 == 1)
    # Scanned convolutions have one axis more, (12, 3, 3, 64, 64), which is not square.


def _equinox(name, shape, owner) -> Layout | None:
    modules = {
        cls.__name__ for cls in type(owner).__mro__ if cls.__module__.startswith("equinox.nn")
    }
    num_axes = 2
    if len(shape) < num_axes:
        return Layout()
    if modules & {"Linear", "Embedding"} and name == "weight":
        layout = Layout.read("oi")
    elif modules & {"GRUCell", "LSTMCell"} and name in ("weight_ih", "weight_hh"):
        layout = Layout(1, 0, split=3 if "GRUCell" in modules else 4, num_axes=2)
    elif modules & {"Conv", "ConvTranspose"} and name == "weight":
        num_axes = 2 + owner.num_spatial_dims
        strides = tuple(owner.stride) if "ConvTranspose" in modules else ()
        transposed = strides if math.prod(strides) > 1 else False
        layout = Layout(1, 0, (), owner.groups, transposed, num_axes=num_axes)
    else:
        return None
    for _ in range(len(shape) - num_axes):  # made by filter_vmap
        layout = layout.stack()
    return layout
