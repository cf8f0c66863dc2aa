"""The vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929, An image is worth 16x16
words)."""

import flax.linen as nn
import jax.numpy as jnp

from initjax.models.base import Block, ScalableClassifier, register
from initjax.support.arguments import count
from initjax.support.errors import UserError


@register("vit_tiny", num_heads=3)
@register("vit_small", num_heads=6)
@register("vit_base", num_heads=12)
class VisionTransformer(ScalableClassifier):
    """Patches as a sequence behind a class token, blocks of attention and of a perceptron, each
    after layer normalization and beside a shortcut, and a dense layer on the class token.

    The base size is that of the source, small and tiny are those of DeiT (Touvron et al. 2020,
    arXiv:2012.12877): heads of 64 features, perceptrons four times as wide as the stream. With
    16x16 patches of 224x224x3 and 1000 classes vit_tiny has 5,717,416 parameters. The source's
    activation is gelu; the default here is that of the other models.

    All kernels begin from the initializers, position embeddings from N(0, 0.02^2) as in the source,
    the class token from zeros. Queries, keys, values and outputs are dense layers [width, width]:
    their fans can be told from their shape.

    For rules by path: a residual branch ends in Block_3/attention/out or in Block_3/Dense_1, and
    the head is Dense_0.

    Attributes:
      patch_size: pixels of a patch's side, which divides the image's.
      depth: number of blocks, of two residual branches each.
      num_heads: of attention; `width_multiplier` changes their 64 features, not their number.
    """

    patch_size: int = 16
    depth: int = 12
    num_heads: int = 12

    def __post_init__(self):
        super().__post_init__()
        count(self.patch_size, "patch_size")
        count(self.num_heads, "num_heads")

    @nn.compact
    def __call__(self, x, train: bool = False):
        batch, height, width = x.shape[:3]
        if height % self.patch_size or width % self.patch_size:
            raise UserError(
                f"Images of {height}x{width} pixels cannot be cut into patches of"
                f" {self.patch_size}x{self.patch_size}.\nGive another: vit_tiny(patch_size=4)."
            )
        features = self.num_heads * self.wide(64)
        x = self.conv(features, self.patch_size, strides=self.patch_size, padding="VALID")(x)
        x = x.reshape(batch, -1, features)
        token = self.param("class_token", nn.initializers.zeros, (1, 1, features))
        x = jnp.concatenate([jnp.broadcast_to(token, (batch, 1, features)).astype(x.dtype), x], 1)
        embedding = nn.initializers.normal(0.02)
        position = self.param("position_embedding", embedding, (1, *x.shape[1:]))
        x = x + position.astype(x.dtype)
        for _ in range(self.depth):
            x = Block(self._encode)(x)
        return self.logits(self._norm()(x)[:, 0])

    @nn.nowrap
    def _encode(self, x):
        x = x + Block(self._attend, name="attention")(self._norm()(x))
        y = self.act(self.dense(4 * x.shape[-1])(self._norm()(x)))
        return x + self.dense(x.shape[-1])(y)

    @nn.nowrap
    def _attend(self, x):
        query, key, value = (
            self.dense(x.shape[-1], name=name)(x).reshape(*x.shape[:2], self.num_heads, -1)
            for name in ("query", "key", "value")
        )
        y = nn.dot_product_attention(query, key, value)
        return self.dense(x.shape[-1], name="out")(y.reshape(x.shape))

    @nn.nowrap
    def _norm(self):
        return nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)
