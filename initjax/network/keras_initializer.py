"""Initializers for Keras 3: made for init(shape, dtype), saved with the model.

Importing this registers the class with Keras, so that a saved model can be loaded.
"""

import math
import os
import random
from collections.abc import Callable
from typing import Any

import jax

from initjax.initializers.base import Initializer
from initjax.initializers.catalog import get
from initjax.initializers.fans import axes_from_einsum
from initjax.initializers.layout import Layout, laid_out
from initjax.network.conventions import conventional_layout
from initjax.support.arguments import count
from initjax.support.errors import UserError
from initjax.support.extras import need

need("interop", "keras")
os.environ.setdefault("KERAS_BACKEND", "jax")  # read once, when Keras is first imported

import keras  # noqa: E402 - the line above comes first
from keras.src.backend.common import global_state  # noqa: E402 - which layer asks is nowhere else


def for_keras(
    init: str | Callable[..., Any], *, seed: int | None = None, layout: str | None = None
) -> "KerasInitializer":
    """`keras.layers.Dense(8, kernel_initializer=for_keras("nspl"))`: an initializer for Keras 3.

    The layer that asks tells its axes: convolutions, grouped, transposed, depthwise and separable
    ones, `EinsumDense` by its equation, and so `MultiHeadAttention`, and the gates of LSTM and GRU.
    Of weights of a layer of your own with three axes or more, `layout` tells them.

    Args:
      init: an initializer, by name or by value; any init(key, shape, dtype).
      seed: of the key, `jax.random.key(seed)`: equal shapes then get equal weights, as from Keras'
        own initializers. Default: another one at each call, from Python's `random`, which
        `keras.utils.set_random_seed` seeds.
      layout: the roles of axes, see `Layout`; default: those of the layer.

    Raises:
      UserError (a ValueError): an unknown initializer; Keras with another backend than JAX; when it
        is called, weights whose axes are not known; when the model is saved, an initializer that is
        not of initjax, which has no text to save.
    """
    return KerasInitializer(init, seed, layout)


@keras.saving.register_keras_serializable("initjax")
class KerasInitializer(keras.initializers.Initializer):
    """See `for_keras`."""

    def __init__(
        self, init: str | Callable, seed: int | None = None, layout: str | None = None
    ) -> None:
        if keras.backend.backend() != "jax":
            raise UserError(
                f"Keras runs on {keras.backend.backend()}: its weights are no JAX arrays.\n"
                "Set KERAS_BACKEND=jax before Keras is imported."
            )
        self.init, self.layout = get(init), layout and Layout.read(layout)
        self._seed = None if seed is None else count(seed, "seed", 0)
        self._layout_text = layout

    def __call__(self, shape, dtype=None) -> jax.Array:
        seed = random.getrandbits(32) if self._seed is None else self._seed
        shape = tuple(shape)
        layout = self.layout or _layout_of(_asking_layer(), shape)
        if layout is None:
            raise UserError(
                f"{self.init!r}: which axes of weights {shape} are inputs is not known.\nGive"
                " initjax.for_keras(..., layout='ioo'), a letter an axis: i input, o output, s"
                " stacked, another a position."
            )
        return laid_out(self.init, layout)(jax.random.key(seed), shape, dtype)

    def get_config(self) -> dict:
        if not isinstance(self.init, Initializer):
            raise UserError(f"{self.init!r} is not of initjax: it has no text to save.")
        return {"init": repr(self.init), "seed": self._seed, "layout": self._layout_text}


def _asking_layer() -> keras.Layer | None:
    """The layer whose weights are being made."""
    scopes = global_state.get_global_attribute("name_scope_stack") or []
    return next((scope.caller for scope in reversed(scopes) if scope.caller is not None), None)


def _layout_of(layer, shape) -> Layout | None:
    """The layout of the weights of a layer; None where neither it nor convention tells."""
    kinds = {cls.__name__ for cls in type(layer).__mro__ if cls.__module__.startswith("keras.")}
    if "EinsumDense" in kinds and len(shape) > 1:
        return Layout(*axes_from_einsum(layer.equation), num_axes=len(shape))
    if kinds & {"LSTMCell", "GRUCell"} and len(shape) == 2:
        return Layout(split=shape[1] // layer.units)
    if len(shape) < 3:
        return Layout()
    if "BaseConv" in kinds:
        return Layout(groups=layer.groups)
    if "BaseConvTranspose" in kinds:
        strides = tuple(layer.strides)
        return Layout(-1, -2, transposed=strides if math.prod(strides) > 1 else False)
    # Made before the pointwise kernel (1, 1, in, out) of a separable convolution.
    is_first = getattr(layer, "depthwise_kernel", None) is None
    if "BaseDepthwiseConv" in kinds or ("BaseSeparableConv" in kinds and is_first):
        return Layout((), (-2, -1), groups=shape[-2])  # (height, width, in, multiplier)
    if "BaseSeparableConv" in kinds:
        return Layout()
    return conventional_layout(getattr(layer, "path", "") or "", shape)
