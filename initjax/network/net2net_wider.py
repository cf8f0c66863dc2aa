"""A wider network that computes what the trained one does."""

import dataclasses
from typing import Any

import numpy as np

from initjax.network.units import changed_axes, is_inside_attention
from initjax.network.warm_starts import WarmStart, register
from initjax.support.errors import UserError


@register("net2net_wider")
@dataclasses.dataclass(frozen=True, repr=False)
class Net2NetWider(WarmStart):
    """Net2WiderNet (Chen, Goodfellow & Shlens 2015, arXiv:1511.05641, section 2.2).

    New unit j is a copy of unit g(j) = j mod n, and what takes it in is divided by the number of
    its copies: W[:, g] and W[g] / count(g). The output is the source's, whatever the activation.
    The same g holds for all axes of one size, so that shortcuts stay exact.

    Copies learn alike until something tells them apart: dropout does, or another small
    difference.

    Raises:
      UserError (a ValueError): when it is called, where that would change the output: a narrower
        leaf, one that the source lacks, attention, group normalization, or layer normalization of
        units that do not all have as many copies.
    """

    def take(self, params: Any, source: Any) -> Any:
        changed = changed_axes(params, source)
        if missing := [path for path in params if path not in changed]:
            raise UserError(f"The source has no {missing[0]}, without which the output changes.")
        taken = {}
        for path, axes in changed.items():
            array = np.asarray(source[path])
            for axis in axes:
                units = axis.units
                self._check(path, array.shape, axis)
                g = np.arange(units.target) % units.source
                array = np.take(array, axis.spread(g), axis.axis)
                if axis.is_input:
                    shape = [1] * array.ndim
                    shape[axis.axis] = -1
                    copies = np.tile(np.bincount(g)[g], axis.repeats)
                    array = array / copies.reshape(shape)
            taken[path] = (array, path + (", with copies of units" if axes else ""))
        return taken

    def _check(self, path, shape, axis) -> None:
        units = axis.units
        if units.target < units.source:
            raise UserError(f"{path}: {units.source} units of the source shall become fewer.")
        if is_inside_attention(path, shape, axis.axis):
            raise UserError(f"{path}: more features of attention change the output.")
        uneven = units.target % units.source
        if "GroupNorm" in path or ("LayerNorm" in path and uneven):
            raise UserError(
                f"{path}: {units.source} units cannot become {units.target}; its normalization"
                " would change the output."
            )
