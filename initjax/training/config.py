"""Everything a run depends on, as one frozen value; each field is a command-line flag.

A text that names something (an initializer, a model, a refinement) is read once, here: the field
holds what it names. The text itself says no more than how to repeat the run, and which run it is.
"""

import dataclasses
import hashlib
import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from initjax import refine
from initjax.data.augmentation import AUGMENTATIONS
from initjax.data.images import MAX_SIZE
from initjax.initializers.catalog import get
from initjax.models.catalog import create_model, model_names
from initjax.network.parametrization import STANDARD, read_parametrization
from initjax.network.warm_starts import read_warm_start
from initjax.support.arguments import one_of
from initjax.support.command import program
from initjax.support.errors import UserError
from initjax.support.files import strict_json
from initjax.support.naming import Call, parse
from initjax.support.text import shown
from initjax.theory.activations import activation_names, get_activation
from initjax.training.layer_rates import read_rules
from initjax.training.objective import DEFAULT_LOSS, LOSSES
from initjax.training.recipes import PRESETS

OPTIMIZERS = ("sgd", "adam", "adamw")
DECAYED = ("all", "kernels")
SCHEDULES = ("constant", "step", "cosine")
PRECISIONS = ("float32", "bfloat16")

_MOST_STEPS = 2**31  # an int32 counts them


# These say where a run finds and leaves things; they do not change what it computes.
_PLACES = ("data_dir", "download", "stream", "workdir")

# Came later than config.json did: left out where they are the default, so that folders and rows of
# earlier versions are those of the same runs.
_LATER = (
    "loss",
    "init_from",
    "learning_rate_rules",
    "record_statistics",
    "stream",
    "warmup_epochs",
    "decayed",
    "parametrization",
    "base_width",
    "base_depth",
)


class Named(str):
    """A text as it was written, and what it names.

    Attributes:
      value: what the text names, made when the text was read; None for the empty text.
    """

    value: Any

    def __new__(cls, text: str, value: Any = None):
        named = super().__new__(cls, text)
        named.value = value
        return named


def _model(name: str | Call) -> Call:
    call = name if isinstance(name, Call) else parse(name, "model")
    # What is wrong with it fails here, such as an argument that is a flag's or the data's to say.
    decided = {"dense_init": None, "bias_init": "zeros", "activation": "relu", "axis_name": None}
    create_model(call, num_classes=10, kernel_init="zeros", dtype=jnp.float32, **decided)
    return call


def _refinement(name: str | Call) -> Call:
    call = name if isinstance(name, Call) else parse(name, "refinement")
    refine.check(call)
    return call


# What a compiled program takes as arguments: runs that differ in nothing else share it.
NUMBERS = ("learning_rate", "momentum", "weight_decay", "label_smoothing")

# Field: (text -> what it names, whether the text may be empty).
_NAMED: dict[str, tuple[Callable, bool]] = {
    "init": (get, False),
    "dense_init": (get, True),
    "bias_init": (get, False),
    "init_from": (read_warm_start, True),
    "refine": (_refinement, True),
    "model": (_model, False),
    "learning_rate_rules": (read_rules, True),
    "parametrization": (read_parametrization, False),
}


