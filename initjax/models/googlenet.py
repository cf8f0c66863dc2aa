"""GoogLeNet (Szegedy et al. 2014, arXiv:1409.4842, Going deeper with convolutions)."""

import flax.linen as nn
import jax.numpy as jnp

from initjax.models.base import Block, ScalableClassifier, register
from initjax.models.images import adaptive_mean_pool

# Features of a module's 1x1 convolution; 1x1 and 3x3; 1x1 and 5x5; and 1x1 after max-pooling.
_INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_POOLED = ("4a", "5a")  # max-pooling comes before them
_SIDE_HEADS = {"4a": "side_head_0", "4d": "side_head_1"}  # after them


@register("googlenet")
class GoogLeNet(ScalableClassifier):
    """Three convolutions, nine modules of four parallel branches, global average pooling, 40 %
    dropout and a dense layer; two side heads in training.

    A side head takes means over 4x4 windows, whatever the resolution, to a 1x1 convolution of 128
    features, a dense layer of 1024, 70 % dropout and a dense layer. In training each sows its
    logits [B, num_classes] as "logits" in the collection "auxiliary_logits"; the source adds 0.3
    times their losses to that of the network. Inference neither computes nor needs them.

    There is no response normalization. On 224x224x3 with 1000 classes it has 6,998,552 parameters,
    and 13,378,280 with the side heads. torchvision's, which is always normalized, has 3x3 kernels
    where the source and this have 5x5.

    Attributes:
      small_images: begin with a 3x3 convolution of stride 1 in place of 7x7 with stride 2, without
        the two max-poolings after it: for images of 32x32 pixels.
      use_batch_norm: normalize after every convolution, which then has no bias.
    """

    small_images: bool = False
    use_batch_norm: bool = False

    @nn.compact
    def __call__(self, x, train: bool = False):
        if self.small_images:
            x = self._layer(x, 64, 3, train)
        else:
            x = _half(self._layer(x, 64, 7, train, strides=2, padding=3))
        x = self._layer(self._layer(x, 64, 1, train), 192, 3, train)
        if not self.small_images:
            x = _half(x)
        for name, features in _INCEPTION.items():
            if name in _POOLED:
                x = _half(x)
            x = Block(self._inception, name=f"inception_{name}")(x, features, train)
            if name in _SIDE_HEADS and (train or self.is_initializing()):
                logits = Block(self._side_head, name=_SIDE_HEADS[name])(x, train)
                if not self.is_initializing():
                    self.sow("auxiliary_logits", "logits", logits)
        x = self.dropout(0.4, train)(x.mean(axis=(1, 2)))
        return self.logits(x)

    @nn.nowrap
    def _layer(self, x, features, size, train, **kwargs):
        return self.conv_layer(x, self.wide(features), size, train, **kwargs)

    @nn.nowrap
    def _inception(self, x, features, train):
        narrow, before_3x3, after_3x3, before_5x5, after_5x5, after_pool = features
        pooled = nn.max_pool(x, (3, 3), padding="SAME")
        branches = (
            self._layer(x, narrow, 1, train),
            self._layer(self._layer(x, before_3x3, 1, train), after_3x3, 3, train),
            self._layer(self._layer(x, before_5x5, 1, train), after_5x5, 5, train),
            self._layer(pooled, after_pool, 1, train),
        )
        return jnp.concatenate(branches, axis=-1)

    @nn.nowrap
    def _side_head(self, x, train):
        x = self._layer(adaptive_mean_pool(x, 4), 128, 1, train)
        x = self.act(self.dense(self.wide(1024))(x.reshape(x.shape[0], -1)))
        x = self.dropout(0.7, train)(x)
        return self.dense(self.num_classes)(x).astype(jnp.float32)


def _half(x):
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
