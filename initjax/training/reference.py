"""Measures what a reference network does with a data set, for `consistency` to aim at elsewhere.

    python -m initjax.training.reference --model=convnet --init=he_normal --out=target.json \
        --dataset=tiny_imagenet --data_dir=DIR
    python -m initjax.training.reference --run=runs/NAME --out=target.json
    python launch.py --model=convnet --dataset=cifar10 \
        --refine="consistency(target=saved('target.json', pooled=True))"

The network is a run's, trained, with the run's data set or another; or one that --model and --init
make, as the first step of launch.py would find it. Written are mean, variance and quantiles of
every layer's channels over training images (see `initjax.refine.save_statistics`).
"""

import argparse
import os

import flax.errors
import numpy as np

from initjax import data
from initjax.refine.targets import save_statistics
from initjax.support import command as commands
from initjax.support.arguments import count
from initjax.support.environment import describe_environment
from initjax.support.errors import UserError
from initjax.support.files import user_path
from initjax.training.config import Config
from initjax.training.inference import Run, load_run
from initjax.training.randomness import run_key, weights_key
from initjax.training.start import drawn_by, model_of, parametrization_of

# Of a random start; a run has its own.
_OF_THE_START = ("model", "init", "activation")
_OF_THE_DATA = ("dataset", "data_dir", "image_size")


def untrained(config: Config, dataset: data.Dataset) -> Run:
    """What `load_run` returns of a run, of one that has not begun."""
    model = model_of(config, dataset.num_classes)
    key = weights_key(run_key(config.seed))
    shape = dataset.train_images.shape[1:]
    variables = drawn_by(model, shape, key, parametrization_of(config, model, shape))(key)
    return Run(model, variables, data.Normalization(dataset.mean, dataset.std), config)


def save_reference(
    run: Run,
    dataset: data.Dataset,
    file: str | os.PathLike[str],
    *,
    images: int = 1024,
    seed: int = 0,
) -> None:
    """Writes a network's statistics over training images of a data set to a file.

    Args:
      run: from `load_run` or `untrained`; images are normalized as its own were.
      dataset: any whose images the network takes.
      file: where to write.
      images: how many are drawn; all, where there are fewer.
      seed: of the draw.

    Raises:
      UserError (a ValueError): the network does not take these images, or the file cannot be
        written.
    """
    order = np.random.default_rng(seed).permutation(len(dataset.train_labels))
    chosen = dataset.train_images[np.sort(order[: count(images, "images")])]
    shape = "x".join(map(str, chosen.shape[1:]))
    about = {
        "network": run.config.model,
        "config": run.config.command(),
        "dataset": dataset.name,
        "images": len(chosen),
        "image_shape": shape,
        "environment": describe_environment(),
    }
    params = run.variables["params"]
    try:
        save_statistics(run.model, params, run.normalization(chosen), file, about=about)
    except flax.errors.FlaxError as error:
        raise UserError(
            f"The network does not take images of {shape}: {str(error).splitlines()[0]}\n"
            "One with dense layers takes the size that it was trained on; --image_size resizes."
        ) from None
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from None


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's flags."""
    parser = commands.Parser(description=__doc__)
    add = parser.add_argument
    add("--out", required=True, help="file to write")
    add("--run", help="folder of a run of launch.py")
    for name in _OF_THE_START:
        add(f"--{name}", help="as of launch.py, without --run")
    for name in _OF_THE_DATA:
        kind = int if name == "image_size" else str
        add(f"--{name}", type=kind, help="as of launch.py; default with --run: the run's")
    add("--images", type=int, default=1024, help="training images (default: 1024)")
    add("--seed", type=int, default=0, help="of the images, and of the start (default: 0)")
    return parser.parse_args(arguments)


def measure(flags: argparse.Namespace) -> None:
    """Loads or makes the network, measures it, and says what it wrote."""
    given = {k: v for k in _OF_THE_START + _OF_THE_DATA if (v := getattr(flags, k)) is not None}
    if flags.run and (wrong := [name for name in _OF_THE_START if name in given]):
        raise UserError(f"--{wrong[0]}={given[wrong[0]]}: the network of --run has its own.")
    run = load_run(flags.run) if flags.run else None
    base = {name: getattr(run.config, name) for name in _OF_THE_DATA} if run else {}
    config = Config(**base | given, seed=flags.seed)
    place, size = config.data_dir or None, config.image_size or None
    dataset = data.load(config.dataset, place, size, False, None)
    run = run or untrained(config, dataset)
    out = user_path(flags.out)
    save_reference(run, dataset, out, images=flags.images, seed=flags.seed)
    what = f"{run.config.model} from {flags.run or run.config.init}"
    number = min(flags.images, len(dataset.train_labels))
    print(f"{what}, {number} training images of {dataset.name}: {out}")


def main() -> None:
    """The command, with a line in place of a traceback where its user is wrong."""
    with commands.answers():
        measure(parse())


if __name__ == "__main__":
    commands.run(main)
