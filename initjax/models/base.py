"""What all models share: the fields that say from which weights they start."""

import numbers
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from initjax.initializers.catalog import get
from initjax.models.convolution import convolve
from initjax.support.errors import UserError
from initjax.theory.activations import get_activation

Init = str | Callable


class ImageClassifier(nn.Module):
    """Base of the models: [B, H, W, C] float images to [B, num_classes] float32 logits.

    Attributes:
      num_classes: number of logits.
      kernel_init: initializer of the weights, by name or by value.
      dense_init: initializer of dense layers' weights where it is another than `kernel_init`.
      bias_init: initializer of the biases.
      activation: activation function, by name or by value.
      dtype: dtype of the computation; parameters are float32.
      axis_name: the mapped axis over which batch statistics are shared, if the model is mapped.
    """

    num_classes: int = 10
    kernel_init: Init = "he_normal"
    dense_init: Init | None = None
    bias_init: Init = "zeros"
    activation: str | Callable = "relu"
    dtype: Any = jnp.float32
    axis_name: str | None = None

    def __post_init__(self):
        for name in ("num_classes", "depth", "width"):
            value = getattr(self, name, 1)
            if not isinstance(value, numbers.Integral) or value < 1:
                raise UserError(f"{name}={value!r} must be a whole number, 1 or more.")
        super().__post_init__()

    def act(self, x):
        """Applies the activation function."""
        return get_activation(self.activation)(x)

    def conv(self, features: int, size: int, **kwargs) -> nn.Conv:
        """A size x size convolution with this model's initializers."""
        return nn.Conv(
            features,
            (size, size),
            kernel_init=get(self.kernel_init),
            bias_init=get(self.bias_init),
            dtype=self.dtype,
            conv_general_dilated=convolve,
            **kwargs,
        )

    def dense(self, features: int) -> nn.Dense:
        """A dense layer with this model's initializers."""
        kernel_init = self.kernel_init if self.dense_init is None else self.dense_init
        return nn.Dense(
            features,
            kernel_init=get(kernel_init),
            bias_init=get(self.bias_init),
            dtype=self.dtype,
        )

    def batch_norm(self, train: bool) -> nn.BatchNorm:
        """Batch normalization whose statistics are those of the whole batch on all devices."""
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )

    def logits(self, x):
        """The last layer; float32 whatever the dtype of the computation."""
        return self.dense(self.num_classes)(x).astype(jnp.float32)
