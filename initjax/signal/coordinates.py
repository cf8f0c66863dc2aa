"""The coordinate check: how far one training step moves what the layers put out, by width.

    python -m initjax.signal.coordinates --model="mlp(depth=2)" --widths=64,128,256,512,1024
    python -m initjax.signal.coordinates --model="vit_tiny(depth=2, patch_size=4)" --widths=1,2,4 \
        --input_shape=8,8,3 --out=coordinates

In a parametrization that keeps what training does at every width, the mean |change| of a layer's
pre-activations has no slope against the width, on logarithmic axes (Yang, Hu et al. 2022,
arXiv:2203.03466, appendix D.1): a slope below 0.1 either way passes. The standard one's grows. With
--out also DIR/coordinates.json and coordinates.png.
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from initjax.models.catalog import create_model, model_names, resized
from initjax.network.parametrization import (
    MaximalUpdate,
    initial_factors,
    of_module,
    read_parametrization,
)
from initjax.network.paths import named_leaves
from initjax.network.taps import record
from initjax.signal.__main__ import main
from initjax.support import command as commands
from initjax.support.arguments import count, one_of, positive
from initjax.support.environment import describe_environment
from initjax.support.errors import UserError
from initjax.support.files import strict_json, write_whole
from initjax.support.naming import split_names

ACCEPTED = 0.1  # of a slope, either way
OPTIMIZERS = ("adam", "sgd")


@dataclasses.dataclass(frozen=True)
class Coordinates:
    """What one step changes at every width.

    Attributes:
      widths: rising.
      changes: by layer, mean |change| of its pre-activations at each width.
    """

    widths: tuple[float, ...]
    changes: dict[str, tuple[float, ...]]

    @property
    def slopes(self) -> dict[str, float]:
        """By layer, of log change against log width, least squares; NaN where nothing changed."""
        return {layer: _slope(self.widths, values) for layer, values in self.changes.items()}

    @property
    def passes(self) -> bool:
        """Whether every slope is below 0.1 either way."""
        return all(abs(slope) < ACCEPTED for slope in self.slopes.values())


def measure_coordinates(
    model: nn.Module,
    widths: Sequence[float],
    x: jax.Array,
    labels: jax.Array,
    *,
    method: MaximalUpdate | None = None,
    base_width: float | None = None,
    optimizer: str = "adam",
    learning_rate: float = 0.01,
    seeds: Sequence[int] = (0, 1, 2),
) -> Coordinates:
    """The change of every layer's pre-activations by the first step, at each of some widths.

    Args:
      model: one that has a field width or width_multiplier, in the standard parametrization.
      widths: of that field, two or more.
      x: inputs.
      labels: [B] int classes; the loss is the softmax's.
      method: what `read_parametrization` returns; None: the standard one.
      base_width: at which it is the standard one; None: the least of `widths`.
      optimizer: "adam", whose first step is the gradients' signs, or "sgd".
      learning_rate: at the base width.
      seeds: of the weights; the mean over them is taken.

    Raises:
      UserError (a ValueError): fewer than two widths, or a model without one.
    """
    one_of(optimizer, OPTIMIZERS, "--optimizer")
    widths = tuple(sorted(positive(width, "--widths") for width in widths))
    if len(set(widths)) < max(len(widths), 2):
        raise UserError("--widths needs two or more, each of them once.")
    base = resized(model, base_width or widths[0])
    changes: dict[str, list[float]] = {}
    for width in widths:
        net = resized(model, width)
        found = None if method is None else of_module(method, base, net, x, optimizer).folded()
        for layer, change in _changes(net, found, x, labels, optimizer, learning_rate, seeds):
            changes.setdefault(layer, []).append(change)
    return Coordinates(widths, {layer: tuple(values) for layer, values in changes.items()})


def _changes(net, found, x, labels, optimizer, learning_rate, seeds) -> list[tuple[str, float]]:
    """[(layer, mean |change|)] of one step, the mean over so many starts."""
    rates, factors = {}, {}
    if found is not None:
        rates = found.rates
        factors = initial_factors(found, net.kernel_init, getattr(net, "dense_init", None))
    order: list[str] = []  # of execution; what `jit` returns is sorted

    @jax.jit
    def run(key):
        variables = net.init(key, x)

        def outputs(params):
            return record(net, {**variables, "params": params}, x)

        def loss(params):
            log_p = jax.nn.log_softmax(outputs(params)[0])
            return -jnp.mean(log_p[jnp.arange(len(labels)), labels])

        leaves = named_leaves(variables["params"])
        structure = jax.tree.structure(variables["params"])
        params = structure.unflatten([w * factors.get(path, 1.0) for path, w in leaves])
        grads = jax.tree.leaves(jax.grad(loss)(params))
        steps = [
            learning_rate * rates.get(path, 1.0) * (jnp.sign(g) if optimizer == "adam" else g)
            for (path, _), g in zip(leaves, grads, strict=True)
        ]
        moved = jax.tree.map(jnp.subtract, params, structure.unflatten(steps))
        before, after = (outputs(p)[1] for p in (params, moved))
        order[:] = before
        return {
            layer: jnp.mean(jnp.abs(jnp.stack(after[layer]) - jnp.stack(before[layer])))
            for layer in before
        }

    # Programs of rbg compile faster than threefry's.
    found = [run(jax.random.key(seed, impl="rbg")) for seed in seeds]
    return [(layer, float(np.mean([changes[layer] for changes in found]))) for layer in order]


def _slope(widths, values) -> float:
    if min(values) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(widths), np.log(values), 1)[0])


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's flags."""
    parser = commands.Parser(description=__doc__)
    add = parser.add_argument
    add(
        "--model",
        default="mlp(depth=2)",
        help=f"{', '.join(model_names())} (default: mlp(depth=2))",
    )
    add("--widths", default="64,128,256,512,1024", help="of its field width or width_multiplier")
    add(
        "--parametrization",
        default="standard,mup",
        help="by commas: standard, mup, depth_mup, complete_p (default: standard,mup)",
    )
    add("--base_width", type=float, default=None, help="default: the least of --widths")
    add("--init", default="lecun_normal", help="initializer (default: lecun_normal)")
    add("--activation", default="relu", help="activation of the model (default: relu)")
    add("--optimizer", default="adam", help="adam, whose first step are signs, or sgd")
    add("--learning_rate", type=float, default=0.01, help="at the base width (default: 0.01)")
    add("--input_shape", default="8,8,1", help="of the noise N(0, 1) (default: 8,8,1)")
    add("--batch_size", type=int, default=64, help="number of inputs (default: 64)")
    add("--seeds", type=int, default=3, help="starts over which the mean is taken (default: 3)")
    add("--out", default="", help="folder for coordinates.json and coordinates.png")
    return parser.parse_args(arguments)


