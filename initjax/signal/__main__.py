"""Prints what a network does to a signal before training.

    python -m initjax.signal --model="mlp(depth=50)" --activation=tanh \
        --init=he_normal,xavier_normal,lecun_normal,nspl
    python -m initjax.signal --model=resnet20 --dataset=cifar10 --data_dir=DIR --out=signal

For every initializer a table and a verdict; in the end they are ranked, and one is recommended: the
edge of chaos of this activation, where that halves what the best of them changes. With --out
also DIR/signal.json (its schema: `initjax.signal.report.to_json`), variance.png, gradients.png and
histograms.png.
"""

import argparse
import concurrent.futures
import contextlib
import math
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from initjax.data.augmentation import normalize
from initjax.data.load import load
from initjax.initializers.catalog import get
from initjax.models.catalog import create_model, model_names
from initjax.models.sizes import bounded
from initjax.network.conventions import conventional_layout
from initjax.network.layouts import find_layouts
from initjax.network.paths import named_leaves
from initjax.network.rules import reinitialize
from initjax.signal import report
from initjax.signal.layers import Signal
from initjax.signal.measure import measure, recommend
from initjax.support import command as commands
from initjax.support.arguments import count
from initjax.support.bars import bar
from initjax.support.compiling import remember_programs
from initjax.support.errors import UserError
from initjax.support.memory import check_fits
from initjax.support.naming import split_names

_LEAVES = {"scale": "ones", "mean": "zeros", "var": "ones"}  # of normalizations
_LEAVES |= {"class_token": "zeros", "position_embedding": "normal(stddev=0.02)"}  # of a ViT


def create_parser() -> commands.Parser:
    """The parser of the command line's flags."""
    parser = commands.Parser(description=__doc__)
    add = parser.add_argument
    add("--model", default="mlp(depth=50)", help=f"{', '.join(model_names())}; 'mlp(depth=50)'")
    add("--activation", default="relu", help="activation of the model (default: relu)")
    add(
        "--init",
        default="he_normal,xavier_normal,lecun_normal,nspl",
        help="initializers, by commas, such as 'he_normal,nspl(alpha=1.5, ratio=30)'",
    )
    add("--bias_init", default="zeros", help="initializer of the biases (default: zeros)")
    add("--dataset", default="", help="inputs are its first training images; default: noise N(0,1)")
    add("--data_dir", default=None, help="folder of prepared tensorflow-datasets sets")
    add("--input_shape", default="32,32,3", help="shape of the noise (default: 32,32,3)")
    add("--batch_size", type=int, default=128, help="number of inputs (default: 128)")
    add("--seed", type=int, default=0, help="seed of weights, noise and cotangent (default: 0)")
    add("--out", default="", help="folder for signal.json and pictures")
    return parser


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's flags."""
    return create_parser().parse_args(arguments)


def run(flags: argparse.Namespace) -> dict[str, Signal]:
    """Measures the model from every initializer, and reports."""
    names = [name for name in split_names(flags.init) if name]
    if not names:
        raise UserError("--init names no initializer.")
    if len(set(names)) < len(names):
        raise UserError(f"--init={flags.init!r} names an initializer twice.")
    if not 0 <= flags.seed < 2**32:
        raise UserError(f"--seed={flags.seed} must be in [0, 2^32).")
    count(flags.batch_size, "--batch_size", 2)
    initializers = {name: _named("init", get, name) for name in names}
    print(f"{flags.model}, {flags.activation}, from {', '.join(names)}", flush=True)
    get(flags.bias_init)
    folder = commands.open_folder(flags.out)
    # Not threefry: its programs take twice as long to compile, and each is used a few times.
    weights_key, cotangent_key = jax.random.split(jax.random.key(flags.seed, impl="rbg"))
    x, num_classes, source = _inputs(flags)
    model = create_model(flags.model, num_classes=num_classes, activation=flags.activation)
    try:
        with bounded(flags.model):
            shapes = dict(jax.eval_shape(model.init, weights_key, x))
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise UserError(f"--model={flags.model} does not take inputs {x.shape[1:]}: {line}") from (
            error
        )
    training = {"train": True, "mutable": ("batch_stats",)} if "batch_stats" in shapes else {}
    print(f"inputs: {source}", flush=True)
    layouts = {}
    if any(conventional_layout(p, leaf.shape) is None for p, leaf in named_leaves(shapes)):
        layouts = find_layouts(model, shapes, x, **training)
    # Where layers are normalized or add up, no weights of all of them are the best.
    point = None if training else _recommended(flags.activation)
    starts = {name: (init, flags.bias_init) for name, init in initializers.items()}
    if point is not None:
        q = "" if point.q == 1 else f", q={point.q:g}"
        arguments = f"(activation={flags.activation!r}{q})"
        edge = f"edge_of_chaos_kernel{arguments}"
        if point.bias_variance:
            edge += f' with --bias_init="edge_of_chaos_bias{arguments}"'
        starts[edge] = point.kernel_init, point.bias_init
    signals = {}
    # Weights are drawn, which is mostly compiling, while others are measured.
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=2)
    drawn = {
        name: pool.submit(draw, shapes, *inits, weights_key, layouts)
        for name, inits in starts.items()
    }
    with _bar(len(starts)) as shown:
        for name, variables in drawn.items():
            shown.set_description(name[:40])
            signals[name] = measure(
                model,
                variables.result(),
                x,
                activation=flags.activation,
                key=cotangent_key,
                **training,
            )
            shown.update()
            if name in initializers:
                shown.clear()
                text = report.table(signals[name])
                print(f"\n{name}: {signals[name].verdict}\n{text}", flush=True)
    asked = {name: signals[name] for name in initializers}
    edges = [item for item in signals.items() if item[0] not in asked and not item[1].num_branches]
    print(f"\n{report.comparison(asked, flags.activation, *edges)}")
    signals = asked
    if folder:
        command = {key: value for key, value in vars(flags).items() if key != "out"}
        print(f"In {folder}: {', '.join(report.save(signals, folder, command))}")
    return signals


