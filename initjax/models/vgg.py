"""The networks of Simonyan & Zisserman 2014 (arXiv:1409.1556), Very deep convolutional networks for
large-scale image recognition."""

import flax.linen as nn

from initjax.models.base import ScalableClassifier, register
from initjax.models.images import adaptive_mean_pool, check_size, max_pool_2x2, pad_to
from initjax.support.errors import UserError

# Convolutions in each of the five stages: the source's A, B, D and E.
_STAGES = {11: (1, 1, 2, 2, 2), 13: (2,) * 5, 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@register("vgg11", depth=11)
@register("vgg13", depth=13)
@register("vgg16", depth=16)
@register("vgg19", depth=19)
@register("vgg11_cifar", depth=11, small_images=True)
@register("vgg13_cifar", depth=13, small_images=True)
@register("vgg16_cifar", depth=16, small_images=True)
@register("vgg19_cifar", depth=19, small_images=True)
class VGG(ScalableClassifier):
    """3x3 convolutions in five stages of 64, 128, 256, 512 and 512 features, each with 2x2
    max-pooling, and dense layers of 4096, 4096 and the classes.

    As torchvision's: a mean over 7x7 windows before the dense layers, so that other resolutions
    than 224x224 will do, from 32x32; dropout after both hidden dense layers. On 224x224x3 with 1000
    classes VGG-16 has 138,357,544 parameters.

    "vgg11_cifar" and the like are for images of 32x32 to 64x64; smaller ones are zero-padded to
    32x32. One dense layer takes the means of the 512 features, as is usual on CIFAR: on 32x32x3
    with ten classes VGG-11 then has 9,225,610 parameters.

    Attributes:
      depth: number of layers with weights: 11, 13, 16 or 19. In the form for small images two
        fewer, of which the name takes no notice.
      small_images: the form of "vgg11_cifar".
      use_batch_norm: normalize after every convolution, which then has no bias.
      dropout_rate: share of the outputs of the hidden dense layers that training sets to 0.
    """

    depth: int = 16
    small_images: bool = False
    use_batch_norm: bool = False
    dropout_rate: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if self.depth not in _STAGES:
            raise UserError(f"depth={self.depth} must be one of {', '.join(map(str, _STAGES))}.")

    @nn.compact
    def __call__(self, x, train: bool = False):
        if self.small_images:
            x = pad_to(x, 32)
        else:
            check_size(x, 32, f"vgg{self.depth}_cifar takes images of any size.")
        for features, number in zip((64, 128, 256, 512, 512), _STAGES[self.depth], strict=True):
            for _ in range(number):
                x = self.conv_layer(x, self.wide(features), 3, train)
            x = max_pool_2x2(x)
        if self.small_images:
            return self.logits(x.mean(axis=(1, 2)))
        x = adaptive_mean_pool(x, 7)
        x = x.reshape(x.shape[0], -1)
        for _ in range(2):
            x = self.act(self.dense(self.wide(4096))(x))
            x = self.dropout(self.dropout_rate, train)(x)
        return self.logits(x)
