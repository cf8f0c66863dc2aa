"""Names of the leaves of a parameter tree, and the parameters of one layer."""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def path_name(path) -> str:
    """A path of `jax.tree_util` as "Block_0/Conv_0/kernel"."""
    if len(path) > 1 and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]  # the box of nnx.Param, nn.Partitioned, ...
    return jax.tree_util.keystr(path, simple=True, separator="/")


def path_key(key: jax.Array, path: str) -> jax.Array:
    """The key of the leaf at `path`: `key`, folded with 64 bits of the path's SHA-256."""
    return _fold(key, _words(path))


def _words(path):
    # Not hash(path), which differs from one Python process to the next.
    return np.frombuffer(hashlib.sha256(path.encode()).digest()[:8], ">u4").astype(np.uint32)


@jax.jit
def _fold(key, words):
    return jax.random.fold_in(jax.random.fold_in(key, words[0]), words[1])


def get_layer(params, path: str) -> Mapping[str, Any]:
    """The parameters of the layer at `path`; empty where there are none."""
    for name in filter(None, path.split("/")):
        params = params.get(name, {}) if isinstance(params, Mapping) else {}
    return params if isinstance(params, Mapping) else {}


def set_layer(params, path: str, layer: Mapping[str, Any]):
    """`params` with another layer at `path`."""
    head, _, rest = path.partition("/")
    if not head:
        return {**layer}
    return {**params, head: set_layer(params[head], rest, layer)}


def change_layers(params, changes: Mapping[str, tuple[jax.Array, jax.Array]]):
    """W <- W s, b <- s b + t for the layers at these paths, each with its (s, t).

    s is a number or one number an output channel, which is the kernel's last axis.
    """
    for path, (scale, shift) in changes.items():
        layer = dict(get_layer(params, path))
        for name, offset in (("kernel", 0), ("bias", shift)):
            if name in layer:
                old = layer[name]
                wide = old.astype(jnp.promote_types(old.dtype, jnp.float32))
                layer[name] = (wide * scale + offset).astype(old.dtype)
        params = set_layer(params, path, layer)
    return params