def _flag(default, help_text, choices=None):
    return dataclasses.field(default=default, metadata={"help": help_text, "choices": choices})


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one training run. `Config.create` applies a preset first.

    init, dense_init, bias_init, init_from, refine and model are given as texts or as what these
    name; either way they become `Named`: a text, with an initializer, a `WarmStart`, or a `Call`,
    as its `value`. So do the texts of learning_rate_rules, whose value is pairs (pattern, factor),
    and of parametrization, whose value is None for the standard one.
    """

    init: str = _flag("nspl", "Initializer, such as he_normal or 'nspl(alpha=1.5, ratio=30)'.")
    init_from: str = _flag(
        "",
        "Folder of a run, or file of weights, whose layers take the place of those of their shape:"
        " PATH, or \"depth_warm_start('PATH', layers='Conv_[0-3]$')\".",
    )
    refine: str = _flag(
        "", f"Refinement of the initial weights: {', '.join(refine.names())}; empty: none."
    )
    model: str = _flag("resnet32", f"Model: {', '.join(model_names())}; 'mlp(depth=50)'.")
    dataset: str = _flag(
        "digits",
        "digits (embedded), a tensorflow-datasets name, a folder of images by class, or your own"
        " package.module:function.",
    )
    data_dir: str = _flag("", "Folder of prepared tensorflow-datasets sets.")
    download: bool = _flag(False, "Download and prepare the data set if it is not there.")
    stream: bool = _flag(
        False,
        "Leave a tensorflow-datasets set on disk, and decode batches as they are needed; by itself"
        " where it would take more than a tenth of this machine's memory.",
    )
    image_size: int = _flag(0, "Resize images to this size; 0 keeps theirs.")
    preset: str = _flag("", "Defaults of a published recipe.", tuple(PRESETS))
    dense_init: str = _flag("", "Initializer of dense layers; empty: --init.")
    bias_init: str = _flag("zeros", "Initializer of biases.")
    activation: str = _flag("relu", f"Activation: {', '.join(activation_names())}.")
    epochs: float = _flag(30.0, "Passes over the training set.")
    steps: int = _flag(0, "Training steps, instead of --epochs.")
    batch_size: int = _flag(128, "Images a step, on all devices together.")
    optimizer: str = _flag("sgd", "Optimizer.", OPTIMIZERS)
    learning_rate: float = _flag(0.1, "Peak learning rate.")
    learning_rate_rules: str = _flag(
        "",
        "Factors on the learning rate by layer, such as 'Conv_0=0.5,Dense=0.1': regular expressions"
        " that are searched in a parameter's path; the first that is found counts.",
    )
    parametrization: str = _flag(
        STANDARD,
        "standard; mup, depth_mup or complete_p keep training the same at every --base_width.",
    )
    base_width: float = _flag(
        0.0,
        "Width (or width_multiplier) of the model at which --parametrization is the standard one,"
        " and the learning rate is tuned.",
    )
    base_depth: int = _flag(
        0, "Depth of that model, which depth_mup and complete_p need; 0: as deep as --model."
    )
    momentum: float = _flag(0.9, "Momentum of sgd; first moment decay of adam and adamw.")
    nesterov: bool = _flag(True, "Nesterov momentum.")
    weight_decay: float = _flag(
        5e-4, "L2 penalty's gradient factor (sgd, adam) or decoupled decay (adamw)."
    )
    decayed: str = _flag(
        "all", "Which parameters --weight_decay acts on: kernels have two or more axes.", DECAYED
    )
    schedule: str = _flag("cosine", "Learning rate schedule.", SCHEDULES)
    boundaries: tuple[float, ...] = _flag(
        (0.5, 0.75), "Fractions of the run after which --schedule=step divides by 10."
    )
    warmup_steps: int = _flag(20, "Steps of linear warm-up.")
    warmup_epochs: float = _flag(
        0.0,
        "Of --epochs those of linear warm-up, in place of --warmup_steps; with --steps, their"
        " share.",
    )
    loss: str = _flag(DEFAULT_LOSS, "Loss, summed over classes.", tuple(LOSSES))
    label_smoothing: float = _flag(0.0, "Label smoothing, in [0, 1).")
    augment: str = _flag(
        "auto",
        "auto: crop_flip for CIFAR, crop for digits, else none; random_resized_crop for --stream.",
        ("auto", *AUGMENTATIONS),
    )
    precision: str = _flag("float32", "Dtype of the computation.", PRECISIONS)
    seed: int = _flag(0, "Seed of everything random.")
    eval_every: float = _flag(1.0, "Epochs between evaluations.")
    record_statistics: bool = _flag(
        False,
        "Write statistics.jsonl: before the first step and at every evaluation, by layer, mean,"
        " variance and total variance of pre-activations, and the size of weight updates; and"
        " histograms of weights and pre-activations for TensorBoard.",
    )
    workdir: str = _flag("", "Folder of the run; empty: runs/<data>-<model>-<init>-<digest>.")

    @classmethod
    def create(cls, **explicit: Any) -> "Config":
        """The preset's settings, overridden by what is given explicitly.

        Raises:
          UserError (a ValueError): a value out of its range, or both --epochs and --steps.
        """
        if explicit.get("steps", 1) < 1:  # where it is not given, 0 stands for --epochs
            raise UserError(f"--steps={explicit['steps']} must be 1 or more.")
        preset = explicit.get("preset", "")
        values = PRESETS[one_of(preset, PRESETS, "preset")] | explicit
        if explicit.get("epochs") and explicit.get("steps"):
            raise UserError("--epochs and --steps say the same twice; give one of them.")
        if "epochs" in explicit:
            values["steps"] = 0
        if rate := values.pop("rate_of_256", None):  # linear in the batch size (Goyal et al. 2017)
            batch_size = explicit.get("batch_size", values["batch_size"])
            values.setdefault("learning_rate", rate * batch_size / 256)
        return cls(**values)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if choices := field.metadata["choices"]:
                one_of(getattr(self, field.name), choices, f"--{field.name}")
        try:
            object.__setattr__(self, "boundaries", tuple(map(float, self.boundaries)))
        except ValueError:
            raise UserError(f"--boundaries={','.join(self.boundaries)} are not numbers.") from None
        for name, holds, rule in (
            ("epochs", 0 < self.epochs < float("inf") or self.steps > 0, "positive and finite"),
            ("steps", 0 <= self.steps < _MOST_STEPS, "in [0, 2^31)"),
            ("batch_size", 0 < self.batch_size < 2**31, "positive and below 2^31"),
            ("image_size", 0 <= self.image_size <= MAX_SIZE, f"0 to {MAX_SIZE} pixels"),
            ("learning_rate", 0 < self.learning_rate < float("inf"), "positive"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay", 0 <= self.weight_decay < float("inf"), "0 or more and finite"),
            ("warmup_steps", 0 <= self.warmup_steps < _MOST_STEPS, "in [0, 2^31)"),
            ("warmup_epochs", 0 <= self.warmup_epochs <= self.epochs, "0 to --epochs"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            ("eval_every", 0 < self.eval_every < float("inf"), "positive and finite"),
            ("seed", 0 <= self.seed < 2**32, "in [0, 2^32)"),
            ("base_width", 0 <= self.base_width < float("inf"), "0 or more and finite"),
            ("base_depth", self.base_depth >= 0, "0 or more"),
            ("boundaries", all(0 < b < 1 for b in self.boundaries), "fractions between 0 and 1"),
            ("boundaries", list(self.boundaries) == sorted(self.boundaries), "in rising order"),
        ):
            if not holds:
                raise UserError(f"--{name}={shown(getattr(self, name))} must be {rule}.")
        for name, (look_up, may_be_empty) in _NAMED.items():
            given = getattr(self, name)
            if not isinstance(given, Named):
                empty = given == "" and may_be_empty
                value = None if empty else _told(name, look_up, given)
                text = given if isinstance(given, str | Call) else repr(value)
                object.__setattr__(self, name, Named(str(text), value))
        _told("activation", get_activation, self.activation)
        if self.parametrization.value is not None and not (self.base_width or self.base_depth):
            raise UserError(
                f"--parametrization={self.parametrization} needs --base_width, the width at which"
                " the learning rate is tuned, such as --base_width=64."
            )
        if getattr(self.parametrization.value, "exponent", 0) and not self.base_depth:
            raise UserError(
                f"--parametrization={self.parametrization} needs --base_depth, the depth at which"
                " the learning rate is tuned.\nGive it, such as --base_depth=2; mup follows the"
                " width alone."
            )

    def total_steps(self, steps_per_epoch: int) -> int:
        """Steps of the run.

        Raises:
          UserError: more than an int32 counts.
        """
        steps = self.steps or self.epochs * steps_per_epoch
        if steps >= _MOST_STEPS:
            days = steps / 1000 / (24 * 3600)
            raise UserError(
                f"--epochs={self.epochs:g} of {steps_per_epoch} steps are {steps:.3g} steps, which"
                f" at 1,000 a second take {days:.2g} days.\nAt most {_MOST_STEPS - 1:,} can be"
                " counted: take fewer epochs, or a larger --batch_size."
            )
        return max(round(steps), 1)

    def evaluation_interval(self, steps_per_epoch: int) -> int:
        """Steps from one evaluation to the next."""
        return max(round(min(self.eval_every * steps_per_epoch, _MOST_STEPS)), 1)

    def evaluation_steps(self, steps_per_epoch: int, step: int) -> list[int]:
        """The steps up to `step` at which the run is evaluated: of rows, if it stands there."""
        every = self.evaluation_interval(steps_per_epoch)
        steps = list(range(every, step + 1, every))
        ends = step == self.total_steps(steps_per_epoch) and step % every
        return [*steps, step] if ends else steps

    def command(self) -> str:
        """The command that repeats the run: as this process was started, or `initjax train`."""
        words = program()
        if words[-1] != "train" and not words[-1].endswith("launch.py"):
            words = ["initjax", "train"]
        preset = Config.create(preset=self.preset)
        base = Config.create(preset=self.preset, batch_size=self.batch_size)  # its learning rate
        flags = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            shown = field.name in ("init", "model", "preset")
            if field.name == "epochs" and base.steps and not self.steps:
                shown = True  # what --steps=0 does not say
            default = getattr(preset if field.name == "batch_size" else base, field.name)
            if value == default and not shown:
                continue
            if field.name in ("preset", "steps") and not value:
                continue
            if isinstance(value, bool):
                flags.append(f"--{'' if value else 'no'}{field.name}")
            else:
                text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                flags.append(f"--{field.name}={text}")
        return shlex.join([*words, *flags])

    def _fields(self) -> dict[str, Any]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {k: v for k, v in fields.items() if k not in _LATER or v != getattr(Config, k)}

    def to_json(self) -> str:
        """The fields as saved in config.json: all but later ones that are the default."""
        return strict_json(self._fields(), indent=2)

    def same_run(self, saved: dict[str, Any]) -> list[str]:
        """The fields in which a saved configuration is of another run than this one."""
        mine = json.loads(self.to_json())
        keys = [key for key in mine | saved if key not in _PLACES]
        return [key for key in keys if mine.get(key) != saved.get(key)]

    def settings(self) -> str:
        """What tells the run from others, as json: all but where it finds and leaves things."""
        fields = {k: v for k, v in self._fields().items() if k not in _PLACES}
        return json.dumps(fields, sort_keys=True)

    def run_name(self) -> str:
        """A folder's name that tells runs with different settings apart."""
        digest = hashlib.sha256(self.settings().encode()).hexdigest()[:8]
        parts = (self.dataset, self.model, self.init)
        return "-".join(
            [*(re.sub(r"[^\w.]+", "_", part).strip("_")[:50] for part in parts), digest]
        )


def _told(flag, look_up, value):
    """`look_up(value)`, with the flag's name before the message of a UserError."""
    try:
        return look_up(value)
    except UserError as error:
        raise UserError(f"--{flag}: {error}") from None
