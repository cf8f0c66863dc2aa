"""Models by name, and the user's own by package.module:name.

What stands behind such a name is a Flax Linen module, or a function that makes one: [B, H, W, C]
float32 images to [B, num_classes] logits. It must take

    kernel_init    how its weights begin: what is compared

and gets, if it takes them, num_classes, dense_init, bias_init, activation (a name), dtype, and
axis_name, which nn.BatchNorm needs on several devices. `__call__` is told train=True in training
steps if it takes that; dropout draws from the stream "dropout".
"""

import dataclasses
import inspect
from typing import Any

import flax.linen as nn

from initjax.initializers.catalog import get
from initjax.models.base import MODELS, ImageClassifier
from initjax.support.errors import UserError
from initjax.support.naming import Call, parse
from initjax.theory.activations import get_activation

# What the fields of a user's own model are given: values.
_VALUES = {"kernel_init": get, "dense_init": get, "bias_init": get, "activation": get_activation}

# Who says what a model's arguments may not.
_DECIDES = {
    "num_classes": "the data",
    "kernel_init": "--init",
    "dense_init": "--dense_init",
    "bias_init": "--bias_init",
    "activation": "--activation",
    "dtype": "--precision",
    "axis_name": "the number of devices",
}


def model_names() -> list[str]:
    """The names that `create_model` knows."""
    return sorted(MODELS)


def create_model(name: str | Call, **fields: Any) -> nn.Module:
    """The model of a name, such as "resnet32" or "mlp(depth=3, width=512)".

    Args:
      name: one of `model_names()`, with arguments if it takes any, or "package.module:Net" for
        your own, with arguments likewise; or what `initjax.support.naming.parse` made of it.
      **fields: fields of `ImageClassifier`: num_classes, kernel_init, dense_init, bias_init,
        activation, dtype, axis_name. Initializers and activation by name or by value.

    Returns:
      A Flax Linen module: [B, H, W, C] images to [B, num_classes] logits.

    Your own is a class of Flax Linen modules, or a function that makes one, with
    - the fields (or arguments) num_classes and, where it is given, kernel_init; of the others those
      that it has: initializers and the activation come as values, and it is for the module to use
      them. One that is given, is not the default, and that it does not have is an error;
    - `__call__(x, train=False)`, or `__call__(x)` where training makes no difference. Batch
      normalization wants `use_running_average=not train` and `axis_name=self.axis_name`.

    Raises:
      UserError (a ValueError): an unknown name or field, or one that both the name and `fields`
        give; your own that is no such module.

    >>> create_model("mlp(depth=3)", kernel_init="nspl(alpha=1.5)").depth
    3
    """
    call = name if isinstance(name, Call) else parse(name, MODELS.kind)
    for field, _ in call.keywords:
        if field in fields:
            decides = _DECIDES.get(field, "the caller")
            raise UserError(f"model={call}: {field} is for {decides} to say; leave it out.")
    if not call.is_own:
        return MODELS.bind(call, **fields)
    model = MODELS.bind(call, **_taken(call.name, {"num_classes": 10} | fields))
    if not isinstance(model, nn.Module):
        raise MODELS.not_of_the_form(f"{call.name} gave a value of type {type(model).__name__}.")
    return _taking_train(model)


def resized(model: nn.Module, width: float | None = None, depth: int | None = None) -> nn.Module:
    """`model` at another width and depth; None leaves them.

    Raises:
      UserError (a ValueError): a model without a field for it (width or width_multiplier; depth),
        or that cannot have this one.

    >>> resized(create_model("mlp(width=512)"), width=64).width
    64
    """
    has = {field.name for field in dataclasses.fields(model)}
    changes = {}
    for asked, names in ((width, ("width", "width_multiplier")), (depth, ("depth",))):
        if asked is None:
            continue
        name = next((name for name in names if name in has), None)
        if name is None:
            raise UserError(f"{type(model).__name__} has no field {' or '.join(names)}.")
        changes[name] = asked if name == "width_multiplier" or asked % 1 else int(asked)
    return model.clone(**changes)


def _taken(name, fields) -> dict[str, Any]:
    """Those of our fields that a user's own model has, as values; fields of its own stay."""
    parameters = inspect.signature(MODELS.look_up(name)).parameters
    if "num_classes" not in parameters:
        raise MODELS.not_of_the_form(f"{name} has no field num_classes.")
    defaults = {field.name: field.default for field in dataclasses.fields(ImageClassifier)}
    taken = {}
    for field, value in fields.items():
        given, default = (
            x if x is None else _VALUES.get(field, lambda x: x)(x)
            for x in (value, defaults.get(field))
        )
        if field in parameters or field not in defaults:
            taken[field] = given
        elif field == "kernel_init":
            raise UserError(
                f"{name} has no field kernel_init, so that no start would change it.\n"
                "Give it one, and that to its layers."
            )
        elif field != "axis_name" and given != default:
            raise UserError(
                f"{name} has no field {field}, so that {given!r} would change nothing.\n"
                "Give it one, or leave this at its default."
            )
    return taken


def _taking_train(model: nn.Module) -> nn.Module:
    """`model`, or one like it that takes `train` where it does not."""
    own = type(model)
    if "train" in inspect.signature(model.__call__).parameters:  # pyright: ignore
        return model

    class Taking(own):
        def __call__(self, x, train: bool = False):
            del train
            return super().__call__(x)

    Taking.__name__, Taking.__qualname__ = own.__name__, own.__qualname__
    Taking.__module__, Taking.__doc__ = own.__module__, own.__doc__
    fields = (field.name for field in dataclasses.fields(model) if field.init)
    return Taking(
        **{name: getattr(model, name) for name in fields if name not in ("parent", "name")}
    )
