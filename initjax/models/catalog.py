"""Models by name, and the user's own by package.module:name.

What stands behind such a name is a Flax Linen module, or a function that makes one: [B, H, W, C]
float32 images to [B, num_classes] logits. It must take

    kernel_init    how its weights begin: what is compared

and gets, if it takes them, num_classes, dense_init, bias_init, activation (a name), dtype, and
axis_name, which nn.BatchNorm needs on several devices. `__call__` is told train=True in training
steps if it takes that; dropout draws from the stream "dropout".
"""

import functools
import inspect
from collections.abc import Callable

import jax.numpy as jnp

from initjax.initializers.catalog import get
from initjax.models.base import ImageClassifier
from initjax.models.convnet import ConvNet
from initjax.models.lenet import LeNet
from initjax.models.mlp import MLP
from initjax.models.resnet_cifar import CifarResNet
from initjax.support.errors import UserError
from initjax.support.naming import Call, call_by_name, import_own, parse
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


# A model of the user's own need not take what these leave as it is anyway.
_AS_IT_IS = {
    "dense_init": None,
    "bias_init": get("zeros"),
    "activation": "relu",
    "dtype": jnp.dtype("float32"),
}


def _for_own(call: Call, fields: dict) -> dict:
    """Those of the fields that the user's own model takes."""
    own = import_own(call.name)
    if not callable(own):
        raise UserError(f"{call.name} is a {type(own).__name__}, neither a module nor a function.")
    parameters = inspect.signature(own).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return fields
    if "kernel_init" not in parameters:
        raise UserError(
            f"{call.name} does not take kernel_init, so that no start would change it.\n"
            "Give it a field `kernel_init`, and that to its layers."
        )
    for name, value in fields.items():
        if name not in parameters and value != _AS_IT_IS.get(name, value):
            raise UserError(f"{call.name} does not take {name}, which is {value}: give it a field.")
    return {name: value for name, value in fields.items() if name in parameters}


def create_model(name: str | Call, **fields) -> ImageClassifier:
    """The model of a name, such as "resnet32" or "mlp(depth=3, width=512)".

    Args:
      name: one of `model_names()` or the user's own, with arguments if it takes any.
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
    call = name if isinstance(name, Call) else parse(name, "model")
    if ":" in call.name:
        fields = _for_own(call, fields)
    return call_by_name(call, _MODELS, "model", **fields)
