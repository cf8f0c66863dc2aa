"""Depthwise filters with the covariance of trained ones."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from initjax.network.paths import natural_order, path_key
from initjax.network.rules import compile_pattern
from initjax.network.warm_starts import WarmStart, register
from initjax.support.arguments import count
from initjax.support.errors import UserError


@register("filter_covariance")
@dataclasses.dataclass(frozen=True, repr=False)
class FilterCovariance(WarmStart):
    """Filters drawn from N(0, Sigma), Sigma being that of the source's over its channels.

    Covariances of depthwise filters are what transfers between networks of other widths, depths
    and kernel sizes (Trockman, Willmott & Kolter 2023, arXiv:2210.03651). Of k' x k' filters Sigma
    is resized to k x k by linear interpolation. The l-th of L' depthwise layers takes that of layer
    floor(l L / L') of the source.

    Attributes:
      layers: a regular expression on paths: which leaves (height, width, 1, channels) take part.
      seed: of the draws.

    Raises:
      UserError (a ValueError): when it is called, no depthwise filters, or too few channels of them
        to have a covariance.
    """

    layers: str = "kernel$"
    seed: int = 0

    def __post_init__(self) -> None:
        compile_pattern(self.layers)
        count(self.seed, "seed", 0)

    def take(self, params: Any, source: Any) -> Any:
        new, old = (self._depthwise(tree) for tree in (params, source))
        if not (new and old):
            where = "The source" if new else "The network"
            raise UserError(f"{where} has no depthwise filters (height, width, 1, channels).")
        taken = {}
        for place, path in enumerate(new):
            origin = old[place * len(old) // len(new)]
            *window, _, channels = np.shape(params[path])
            covariance = resized(filter_covariance(source[origin], origin), window)
            # A root that a covariance of less than full rank has too.
            values, vectors = np.linalg.eigh(covariance)
            root = vectors * np.sqrt(np.maximum(values, 0))
            key = path_key(jax.random.key(self.seed), path)
            z = np.asarray(jax.random.normal(key, (len(root), channels)))
            taken[path] = (
                (root @ z).reshape(*window, 1, channels),
                f"N(0, covariance of {origin})",
            )
        return taken

    def _depthwise(self, tree) -> list[str]:
        shapes = {path: np.shape(leaf) for path, leaf in tree.items()}
        found = [
            path
            for path, shape in shapes.items()
            if len(shape) == 4 and shape[2] == 1 and re.search(self.layers, path)
        ]
        return sorted(found, key=natural_order)


def filter_covariance(kernel: ArrayLike, path: str = "kernel") -> np.ndarray:
    """The covariance [k, k, k, k] of filters (k, k, 1, channels), over the channels.

    Raises:
      UserError (a ValueError): fewer than two channels.
    """
    *window, _, channels = np.shape(kernel)
    if channels < 2:
        raise UserError(f"{path} has {channels} channel, of which there is no covariance.")
    return np.cov(np.asarray(kernel, np.float64).reshape(-1, channels)).reshape(*window, *window)


def resized(covariance: np.ndarray, window: Sequence[int]) -> np.ndarray:
    """The covariance, as a matrix, of filters that are resized linearly to another window."""
    for axis, size in zip(range(4), (*window, *window), strict=True):
        number = covariance.shape[axis]
        if number != size:
            resize = np.asarray(jax.image.resize(jnp.eye(number), (size, number), "linear"))
            covariance = np.moveaxis(np.tensordot(resize, covariance, (1, axis)), 0, axis)
    return covariance.reshape(np.prod(window), -1)
