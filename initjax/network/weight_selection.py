"""A small network from some of a large one's weights."""

import dataclasses
import re
from typing import Any

import numpy as np

from initjax.network.rules import compile_pattern
from initjax.network.units import (
    changed_axes,
    check_heads,
    check_narrower,
    evenly,
    fan_factor,
    in_heads,
    size_of_heads,
)
from initjax.network.warm_starts import WarmStart, register


@register("weight_selection")
@dataclasses.dataclass(frozen=True, repr=False)
class WeightSelection(WarmStart):
    """Every n-th unit of a network of the same family (Xu et al. 2023, arXiv:2311.18823).

    Along each axis the indices are 0, T/S, 2 T/S, ... where S divides T, else round(linspace(0,
    T - 1, S)): 10 -> 4 takes 0, 3, 6, 9. Leaves of the same path are matched: of blocks by number
    the first of the source are taken. The head stays random.

    Attributes:
      head: a regular expression on the paths that are left as they are.
      heads: (attention heads of the source, heads here), of which every n-th is taken whole.
      rescale: multiply kernels by sqrt(T_in / S_in), which the source does not.

    Raises:
      UserError (a ValueError): when it is called, a leaf that is larger than the source's, heads
        that are not told.
    """

    head: str = r"(^|/)(head|classifier|logits)(/|$)"
    heads: Any = None
    rescale: bool = False

    def __post_init__(self) -> None:
        compile_pattern(self.head)
        object.__setattr__(self, "heads", check_heads(self.heads))

    def take(self, params: Any, source: Any) -> Any:
        chosen = {path: leaf for path, leaf in params.items() if not re.search(self.head, path)}
        taken = {}
        for path, axes in changed_axes(chosen, source).items():
            array = np.asarray(source[path])
            check_narrower(path, array.shape, np.shape(params[path]))
            factor = fan_factor(path, array.shape, np.shape(params[path])) if self.rescale else 1
            for axis in axes:
                array = np.take(array, axis.spread(self._chosen(axis.units)), axis.axis)
            what = ", every n-th unit" if axes else ""
            taken[path] = (array * factor if factor != 1 else array, path + what)
        return taken

    def _chosen(self, units) -> np.ndarray:
        if not units.heads:
            return evenly(units.source, units.target)
        size_of_heads(units, self.heads)  # an error where they are not told
        return in_heads(units, self.heads, evenly(*self.heads))
