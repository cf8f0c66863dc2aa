"""Names of the leaves of a parameter tree, patterns for them, and the parameters of one layer."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from initjax.support.errors import UserError


def path_name(path: tuple[Any, ...]) -> str:
    """A path of `jax.tree_util` as "Block_0/Conv_0/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """[(path, leaf)] of a tree, in its order.

    The `value` inside a box of Flax (nnx.Param, nn.Partitioned, ...) is left out of the path.
    """
    leaves = []
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_box):
        for inner, leaf in jax.tree_util.tree_leaves_with_path(node):
            is_value = _is_box(node) and inner[:1] == (jax.tree_util.GetAttrKey("value"),)
            leaves.append((path_name((*path, *inner[is_value:])), leaf))
    return leaves


def natural_order(path: str) -> list[int | str]:
    """A key to sort paths by, in which numbers count as numbers: Conv_2 before Conv_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path)]


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression; a UserError where it is none."""
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise UserError(f"pattern={pattern!r} is not a regular expression: {error}.") from None


def get_owner(tree: Any, path: tuple[Any, ...]) -> Any:
    """The node that holds the leaf at a path of `jax.tree_util`; None where the keys do not say."""
    for key in path[:-1]:
        if isinstance(key, jax.tree_util.GetAttrKey):
            tree = getattr(tree, key.name)
        elif isinstance(key, jax.tree_util.DictKey | jax.tree_util.SequenceKey):
            tree = tree[key.key if isinstance(key, jax.tree_util.DictKey) else key.idx]
        else:
            return None
    return tree


def _is_box(node) -> bool:
    """Whether it is a variable of NNX or a box with metadata of Linen; Flax need not be there."""
    return any(
        cls.__module__.startswith("flax.") and cls.__name__ in _BOXES for cls in type(node).__mro__
    )


_BOXES = ("AxisMetadata", "Variable", "VariableState")


def path_key(key: jax.Array, path: str) -> jax.Array:
    """The key of the leaf at `path`: `key`, folded with 64 bits of the path's SHA-256."""
    return _fold(key, _words(path))


def _words(path):
    # Not hash(path), which differs from one Python process to the next.
    return np.frombuffer(hashlib.sha256(path.encode()).digest()[:8], ">u4").astype(np.uint32)


@jax.jit
def _fold(key, words):
    return jax.random.fold_in(jax.random.fold_in(key, words[0]), words[1])


def get_layer(params: Any, path: str) -> Mapping[str, Any]:
    """The parameters of the layer at `path`; empty where there are none."""
    for name in filter(None, path.split("/")):
        params = params.get(name, {}) if isinstance(params, Mapping) else {}
    return params if isinstance(params, Mapping) else {}


def set_layer(params: Any, path: str, layer: Mapping[str, Any]) -> Any:
    """`params` with another layer at `path`."""
    head, _, rest = path.partition("/")
    if not head:
        return {**layer}
    return {**params, head: set_layer(params[head], rest, layer)}