@contextlib.contextmanager
def _bar(total):
    """A bar on a terminal, that goes on counting seconds while something is compiled."""
    done = threading.Event()
    with bar(total, "starts", left=False) as shown:

        def refresh():
            while not done.wait(1.0):
                shown.refresh()

        threading.Thread(target=refresh, daemon=True).start()
        try:
            yield shown
        finally:
            done.set()


def _recommended(activation):
    try:
        return recommend(activation)
    except UserError:
        return None


def _named(flag, look_up, text):
    try:
        return look_up(text)
    except UserError as error:
        raise UserError(f"--{flag}: {error}") from None


def _inputs(flags):
    """(inputs, number of classes, what they are)."""
    if flags.dataset:
        dataset = load(flags.dataset, flags.data_dir)
        # Not the first ones: some sets are sorted by class.
        rng = np.random.default_rng(flags.seed)
        chosen = rng.permutation(len(dataset.train_images))[: flags.batch_size]
        images = jnp.asarray(dataset.train_images[np.sort(chosen)])
        x = normalize(images, dataset.mean, dataset.std)
        return x, dataset.num_classes, f"{len(x)} training images of {flags.dataset}"
    try:
        shape = tuple(count(int(n), "--input_shape") for n in flags.input_shape.split(","))
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"--input_shape={flags.input_shape!r} is not of the form height,width,channels."
        ) from None
    if len(shape) != 3:
        raise UserError(f"--input_shape={flags.input_shape!r} is not height,width,channels.")
    needed = 12 * flags.batch_size * math.prod(shape)  # drawn in float64
    check_fits(f"--batch_size={flags.batch_size}", needed, "Take fewer or smaller inputs.")
    noise = np.random.default_rng(flags.seed).standard_normal((flags.batch_size, *shape))
    return (
        jnp.asarray(noise, jnp.float32),
        10,
        f"{flags.batch_size} x {'x'.join(map(str, shape))} of noise N(0, 1)",
    )


def draw(shapes, kernel_init, bias_init, key, layouts=None):
    """Variables of these shapes; equal layers share a program, as `model.init` does not."""
    variables = {}
    for collection, tree in shapes.items():
        leaves = {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(tree)}
        inits = {"kernel": kernel_init, "bias": bias_init} | _LEAVES
        rules = [(f"(^|/){leaf}$", inits[leaf]) for leaf in sorted(leaves)]
        within = {
            path.removeprefix(f"{collection}/"): layout for path, layout in (layouts or {}).items()
        }
        variables[collection] = reinitialize(tree, rules, key, layouts=within)
    return variables


def main(parse: Callable[[], argparse.Namespace] = parse, run: Callable[..., Any] = run) -> None:
    """The command, or that of another module, with a line in place of a user's traceback."""
    with commands.answers():
        flags = parse()
        remember_programs()
        run(flags)


if __name__ == "__main__":
    commands.run(main)
