"""A small network from the most important units and blocks of a large one."""

import dataclasses
import re
from typing import Any

import numpy as np

from initjax.network.paths import natural_order
from initjax.network.rules import compile_pattern
from initjax.network.units import (
    changed_axes,
    check_heads,
    check_narrower,
    fan_factor,
    in_heads,
    size_of_heads,
)
from initjax.network.warm_starts import WarmStart, register
from initjax.support.arguments import finite
from initjax.support.errors import UserError


@register("subcloning")
@dataclasses.dataclass(frozen=True, repr=False)
class Subcloning(WarmStart):
    """Weight subcloning (Samragh et al. 2023, arXiv:2312.09299).

    Units are kept by importance, their mean |w| over all leaves that have them, and in their
    order; the same ones wherever axes have their sizes, so that a residual stream is cut alike in
    all layers. Kernels are multiplied by sqrt(T_in / S_in). Of blocks those are kept that change
    the stream most.

    Attributes:
      blocks: a regular expression with the group (?P<layer>...), the number of a block.
      changes: of each block of the source how much it changes the stream, from `block_changes`;
        needed where the network has fewer blocks.
      heads: (attention heads of the source, heads here), which are kept whole.

    Raises:
      UserError (a ValueError): when it is called, a leaf that is larger than the source's, changes
        or heads that are not told.
    """

    blocks: str = r"Block_(?P<layer>\d+)"
    changes: Any = ()
    heads: Any = None

    def __post_init__(self) -> None:
        if "layer" not in compile_pattern(self.blocks).groupindex:
            raise UserError(f"blocks={self.blocks!r} has no group (?P<layer>...).")
        object.__setattr__(self, "changes", tuple(finite(c, "changes") for c in self.changes))
        object.__setattr__(self, "heads", check_heads(self.heads))

    def take(self, params: Any, source: Any) -> Any:
        origins = self._origins(params, source)
        old = {path: np.asarray(source[origin]) for path, origin in origins.items()}
        changed = changed_axes({path: params[path] for path in old}, old)
        sizes: dict[Any, np.ndarray] = {}
        for path, axes in changed.items():
            check_narrower(path, old[path].shape, np.shape(params[path]))
            for axis, units, repeats, _ in axes:
                others = tuple(i for i in range(old[path].ndim) if i != axis)
                mean = np.abs(old[path]).mean(others).reshape(repeats, units.source).mean(0)
                sizes[units] = sizes.get(units, 0) + mean
        kept = {units: self._kept(units, size) for units, size in sizes.items()}
        taken = {}
        for path, axes in changed.items():
            array = old[path]
            factor = fan_factor(path, array.shape, np.shape(params[path]))
            for axis in axes:
                array = np.take(array, axis.spread(kept[axis.units]), axis.axis)
            what = ", its most important units" if axes else ""
            taken[path] = (array * factor if axes else array, origins[path] + what)
        return taken

    def _kept(self, units, importance) -> np.ndarray:
        if not units.heads:
            return _largest(importance, units.target)
        size, _ = size_of_heads(units, self.heads)
        return in_heads(
            units, self.heads, _largest(importance.reshape(-1, size).sum(1), self.heads[1])
        )

    def _origins(self, params, source) -> dict[str, str]:
        """{path: that in the source}, by the blocks that are kept."""
        numbers = [
            sorted({int(m["layer"]) for path in tree if (m := re.search(self.blocks, path))})
            for tree in (params, source)
        ]
        new, old = numbers
        if len(new) < len(old):
            if len(self.changes) != len(old):
                raise UserError(
                    f"{len(old)} blocks shall become {len(new)}: give the change of the stream by"
                    f" each.\nchanges=initjax.network.block_changes(model, variables, x)"
                )
            old = [old[i] for i in _largest(np.array(self.changes), len(new))]
        origin = dict(zip(new, old, strict=False))

        def renamed(path) -> str:
            match = re.search(self.blocks, path)
            if match is None or int(match["layer"]) not in origin:
                return path
            start, end = match.span("layer")
            return f"{path[:start]}{origin[int(match['layer'])]}{path[end:]}"

        return {path: renamed(path) for path in params if renamed(path) in source}


def _largest(values: np.ndarray, number: int) -> np.ndarray:
    """Indices of the largest, rising; of equal ones the first."""
    return np.sort(np.argsort(-values, kind="stable")[:number])


def block_changes(
    model: Any, variables: Any, x: Any, blocks: str = r"^Block_\d+$", **kwargs: Any
) -> tuple[float, ...]:
    """By how much each block changes the stream: mean |f(x) - x| over mean |x|.

    Args:
      model: a Flax Linen module, whose blocks are modules with outputs of the inputs' shape.
      variables: its variables.
      x: its inputs.
      blocks: a regular expression on the blocks' paths.
      **kwargs: of `model.apply`.

    Raises:
      UserError (a ValueError): no such blocks, or one that changes the shape.
    """
    import flax.linen as nn  # not at import: rules need no Flax

    found: dict[str, float] = {}

    def watch(next_fun, args, kwargs, context):
        out = next_fun(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name == "__call__" and re.search(blocks, path):
            if np.shape(args[0]) != np.shape(out):
                raise UserError(f"{path} makes {np.shape(out)} of {np.shape(args[0])}.")
            size = np.abs(args[0]).mean()
            found[path] = float(np.abs(np.subtract(out, args[0])).mean() / size)
        return out

    with nn.intercept_methods(watch):
        model.apply(variables, x, **kwargs)
    if not found:
        raise UserError(f"blocks={blocks!r} matches no module of {type(model).__name__}.")
    return tuple(found[path] for path in sorted(found, key=natural_order))
