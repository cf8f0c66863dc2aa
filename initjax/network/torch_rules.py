"""A whole tree as PyTorch's layers would start it."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from initjax.initializers.layout import laid_out
from initjax.initializers.torch_default import torch_default
from initjax.network.joint_rules import JointRule, Part


@dataclasses.dataclass(frozen=True)
class TorchLayer:
    """The arrays of one layer; see `torch_rules`."""

    def __call__(
        self, key: jax.Array, parts: Mapping[str, Part], dtype: np.dtype
    ) -> dict[str, jax.Array]:
        keys = dict(zip(parts, jax.random.split(key, len(parts)), strict=True))
        drawn = {}
        for role, part in parts.items():
            if role == "embedding":
                drawn[role] = jax.random.normal(keys[role], part.shape, dtype)
            elif role == "scale" or (role == "kernel" and len(part.shape) < 2):
                drawn[role] = jnp.ones(part.shape, dtype)
            elif role == "kernel":
                init = laid_out(torch_default(), part.known_layout())
                drawn[role] = init(keys[role], part.shape, dtype)
            elif "kernel" in parts and len(parts["kernel"].shape) > 1:
                bound = 1 / math.sqrt(parts["kernel"].fan_in())
                drawn[role] = jax.random.uniform(keys[role], part.shape, dtype, -bound, bound)
            else:
                drawn[role] = jnp.zeros(part.shape, dtype)
        return drawn


def torch_rules(*, stacked: bool = False) -> JointRule:
    """The rule by which each layer starts as PyTorch's of its kind.

    Dense layers and convolutions: kernel and bias U(-b, b), b = 1 / sqrt(fan_in), the bias with the
    fan of the kernel beside it (`torch_default`). Embeddings: N(0, 1). Normalization: 1 and 0.
    Recurrent cells need a rule in front, ("LSTMCell", torch_recurrent()), and so does attention,
    whose packed projection is `glorot_uniform()`.

    In a deep ReLU network the variance of the pre-activations tends to .4 / fan_in, which the
    biases sustain, and to which each layer comes nearer by the factor 6.

    Args:
      stacked: whether the first axis of all leaves stacks layers.

    >>> from initjax.network.rules import reinitialize
    >>> params = {"conv": {"kernel": jnp.zeros((3, 3, 4, 8)), "bias": jnp.zeros(8)}}
    >>> params = reinitialize(params, [torch_rules()], jax.random.key(0))
    >>> bool(0 < abs(params["conv"]["bias"]).max() <= 1 / 6)
    True
    """
    names = {"kernel": "kernel|weight|w", "bias": "bias|b"}
    names |= {"embedding": "embedding|embeddings", "scale": "scale"}
    patterns = {role: rf"(?<![^/])({name})$" for role, name in names.items()}
    return JointRule(patterns, TorchLayer(), stacked)
