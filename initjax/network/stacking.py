"""A deep network from a shallow one's blocks, one after the other or each several times."""

import dataclasses
import re
from typing import Any

import numpy as np

from initjax.network.rules import compile_pattern
from initjax.network.warm_starts import WarmStart, register
from initjax.support.arguments import one_of
from initjax.support.errors import UserError


@register("stacking")
@dataclasses.dataclass(frozen=True, repr=False)
class Stacking(WarmStart):
    """Block l of L' from block l mod L of the source, or from block floor(l L / L').

    "stack", 3 -> 6: 0 1 2 0 1 2 (Gong et al. 2019, ICML, Efficient training of BERT by
    progressively stacking); "interpolate": 0 0 1 1 2 2 (bert2BERT, Chen et al. 2021,
    arXiv:2110.07143). Leaves outside of blocks come from the same path.

    Attributes:
      order: "stack" or "interpolate".
      blocks: a regular expression with the group (?P<layer>...), the number of a block.

    Raises:
      UserError (a ValueError): an unknown order, a pattern without that group; when it is called,
        one that matches no path, or a leaf of another shape than its source.
    """

    order: str = "stack"
    blocks: str = r"Block_(?P<layer>\d+)"

    def __post_init__(self) -> None:
        one_of(self.order, ("stack", "interpolate"), "order")
        if "layer" not in compile_pattern(self.blocks).groupindex:
            raise UserError(f"blocks={self.blocks!r} has no group (?P<layer>...).")

    def take(self, params: Any, source: Any) -> Any:
        numbers = [
            sorted({int(m["layer"]) for path in tree if (m := re.search(self.blocks, path))})
            for tree in (params, source)
        ]
        new, old = numbers
        if not (new and old):
            where = "the source" if new else "the network"
            raise UserError(f"blocks={self.blocks!r} matches no path of {where}.")
        taken = {}
        for path, leaf in params.items():
            origin = path
            if match := re.search(self.blocks, path):
                place = new.index(int(match["layer"]))
                stacked = self.order == "stack"
                number = old[place % len(old) if stacked else place * len(old) // len(new)]
                start, end = match.span("layer")
                origin = f"{path[:start]}{number}{path[end:]}"
            if origin not in source:
                continue
            if np.shape(source[origin]) != np.shape(leaf):
                raise UserError(
                    f"{path} has the shape {np.shape(leaf)}, and {origin} of the source"
                    f" {np.shape(source[origin])}."
                )
            taken[path] = (source[origin], origin)
        return taken
