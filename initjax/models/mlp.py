"""Multi-layer perceptron."""

import flax.linen as nn

from initjax.models.base import ImageClassifier, register


@register("mlp")
class MLP(ImageClassifier):
    """`depth` hidden layers of `width` units, and a last layer to the classes.

    Attributes:
      depth: number of hidden layers.
      width: units in each.
    """

    depth: int = 2
    width: int = 256

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = x.reshape(x.shape[0], -1)
        for _ in range(self.depth):
            x = self.act(self.dense(self.width)(x))
        return self.logits(x)
