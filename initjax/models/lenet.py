"""LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to document
recognition)."""

import flax.linen as nn

from initjax.models.base import ImageClassifier, register
from initjax.models.images import pad_to


@register("lenet")
class LeNet(ImageClassifier):
    """LeNet-5: two 5x5 convolutions with average pooling, and dense layers of 120, 84 and 10.

    Images below 32x32 are zero-padded to that size, as the source pads its 28x28 digits. On one
    channel and ten classes it has 61,706 parameters. The source's activation is tanh; the default
    here is that of the other models.
    """

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = pad_to(x, 32)
        for features in (6, 16):
            x = self.act(self.conv(features, 5, padding="VALID")(x))
            x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        for features in (120, 84):
            x = self.act(self.dense(features)(x))
        return self.logits(x)
