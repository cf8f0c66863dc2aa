"""Models by name."""

import functools
import inspect
from collections.abc import Callable

from initjax.initializers.catalog import get
from initjax.models.base import ImageClassifier
from initjax.models.convnet import ConvNet
from initjax.models.lenet import LeNet
from initjax.models.mlp import MLP
from initjax.models.resnet_cifar import CifarResNet
from initjax.support.naming import call_by_name
from initjax.theory.activations import get_activation


def _constructor(model: type[ImageClassifier], **fields) -> Callable[..., ImageClassifier]:
    """`model` with defaults of its own, and without Flax's fields in its signature."""
    constructor = functools.partial(model, **fields)
    signature = inspect.signature(constructor)
    shown = [p for p in signature.parameters.values() if p.name not in ("parent", "name")]
    constructor.__signature__ = signature.replace(parameters=shown)
    return constructor


_MODELS = {
    "convnet": _constructor(ConvNet),
    "lenet": _constructor(LeNet),
    "mlp": _constructor(MLP),
    **{f"resnet{depth}": _constructor(CifarResNet, depth=depth) for depth in (20, 32, 44, 56, 110)},
}


def model_names() -> list[str]:
    """The names that `create_model` knows."""
    return sorted(_MODELS)


def create_model(name: str, **fields) -> ImageClassifier:
    """The model of a name, such as "resnet32" or "mlp(depth=3, width=512)".

    Args:
      name: one of `model_names()`, with arguments if it takes any.
      **fields: fields of `ImageClassifier`: num_classes, kernel_init, dense_init, bias_init,
        activation, dtype, axis_name. Initializers and activation by name or by value.

    Returns:
      A Flax Linen module: [B, H, W, C] images to [B, num_classes] logits.

    Raises:
      UserError (a ValueError): an unknown name or field.

    >>> create_model("mlp(depth=3)", kernel_init="nspl(alpha=1.5)").depth
    3
    """
    for field in ("kernel_init", "dense_init", "bias_init"):
        if fields.get(field) is not None:
            fields[field] = get(fields[field])
    if "activation" in fields:
        get_activation(fields["activation"])  # an unknown name fails here, not at the first call
    return call_by_name(name, _MODELS, "model", **fields)
