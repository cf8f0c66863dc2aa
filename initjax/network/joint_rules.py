"""Rules for arrays that belong together: several of one block are set by one draw."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from initjax.initializers.axes import draw_each
from initjax.initializers.layout import Layout
from initjax.network.paths import compile_pattern
from initjax.support.caching import cached
from initjax.support.dtypes import wide_dtype
from initjax.support.errors import UserError


@dataclasses.dataclass(frozen=True)
class Part:
    """One array of a block, as a `JointRule`'s initializer sees it.

    Attributes:
      shape: of the array; of a slice where the rule says `stacked`.
      layout: which of its axes are inputs and outputs; None where that is not known.
    """

    shape: tuple[int, ...]
    layout: Layout | None = None

    def known_layout(self) -> Layout:
        """The layout.

        Raises:
          UserError (a ValueError): it is not known.
        """
        if self.layout is None:
            raise UserError(
                "which axes are inputs is not known.\nGive reinitialize layouts="
                "initjax.find_layouts(model, params, x)."
            )
        return self.layout

    def fan_in(self) -> float:
        """The inputs of the layer; raises as `known_layout`."""
        return self.known_layout().fans(self.shape)[0]


Joint = Callable[[jax.Array, Mapping[str, Part], Any], Mapping[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class JointRule:
    """Which arrays of every block of a tree are drawn together; a rule of `reinitialize`.

    Such as a bias, whose fan is its kernel's, or attention's query and key, of which one is made
    for the other.

    Args:
      patterns: {role: regular expression}. What stands before the match in a leaf's path names its
        block: "query/kernel$" and "key/kernel$" find the pairs of all layers. A role may be missing
        in a block.
      init: (key, {role: Part}, dtype) -> {role: array}, called once a block with all roles that the
        block has, those that an earlier rule starts too. Arrays are of `dtype`, float32 or float64,
        and are cast last.
      stacked: as in `Rule`: the first axis of all these leaves stacks layers.

    Raises:
      UserError (a ValueError): a pattern that is no regular expression, an initializer that cannot
        be called.

    >>> import initjax
    >>> params = {"Dense_0": {"kernel": jnp.zeros((100, 4)), "bias": jnp.zeros(4)}}
    >>> params = initjax.reinitialize(params, [initjax.torch_rules()], jax.random.key(0))
    >>> bool(abs(params["Dense_0"]["bias"]).max() <= 0.1)  # 1 / sqrt(100)
    True
    """

    patterns: Mapping[str, str]
    init: Joint
    stacked: bool = False
    scale: ClassVar[None] = None  # which a `Rule` may have

    def __post_init__(self) -> None:
        for pattern in self.patterns.values():
            compile_pattern(pattern)
        if not callable(self.init):
            raise UserError(f"init={self.init!r} is no function (key, parts, dtype).")


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What becomes of one array of a block."""

    role: str
    shape: tuple[int, ...]
    dtype: Any
    sharding: Any


def find_blocks(rule: JointRule, paths: Sequence[str]) -> list[dict[str, int]]:
    """For every block {role: number of its leaf}.

    Raises:
      UserError (a ValueError): two leaves of one block in one role.
    """
    blocks: dict[str, dict[str, int]] = {}
    for role, pattern in rule.patterns.items():
        for i, path in enumerate(paths):
            match = compile_pattern(pattern).search(path)
            if match is None:
                continue
            block = blocks.setdefault(path[: match.start()], {})
            if block.setdefault(role, i) != i:
                raise UserError(f"{pattern!r} finds {paths[block[role]]} and {path} in one block.")
    return list(blocks.values())


def draw_block(
    rule: JointRule,
    parts: Mapping[str, Part],
    leaves: Mapping[str, tuple[tuple[int, ...], Any, Any]],
    key: jax.Array,
) -> dict[str, jax.Array]:
    """New arrays {role: array} of one block.

    Args:
      rule: the rule.
      parts: all roles of the block.
      leaves: {role: (shape, dtype, sharding)} of those that are set.
      key: of the block.
    """
    wanted = tuple(_Wanted(role, *leaf) for role, leaf in leaves.items())
    return _program(rule.init, tuple(parts.items()), wanted, rule.stacked)(key)


@cached
def _program(init, parts, wanted, stacked):
    """The compiled program that equal blocks share."""
    wide = np.result_type(*(wide_dtype(leaf.dtype) for leaf in wanted))

    def draw(key):
        return dict(init(key, dict(parts), wide))

    def draw_all(key):
        drawn = draw_each(draw, key, wanted[0].shape[0]) if stacked else draw(key)
        for leaf in wanted:
            shape = jnp.shape(drawn[leaf.role]) if leaf.role in drawn else None
            if shape != leaf.shape:
                raise UserError(f"{init!r} gave {leaf.role!r} the shape {shape}, not {leaf.shape}.")
        return {leaf.role: drawn[leaf.role].astype(leaf.dtype) for leaf in wanted}

    return jax.jit(draw_all, out_shardings={leaf.role: leaf.sharding for leaf in wanted})
