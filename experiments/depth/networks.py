"""A residual network without normalization, whose branches may have an initializer of their own."""

import flax.linen as nn

from initjax.models import ImageClassifier


class ResidualMLP(ImageClassifier):
    """x + V phi(W x), `depth` times over, between a first and a last dense layer.

    `dense_init`, where it is given, is that of V, the last layer of each branch; all others have
    `kernel_init`. The stream grows by the variance of V's outputs in each branch, so that no fixed
    variance suits all depths (Yang & Schoenholz 2017, arXiv:1712.08969).

    Attributes:
      depth: number of branches.
      width: units of the stream and of each branch.
    """

    depth: int = 20
    width: int = 128

    @nn.compact
    def __call__(self, x, train: bool = False):
        def layer(features):
            return nn.Dense(features, kernel_init=self.kernel_init, bias_init=self.bias_init)

        x = layer(self.width)(x.reshape(len(x), -1))
        for _ in range(self.depth):
            x = x + self.dense(self.width)(self.act(layer(self.width)(x)))
        return layer(self.num_classes)(x)
