"""A deeper network that computes what the trained one does."""

import dataclasses
from typing import Any

import numpy as np

from initjax.network.depth_warm_start import DepthWarmStart, layers_of
from initjax.network.warm_starts import WarmStart, register
from initjax.support.errors import UserError


@register("net2net_deeper")
@dataclasses.dataclass(frozen=True, repr=False)
class Net2NetDeeper(WarmStart):
    """Net2DeeperNet (Chen, Goodfellow & Shlens 2015, arXiv:1511.05641, section 2.3).

    New layers are identities: a unit matrix, of a convolution at its centre, and a bias of 0. The
    output is the source's where the activation before a new layer is ReLU, of which f(f(x)) is
    f(x), and no normalization comes with it.

    Attributes:
      layers: pairs (layer here, layer of the source), as "Conv_2" and "Conv_1"; the others are new.
        Where none are given, those of `DepthWarmStart`: right for a stack of layers, and not where
        a pooling stands between layers of one shape.

    Raises:
      UserError (a ValueError): pairs that are none; when it is called, a new layer that cannot be
        an identity, or a layer of the source that is not used.
    """

    layers: Any = ()

    def __post_init__(self) -> None:
        try:
            pairs = tuple((str(new), str(old)) for new, old in dict(self.layers).items())
        except (TypeError, ValueError):
            raise UserError(f"layers={self.layers!r} are no pairs (here, in the source).") from None
        object.__setattr__(self, "layers", pairs)

    def take(self, params: Any, source: Any) -> Any:
        taken = (
            self._given(params, source)
            if self.layers
            else DepthWarmStart(None).take(params, source)
        )
        used = {origin for _, origin in taken.values()}
        if unused := [path for path in source if path not in used]:
            raise UserError(
                f"{unused[0]} of the source has no place here: the output would change."
            )
        new = {path for path in params if path not in taken}
        for layer, arrays in layers_of({path: params[path] for path in new}).items():
            for name, leaf in arrays.items():
                shape = np.shape(leaf)
                taken[f"{layer}/{name}" if layer else name] = (_identity(layer, shape), "identity")
        return taken

    def _given(self, params, source):
        taken = {}
        for new, old in self.layers:
            arrays = {path: x for path, x in source.items() if path.rpartition("/")[0] == old}
            if not arrays:
                raise UserError(f"layers: the source has no {old}.")
            for origin, array in arrays.items():
                path = f"{new}/{origin.rpartition('/')[2]}"
                if path not in params or np.shape(params[path]) != np.shape(array):
                    here = np.shape(params[path]) if path in params else "not there"
                    raise UserError(f"layers: {origin} is {np.shape(array)}, and {path} is {here}.")
                taken[path] = (array, origin)
        return taken


def _identity(layer, shape) -> np.ndarray:
    array = np.zeros(shape)
    if len(shape) < 2:
        return array
    *window, inputs, outputs = shape
    if inputs != outputs or not all(size % 2 for size in window):
        raise UserError(f"The new layer {layer}, of shape {shape}, cannot be an identity.")
    array[tuple(size // 2 for size in window)] = np.eye(inputs)
    return array
