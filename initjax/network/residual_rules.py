"""Rules that find the branches of a residual network: zero gamma, Fixup."""

import re
from collections.abc import Sequence
from typing import Any

from initjax.initializers.constant import zeros
from initjax.initializers.residual import fixup
from initjax.network.paths import compile_pattern, named_leaves
from initjax.network.rules import Rule
from initjax.support.errors import UserError


def zero_gamma(
    params: Any,
    block: str = r"[^/]*Block_\d+",
    scale: str = r"[^/]*Norm_\d+/scale",
) -> list[Rule]:
    """Rules that start the last normalization of every residual branch at scale 0.

    Each block then hands on its shortcut, exactly, and the network begins shallow (Goyal et al.
    2017, arXiv:1706.02677, section 5.1; torchvision's zero_init_residual, timm's zero_init_last).

    Args:
      params: the tree, whose paths tell the blocks.
      block: a regular expression of the name of a block.
      scale: of the scales of its normalizations, below the block. The last is that of the largest
        number; a normalization of the shortcut must have another name.

    Raises:
      UserError (a ValueError): no such block, or none with such a scale.
    """
    branches = _branches(params, block, scale)
    return [_exactly(paths[-1], zeros) for paths in branches]


def fixup_rules(
    params: Any,
    block: str = r"[^/]*Block_\d+",
    kernel: str = r"[^/]*\d+/kernel",
    head: str | None = None,
) -> list[Rule]:
    """Fixup's rules for weights, with the branches counted: the last layer of each branch is 0, the
    others He's times L^(-1 / (2m - 2)), L branches of m layers.

    Fixup is whole with a scalar bias before every layer and activation and a scalar factor for each
    branch, which the model must have (Zhang, Dauphin & Ma 2019, arXiv:1901.09321).

    Args:
      params: the tree, whose paths tell the blocks.
      block: a regular expression of the name of a block.
      kernel: of the kernels of a branch, below the block; that of the shortcut must have another
        name.
      head: of the leaves of the classifier, which start at 0.

    Raises:
      UserError (a ValueError): no such block, none with such a kernel, a branch of one layer.
    """
    branches = _branches(params, block, kernel)
    rules = []
    for paths in branches:
        init = fixup(len(branches), len(paths))
        rules += [_exactly(path, init) for path in paths[:-1]]
        rules.append(_exactly(paths[-1], zeros))
    return rules if head is None else [*rules, Rule(head, zeros)]


def _exactly(path, init) -> Rule:
    return Rule(f"^{re.escape(path)}$", init)


def _branches(params, block, leaf) -> Sequence[list[str]]:
    """The paths of the leaves of each block, in the order of their numbers."""
    pattern = compile_pattern(f"^((?:.*/)?{block})/{leaf}$")
    found: dict[str, list[str]] = {}
    for path, _ in named_leaves(params):
        if match := pattern.search(path):
            found.setdefault(match[1], []).append(path)
    if not found:
        shown = ", ".join([path for path, _ in named_leaves(params)][:8])
        raise UserError(f"No leaf is {leaf!r} in a block {block!r}. There are: {shown}, ...")
    return [sorted(paths, key=_natural) for paths in found.values()]


def _natural(path):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]
