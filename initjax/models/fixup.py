"""Residual networks without normalization: Fixup.

Zhang, Dauphin & Ma 2019, Fixup initialization: residual learning without normalization
(arXiv:1901.09321), whole: a scalar bias, 0, before each convolution, activation and the dense
layer; a scalar multiplier, 1, of each branch; branches' weights times L^(-1 / (2m - 2)), their last
layer and the classifier 0. The network begins as its shortcuts, and its loss at ln K.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from initjax.initializers.constant import zeros
from initjax.initializers.rescale import rescale
from initjax.initializers.residual import fixup_scale
from initjax.models.base import ImageClassifier
from initjax.support.arguments import one_of

NORMALIZATIONS = ("batch", "fixup")


class ScalarBias(nn.Module):
    """x + b: one number for all channels."""

    @nn.compact
    def __call__(self, x):
        return x + self.param("bias", nn.initializers.zeros, (1,)).astype(x.dtype)


class ScalarMultiplier(nn.Module):
    """s x: one number for all channels."""

    @nn.compact
    def __call__(self, x):
        return x * self.param("scale", nn.initializers.ones, (1,)).astype(x.dtype)


def is_fixup(model: Any) -> bool:
    """Whether a model's field `normalization` says "fixup".

    Raises:
      UserError (a ValueError): it says neither that nor "batch".
    """
    return one_of(model.normalization, NORMALIZATIONS, "normalization") == "fixup"


def fixup_block(
    model: ImageClassifier,
    x,
    layers: Sequence[tuple[int, int, dict[str, Any]]],
    shortcut: Callable,
    num_branches: int,
):
    """act(shortcut(x + b) + s f(x + b) + b'), with a bias before and behind each activation of f.

    Args:
      model: gives the convolutions and the activation; its `kernel_init` is rescaled.
      x: [B, H, W, C].
      layers: (features, size, settings) of the convolutions of f.
      shortcut: of what the branch is given, too.
      num_branches: L of the network.
    """
    init = rescale(model.kernel_init, fixup_scale(num_branches, len(layers)))
    y = x = ScalarBias()(x)
    for i, (features, size, settings) in enumerate(layers):
        if i:
            y = ScalarBias()(model.act(ScalarBias()(y)))
        kernel_init = init if i < len(layers) - 1 else zeros
        y = model.conv(features, size, use_bias=False, kernel_init=kernel_init, **settings)(y)
    return model.act(shortcut(x) + ScalarBias()(ScalarMultiplier()(y)))


def fixup_logits(model: ImageClassifier, x):
    """The last layer behind a scalar bias; its weights begin at 0, unless `dense_init` is given."""
    init = zeros if model.dense_init is None else model.dense_init
    return model.dense(model.num_classes, kernel_init=init)(ScalarBias()(x)).astype(jnp.float32)
