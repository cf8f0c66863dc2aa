"""The residual networks for CIFAR of He, Zhang, Ren & Sun 2015 (arXiv:1512.03385), section 4.2."""

import flax.linen as nn
import jax.numpy as jnp

from initjax.models.base import Block, ImageClassifier, register
from initjax.models.fixup import ScalarBias, fixup_block, fixup_logits, is_fixup
from initjax.support.errors import UserError


def relu_by_choice(x):
    """ReLU, NaN where x is NaN, written as a choice.

    XLA on CPUs recomputes a chain of `jax.nn.relu` and additions in every copy that feeds a
    weight-gradient convolution, but stores the result of a choice: a ResNet-32 trains 1.6 times
    faster so. Networks without shortcuts gain nothing, and LeNet loses (benchmarks/training.py).
    """
    return jnp.where(x <= 0, 0, x)


class ReluByChoice:
    """A model with shortcuts, which computes "relu" by `relu_by_choice`."""

    def act(self, x):
        return relu_by_choice(x) if self.activation == "relu" else super().act(x)


@register("resnet20", depth=20)
@register("resnet32", depth=32)
@register("resnet44", depth=44)
@register("resnet56", depth=56)
@register("resnet110", depth=110)
class CifarResNet(ReluByChoice, ImageClassifier):
    """6n + 2 layers: a 3x3 convolution, three stages of n two-layer blocks of 16, 32 and 64
    features, and a dense layer after global average pooling.

    Shortcuts have no parameters (the source's option A): where a stage halves the resolution, they
    take every second pixel and pad the new features with zeros. ResNet-32 on 32x32x3 with ten
    classes has 464,154 parameters.

    Attributes:
      depth: number of layers with weights, 6n + 2: 20, 32, 44, 56 or 110 in the source.
      normalization: "batch", or "fixup": none, with Fixup's scalars and weights (`models/fixup.py`;
        461,959 parameters), and blocks of their own, Block_0 to Block_14.
    """

    depth: int = 32
    normalization: str = "batch"

    def __post_init__(self):
        super().__post_init__()
        if self.depth < 8 or self.depth % 6 != 2:
            raise UserError(f"depth={self.depth} must be 6n + 2, such as 20, 32, 44, 56 or 110.")
        is_fixup(self)  # an unknown name fails here, not at the first call

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = self.act(self._conv_norm(x, 16, 1, train))
        for features in (16, 32, 64):
            for block in range((self.depth - 2) // 6):
                stride = 2 if block == 0 and features > 16 else 1
                if is_fixup(self):
                    x = Block(self._fixup_block)(x, features, stride)
                    continue
                y = self.act(self._conv_norm(x, features, stride, train))
                y = self._conv_norm(y, features, 1, train)
                x = self.act(self._shortcut(x, features, stride) + y)
        x = x.mean(axis=(1, 2))
        return fixup_logits(self, x) if is_fixup(self) else self.logits(x)

    @nn.nowrap
    def _fixup_block(self, x, features, stride):
        layers = [(features, 3, {"strides": stride}), (features, 3, {})]
        num_branches = (self.depth - 2) // 2
        return fixup_block(
            self, x, layers, lambda x: self._shortcut(x, features, stride), num_branches
        )

    @nn.nowrap
    def _shortcut(self, x, features, stride):
        if stride == 1:
            return x
        new = features - x.shape[-1]
        return jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))

    def _conv_norm(self, x, features, stride, train):
        x = self.conv(features, 3, strides=stride, use_bias=False)(x)
        return ScalarBias()(x) if is_fixup(self) else self.batch_norm(train)(x)
