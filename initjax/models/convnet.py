"""A small network of three convolutions."""

import flax.linen as nn

from initjax.models.base import ImageClassifier


class ConvNet(ImageClassifier):
    """Three 5x5 convolutions of 32, 32 and 64 features, each with 2x2 max-pooling; a dense layer.

    The small network of the consistency study, whose source gives the number of convolutions but
    not their widths: these are those of Caffe's "CIFAR-10 quick" (Jia et al. 2014).
    """

    @nn.compact
    def __call__(self, x, train: bool = False):
        for features in (32, 32, 64):
            x = self.act(self.conv(features, 5)(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        return self.logits(x)
