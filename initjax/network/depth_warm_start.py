"""A deep network from a trained one of fewer layers."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from initjax.network.paths import natural_order
from initjax.network.warm_starts import Arrays, WarmStart, register
from initjax.support.errors import UserError

_SHOWN = 6


@register("depth_warm_start")
@dataclasses.dataclass(frozen=True, repr=False)
class DepthWarmStart(WarmStart):
    r"""Layers in the order in which they come, among those of one stage and shape.

    The k-th layer of the source with arrays of certain names and shapes goes to the k-th layer of
    the network that has the same; layers beyond are left as the initializer made them. A layer is
    the arrays of one module, its kernel and bias. Layers come in the order of their paths, in which
    numbers count as numbers.

    Simonyan & Zisserman 2014 (arXiv:1409.1556, 3.1) train networks of up to 19 layers from one of
    11: its first four convolutions and its three dense layers are taken over, all else is drawn
    from N(0, 10^-2) (the variance), biases are 0. That is, with VGG's layers Conv_0 to Conv_7 and
    Dense_0 to Dense_2,

        --init='normal(stddev=0.1)'
        --init_from="depth_warm_start('runs/vgg11', layers='Conv_[0-3]$|Dense_')"

    Attributes:
      layers: a regular expression that is searched in the paths of the source's layers: which of
        them are taken. Where it has a group (?P<stage>...), layers of the network are filled from
        the same stage only, such as r"(?P<stage>Stage_\d+)/".

    Raises:
      UserError (a ValueError): a pattern that is no regular expression; when it is called, one that
        matches no layer of the source, or a source of which nothing fits.
    """

    layers: str = ""

    def __post_init__(self) -> None:
        try:
            re.compile(self.layers)
        except (re.error, TypeError) as error:
            raise UserError(
                f"layers={self.layers!r} is not a regular expression: {error}."
            ) from None

    def take(self, params: Any, source: Any) -> Any:
        old = layers_of(source)
        chosen = {path: stage for path in old if (stage := self._stage(path)) is not None}
        if not chosen:
            raise UserError(f"layers={self.layers!r} matches no layer: {_list(old)}.")
        staged = "stage" in re.compile(self.layers).groupindex
        new = layers_of(params)
        waiting: dict[tuple, list[str]] = {}
        for path in new:
            stage = self._stage(path) if staged else ""
            waiting.setdefault((stage, _shapes(new[path])), []).append(path)
        taken = {}
        for path, stage in chosen.items():
            if fitting := waiting.get((stage, _shapes(old[path]))):
                target = fitting.pop(0)
                for name, array in old[path].items():
                    taken[_join(target, name)] = (array, _join(path, name))
        if not taken:
            raise UserError(
                "No layer of the source has the arrays of one of the network.\n"
                f"The source has {_list(f'{p} {_text(old[p])}' for p in chosen)}; the network"
                f" {_list(f'{p} {_text(layer)}' for p, layer in new.items())}."
            )
        return taken

    def _stage(self, path: str) -> str | None:
        """The stage of a layer, "" where the pattern has none; None: the pattern does not match."""
        match = re.search(self.layers, path)
        return match and (match.groupdict().get("stage") or "")


def layers_of(arrays: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """{path of a layer: {name of an array: array}}, in order."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for path in sorted(arrays, key=natural_order):
        layer, _, name = path.rpartition("/")
        layers.setdefault(layer, {})[name] = arrays[path]
    return layers


def _shapes(layer) -> tuple:
    return tuple((name, np.shape(array)) for name, array in sorted(layer.items()))


def _join(layer: str, name: str) -> str:
    return f"{layer}/{name}" if layer else name


def _text(layer) -> str:
    return " ".join("x".join(map(str, shape)) or "1" for _, shape in _shapes(layer))


def _list(shown: Iterable[str]) -> str:
    shown = list(shown)
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")
