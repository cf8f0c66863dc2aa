"""A network that is drawn from the laws of a trained one's weights."""

import dataclasses
from typing import Any

import jax
import numpy as np

from initjax.fit.draw import initializer_of, layers_for
from initjax.network.paths import path_key
from initjax.network.warm_starts import WarmStart, register
from initjax.support.arguments import count
from initjax.weights.tensors import Checkpoint, Tensor


@register("laws")
@dataclasses.dataclass(frozen=True, repr=False)
class Laws(WarmStart):
    """Every kernel from the law that fits the source's layer at its relative depth.

    See `initjax.fit` and `rules_from_fit`: the law gives the shape of the distribution, the fans of
    the new layer its size. Of the weights themselves nothing is taken, so that width and depth may
    be any.

    Attributes:
      law: "best" (the least AIC), "nspl", "empirical", or the name of one.
      scale: variance times fan_in; "fitted" that of the source.
      pattern: a regular expression on the paths of leaves that are drawn.
      seed: of the draws.

    Raises:
      UserError (a ValueError): when it is called, as `from_fit`; a source without kernels.
    """

    law: str = "best"
    scale: float | str = 2.0
    pattern: str = "kernel$"
    seed: int = 0

    def __post_init__(self) -> None:
        count(self.seed, "seed", 0)

    def take(self, params: Any, source: Any) -> Any:
        from initjax.fit.checkpoint import analyze_checkpoint  # SciPy's statistics, slow to import

        arrays = {path: np.asarray(array) for path, array in source.items()}
        tensors = tuple(
            Tensor(path, a.shape, a.dtype.name, "flax", lambda a=a: a) for path, a in arrays.items()
        )
        found = analyze_checkpoint(Checkpoint("The source", "tree", tensors), bootstraps=0)
        taken = {}
        key = jax.random.key(self.seed)
        for path, layer in layers_for(found, params, self.pattern):
            init = initializer_of(layer, layer.path, law=self.law, scale=self.scale)
            drawn = init(path_key(key, path), np.shape(params[path]))
            taken[path] = (drawn, f"{init.distribution!r:.200}, fitted to {layer.path}")
        return taken
