"""What all models share: the fields that say from which weights they start, and their registry."""

import functools
import inspect
import numbers
from collections.abc import Callable
from typing import Any, TypeVar

import flax.linen as nn
import jax.numpy as jnp

from initjax.initializers.catalog import get
from initjax.models.convolution import convolve
from initjax.support.arguments import not_negative, positive
from initjax.support.errors import UserError
from initjax.support.naming import Call, Registry
from initjax.support.text import shown
from initjax.theory.activations import get_activation

Init = str | Call | Callable
Model = TypeVar("Model", bound=type[nn.Module])


def constructor(model: Callable[..., Any], **fields: Any) -> Callable[..., Any]:
    """`model` with defaults of its own, and without Flax's fields in its signature."""
    made = functools.partial(model, **fields)
    signature = inspect.signature(made)
    shown = [p for p in signature.parameters.values() if p.name not in ("parent", "name")]
    made.__signature__ = signature.replace(parameters=shown)  # pyright: ignore
    return made


MODELS = Registry(
    "model",
    own=lambda name, model: constructor(model),
    form="a Flax Linen module with a field num_classes; see `initjax.models.create_model`",
)


def register(name: str, **fields: Any) -> Callable[[Model], Model]:
    """Decorator: lets `create_model(name)` make a model of this class, with these fields."""

    def add(model: Model) -> Model:
        MODELS.add(name, constructor(model, **fields))
        return model

    return add


class ImageClassifier(nn.Module):
    """Base of the models: [B, H, W, C] float images to [B, num_classes] float32 logits.

    Attributes:
      num_classes: number of logits.
      kernel_init: initializer of the weights, by name or by value; the field holds the value.
      dense_init: initializer of dense layers' weights where it is another than `kernel_init`.
      bias_init: initializer of the biases.
      activation: activation function, by name or by value. A name stays one: most of JAX's
        functions cannot be pickled, and so neither could the model.
      dtype: dtype of the computation; parameters are float32.
      axis_name: the mapped axis over which batch statistics are shared, if the model is mapped.
    """

    num_classes: int = 10
    kernel_init: Init = "he_normal"
    dense_init: Init | None = None
    bias_init: Init = "zeros"
    activation: str | Call | Callable = "relu"
    dtype: Any = jnp.float32
    axis_name: str | None = None

    def __post_init__(self) -> None:
        for name in ("num_classes", "depth", "width"):
            value = getattr(self, name, 1)
            if not isinstance(value, numbers.Integral) or not 1 <= value < 2**31:
                raise UserError(
                    f"{name}={shown(value)} must be a whole number, 1 or more and below 2^31."
                )
        self.kernel_init = get(self.kernel_init)
        if self.dense_init is not None:
            self.dense_init = get(self.dense_init)
        self.bias_init = get(self.bias_init)
        get_activation(self.activation)  # an unknown name fails here, not at the first call
        if isinstance(self.activation, Call):
            self.activation = str(self.activation)
        super().__post_init__()

    def act(self, x):
        """Applies the activation function."""
        return get_activation(self.activation)(x)

    # Not wrapped, a method makes its layers in the module that is being called: in a `Block`, the
    # block.

    @nn.nowrap
    def conv(self, features: int, size: int, **kwargs) -> nn.Conv:
        """A size x size convolution with this model's initializers."""
        settings = {"kernel_init": self.kernel_init} | kwargs
        return nn.Conv(
            features,
            (size, size),
            bias_init=self.bias_init,
            dtype=self.dtype,
            conv_general_dilated=convolve,
            **settings,
        )

    @nn.nowrap
    def dense(self, features: int, **kwargs) -> nn.Dense:
        """A dense layer with this model's initializers."""
        own = self.kernel_init if self.dense_init is None else self.dense_init
        settings = {"kernel_init": own} | kwargs
        return nn.Dense(features, bias_init=self.bias_init, dtype=self.dtype, **settings)

    @nn.nowrap
    def batch_norm(self, train: bool, **kwargs) -> nn.BatchNorm:
        """Batch normalization whose statistics are those of the whole batch on all devices."""
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            axis_name=self.axis_name,
            **kwargs,
        )

    @nn.nowrap
    def conv_layer(self, x, features: int, size: int, train: bool, **kwargs):
        """A convolution, normalized if the model's field `use_batch_norm` says so, and activated.

        Where it is normalized it has no bias.
        """
        x = self.conv(features, size, use_bias=not self.use_batch_norm, **kwargs)(x)
        if self.use_batch_norm:
            x = self.batch_norm(train)(x)
        return self.act(x)

    def logits(self, x):
        """The last layer; float32 whatever the dtype of the computation."""
        return self.dense(self.num_classes)(x).astype(jnp.float32)


class ScalableClassifier(ImageClassifier):
    """Base of the networks for ImageNet, whose width is a multiple of the source's.

    Attributes:
      width_multiplier: of the source's number of channels in every layer but the last, positive:
        0.25 trains on a CPU. Rounded to a whole number, half upwards, and 1 or more.

    Dropout draws from the stream "dropout"; where there is none, as when a signal is measured in
    training's mode, nothing is dropped.
    """

    width_multiplier: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self.width_multiplier, "width_multiplier")
        rate = not_negative(getattr(self, "dropout_rate", 0), "dropout_rate")
        if rate >= 1:
            raise UserError(f"dropout_rate={rate} must be below 1.")

    def wide(self, channels: int) -> int:
        """As many channels as this model has where the source has `channels`."""
        return max(1, int(channels * self.width_multiplier + 0.5))

    @nn.nowrap
    def dropout(self, rate: float, train: bool) -> nn.Dropout:
        """Sets a share of its inputs to 0 in training, and divides the others by 1 - rate."""
        return nn.Dropout(rate, deterministic=not (train and self.has_rng("dropout")))


class Block(nn.Module):
    """Calls a method of a model; the layers that this makes are under the block's own name.

    Attributes:
      build: the method, an `nn.nowrap` one.
    """

    build: Callable

    @nn.compact
    def __call__(self, *args):
        return self.build(*args)