def run(flags: argparse.Namespace) -> dict[str, Coordinates]:
    """Checks the model in every parametrization, and reports."""
    count(flags.batch_size, "--batch_size")
    widths = _numbers(flags.widths, "--widths")
    shape = tuple(
        count(int(n), "--input_shape") for n in _numbers(flags.input_shape, "--input_shape")
    )
    methods = {name: read_parametrization(name) for name in split_names(flags.parametrization)}
    folder = commands.open_folder(flags.out)
    model = create_model(flags.model, kernel_init=flags.init, activation=flags.activation)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((flags.batch_size, *shape)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, model.num_classes, flags.batch_size))
    found = {}
    for name, method in methods.items():
        found[name] = measure_coordinates(
            model,
            widths,
            x,
            labels,
            method=method,
            base_width=flags.base_width,
            optimizer=flags.optimizer,
            learning_rate=positive(flags.learning_rate, "--learning_rate"),
            seeds=range(count(flags.seeds, "--seeds")),
        )
        print(f"{name}, mean |change| by one step of {flags.optimizer}:\n{table(found[name])}\n")
    if folder:
        command = {key: value for key, value in vars(flags).items() if key != "out"}
        save(found, folder, command)
        print(f"In {folder}: coordinates.json, coordinates.png")
    return found


def _numbers(text, flag) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{flag}={text!r} are not numbers, separated by commas.") from None


def table(found: Coordinates) -> str:
    """Layers as lines: their changes at each width, and the slope."""
    rows = [["layer", *(f"{width:g}" for width in found.widths), "slope"]]
    for layer, values in found.changes.items():
        rows.append([layer, *(f"{v:.3g}" for v in values), f"{found.slopes[layer]:+.2f}"])
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([f"{row[0]:<{sizes[0]}}", *map(str.rjust, row[1:], sizes[1:])]) for row in rows
    ]
    verdict = "passes" if found.passes else "does not pass"
    return "\n".join([*lines, f"{verdict}: slopes within {ACCEPTED} of 0 are asked for"])


def save(
    found: Mapping[str, Coordinates], folder: pathlib.Path, command: Mapping[str, Any]
) -> None:
    """Writes coordinates.json and coordinates.png."""
    rows = {
        name: {"widths": c.widths, "changes": c.changes, "slopes": c.slopes, "passes": c.passes}
        for name, c in found.items()
    }
    result = {"settings": command, "environment": describe_environment(), "found": rows}
    write_whole(folder / "coordinates.json", strict_json(result, indent=1) + "\n")
    plot(found, folder / "coordinates.png", command["model"])


def plot(found: Mapping[str, Coordinates], path: pathlib.Path, title: str) -> None:
    """Change against width, a panel a parametrization and a line a layer."""
    from matplotlib.figure import Figure  # only for pictures

    figure = Figure(figsize=(4.2 * len(found), 3.6), layout="constrained")
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axis, (name, c) in zip(axes, found.items(), strict=True):
        for layer, values in c.changes.items():
            axis.loglog(
                c.widths, values, marker="o", label=f"{layer}, slope {c.slopes[layer]:+.2f}"
            )
        axis.set(title=name, xlabel="width")
        axis.legend(fontsize="small")
    axes[0].set_ylabel("mean |change| of pre-activations by one step")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    commands.run(lambda: main(parse, run))
