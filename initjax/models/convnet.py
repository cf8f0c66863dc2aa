"""A small network of three convolutions, or of several in each of three stages."""

import flax.linen as nn

from initjax.models.base import ImageClassifier, register
from initjax.models.images import max_pool_2x2
from initjax.support.errors import UserError


@register("convnet")
class ConvNet(ImageClassifier):
    """Three 5x5 convolutions of 32, 32 and 64 features, each with 2x2 max-pooling; a dense layer.

    The small network of the consistency study, whose source gives the number of convolutions but
    not their widths: these are those of Caffe's "CIFAR-10 quick" (Jia et al. 2014).

    Attributes:
      depth: number of convolutions, a multiple of 3: depth / 3 before each pooling.
      use_batch_norm: normalize after every convolution, which then has no bias.
    """

    depth: int = 3
    use_batch_norm: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.depth % 3:
            raise UserError(f"depth={self.depth} must be a multiple of 3.")

    @nn.compact
    def __call__(self, x, train: bool = False):
        for features in (32, 32, 64):
            for _ in range(self.depth // 3):
                x = self.conv_layer(x, features, 5, train)
            x = max_pool_2x2(x)
        x = x.reshape(x.shape[0], -1)
        return self.logits(x)
