"""AlexNet in one tower (Krizhevsky 2014, arXiv:1404.5997, One weird trick for parallelizing
convolutional neural networks), after Krizhevsky, Sutskever & Hinton 2012."""

import flax.linen as nn

from initjax.models.base import ScalableClassifier, register
from initjax.models.images import adaptive_mean_pool, check_size, max_pool_2x2, pad_to


@register("alexnet")
@register("alexnet_cifar", small_images=True)
class AlexNet(ScalableClassifier):
    """Five convolutions, three max-poolings and dense layers of 4096, 4096 and the classes.

    The network that torchvision has by this name: no response normalization, and a mean over 6x6
    windows before the dense layers, so that other resolutions than 224x224 will do, from 63x63. On
    224x224x3 with 1000 classes it has 61,100,840 parameters.

    "alexnet_cifar" is for images of 32x32 to 64x64; smaller ones are zero-padded to 32x32. It is a
    form of ours, since the sources do not say theirs: the same channels and dense layers, a first
    convolution of 3x3 with stride 2 in place of 11x11 with stride 4, 3x3 in place of 5x5 in the
    second, 2x2 max-pooling in place of overlapping 3x3, and a mean over 2x2 windows. On 32x32x3
    with ten classes it has 23,272,266 parameters.

    Attributes:
      small_images: the form of "alexnet_cifar".
      dropout_rate: share of the inputs of the two hidden dense layers that training sets to 0.
    """

    small_images: bool = False
    dropout_rate: float = 0.5

    @nn.compact
    def __call__(self, x, train: bool = False):
        if self.small_images:
            x = pad_to(x, 32)
            first, second, windows, pool = (3, 2, 1), 3, 2, max_pool_2x2
        else:
            check_size(x, 63, "alexnet_cifar takes images of any size.")
            first, second, windows, pool = (11, 4, 2), 5, 6, _overlapping_pool
        size, stride, padding = first
        x = pool(self.act(self.conv(self.wide(64), size, strides=stride, padding=padding)(x)))
        x = pool(self.act(self.conv(self.wide(192), second)(x)))
        for features in (384, 256, 256):
            x = self.act(self.conv(self.wide(features), 3)(x))
        x = adaptive_mean_pool(pool(x), windows)
        x = x.reshape(x.shape[0], -1)
        for _ in range(2):
            x = self.dropout(self.dropout_rate, train)(x)
            x = self.act(self.dense(self.wide(4096))(x))
        return self.logits(x)


def _overlapping_pool(x):
    return nn.max_pool(x, (3, 3), strides=(2, 2))
