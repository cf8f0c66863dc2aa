"""The residual networks for ImageNet of He, Zhang, Ren & Sun 2015 (arXiv:1512.03385), section
4.1."""

import flax.linen as nn
from flax.linen import initializers

from initjax.models.base import Block, ScalableClassifier, register
from initjax.models.fixup import ScalarBias, fixup_block, fixup_logits, is_fixup
from initjax.models.resnet_cifar import ReluByChoice
from initjax.support.errors import UserError

# Blocks in each of the four stages; from 50 layers on, blocks are bottlenecks.
_STAGES = {18: (2,) * 4, 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@register("resnet18", depth=18)
@register("resnet34", depth=34)
@register("resnet50", depth=50)
@register("resnet101", depth=101)
@register("resnet152", depth=152)
class ResNet(ReluByChoice, ScalableClassifier):
    """A 7x7 convolution and 3x3 max-pooling, both with stride 2, four stages of residual blocks of
    64, 128, 256 and 512 features, and a dense layer after global average pooling.

    A block has two 3x3 convolutions, or from 50 layers on three of 1x1, 3x3 and 1x1, the last with
    four times the features. As torchvision's: where a stage halves the resolution, the first 3x3
    convolution does, and a 1x1 convolution is the shortcut, as wherever the features change. On
    224x224x3 with 1000 classes ResNet-18 has 11,689,512 parameters, ResNet-50 25,557,032.

    For rules by path: the last convolution of a residual branch is Block_3/Conv_1, or
    Block_3/Conv_2 from 50 layers on; a shortcut's is Block_3/shortcut, and the head is Dense_0.

    Attributes:
      depth: number of layers with weights: 18, 34, 50, 101 or 152.
      zero_init_residual: each residual branch begins at 0, because the scale of its last
        normalization does (Goyal et al. 2017, arXiv:1706.02677, section 5.1).
      small_images: begin with a 3x3 convolution of stride 1 and no max-pooling, as is usual for
        images of 32x32 pixels.
      normalization: "batch", or "fixup": none, with Fixup's scalars and weights (`models/fixup.py`;
        25,504,026 parameters of ResNet-50).
    """

    depth: int = 50
    small_images: bool = False
    zero_init_residual: bool = False
    normalization: str = "batch"

    def __post_init__(self):
        super().__post_init__()
        if self.depth not in _STAGES:
            raise UserError(f"depth={self.depth} must be one of {', '.join(map(str, _STAGES))}.")
        if is_fixup(self) and self.zero_init_residual:
            raise UserError(
                "normalization='fixup' has no scales for zero_init_residual, and needs none: its"
                " branches begin at 0."
            )

    @nn.compact
    def __call__(self, x, train: bool = False):
        size, stride = (3, 1) if self.small_images else (7, 2)
        x = self.act(self._conv_norm(x, self.wide(64), size, stride, train))
        if not self.small_images:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for features, number in zip((64, 128, 256, 512), _STAGES[self.depth], strict=True):
            for block in range(number):
                stride = 2 if block == 0 and features > 64 else 1
                x = Block(self._residual)(x, self.wide(features), stride, train)
        x = x.mean(axis=(1, 2))
        return fixup_logits(self, x) if is_fixup(self) else self.logits(x)

    @nn.nowrap
    def _residual(self, x, features, stride, train):
        if self.depth < 50:
            layers = (features, 3, stride), (features, 3, 1)
        else:
            layers = (features, 1, 1), (features, 3, stride), (4 * features, 1, 1)
        if is_fixup(self):
            return self._fixup_block(x, layers, stride)
        y = x
        for i, layer in enumerate(layers):
            last = i == len(layers) - 1
            scale = initializers.zeros if self.zero_init_residual and last else initializers.ones
            y = self._conv_norm(self.act(y) if i else y, *layer, train, scale=scale)
        if stride > 1 or x.shape[-1] != y.shape[-1]:
            x = self._conv_norm(x, y.shape[-1], 1, stride, train, "shortcut")
        return self.act(x + y)

    @nn.nowrap
    def _fixup_block(self, x, layers, stride):
        def shortcut(x):
            if stride == 1 and x.shape[-1] == layers[-1][0]:
                return x
            settings = {"strides": stride, "use_bias": False, "name": "shortcut"}
            return self.conv(layers[-1][0], 1, **settings)(x)

        layers = [
            (features, size, {"strides": step, "padding": size // 2})
            for features, size, step in layers
        ]
        return fixup_block(self, x, layers, shortcut, sum(_STAGES[self.depth]))

    @nn.nowrap
    def _conv_norm(self, x, features, size, stride, train, name=None, scale=initializers.ones):
        conv = self.conv(
            features, size, strides=stride, padding=size // 2, use_bias=False, name=name
        )
        if is_fixup(self):
            return ScalarBias()(conv(x))
        norm = self.batch_norm(train, name=name and f"{name}_norm", scale_init=scale)
        return norm(conv(x))
