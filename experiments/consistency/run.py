"""Consistency-aware initialization against zeros and N(0, 0.01^2): its source's study.

    python experiments/consistency/run.py --data_dir=DIR

Source: "consistency-aware initialization", which says that before training the difference between
the distribution of the samples that the initial weights generate and a target distribution is
measured, that one pass of optimization makes the two agree, that the network is then trained by
SGD, and that it so converges faster and better than from zeros and from N(0, 0.01^2). It publishes
no code; `initjax.refine.consistency` is our interpretation. Its network has three convolutions, its
data are CIFAR-10 and SVHN; batch size, batch normalization, depth and optimizer are varied.

What is run: `initjax.models.convnet` from zeros, from N(0, 0.01^2), from the same weights after
`consistency` (sequential, moment, unit Gaussian, 384 images), and for comparison from He's
initialization, in eight settings that differ in one thing from the first. Within a setting all see
the same images in the same order, each at most once, so that the accuracy on a batch before its
step is that on new data. Every run is a line of runs.jsonl as soon as it is done; the same command
goes on where it was stopped, seed by seed.

Hardware and time: two shared cores of an AMD EPYC, about an hour. Measured (5 seeds, mean and 95 %
t interval): after 5,000 images of CIFAR-10 at batch 32, SGD with momentum at 0.01, test accuracy
0.382 +- 0.019 from consistency, 0.225 +- 0.018 from N(0, 0.01^2), 0.104 +- 0.003 from zeros;
after 20,000 images 0.475 +- 0.029 and 0.445 +- 0.024. README.md has the rest, and where this and
the source part. The source's own figures are not public.
"""

import functools
import json
import pathlib
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from initjax import data, refine
from initjax.models import create_model
from initjax.support import command
from initjax.support.environment import describe_environment
from initjax.support.errors import UserError
from initjax.support.files import strict_json, user_path
from initjax.training.step import AXIS, TrainState, eval_step, train_step

HERE = pathlib.Path(__file__).parent
STARTS = {  # initializer and refinement
    "zeros": ("zeros", ""),
    "N(0, 0.01^2)": ("normal(stddev=0.01)", ""),
    "consistency": ("normal(stddev=0.01)", "consistency"),
    "he_normal": ("he_normal", ""),
}
# Settings: model, batch size, optimizer, learning rate, and the share of --images trained on.
SETTINGS = {
    "batch 32, momentum": ("convnet", 32, "momentum", 0.01, 1.0),
    "batch 16": ("convnet", 16, "momentum", 0.01, 1.0),
    "batch 64": ("convnet", 64, "momentum", 0.01, 1.0),
    "batch normalization": ("convnet(use_batch_norm=True)", 32, "momentum", 0.01, 1.0),
    "Adam": ("convnet", 32, "adam", 0.001, 1.0),
    "6 convolutions": ("convnet(depth=6)", 32, "momentum", 0.01, 0.5),
    "learning rate 0.05": ("convnet", 32, "momentum", 0.05, 1.0),
    "four times as long": ("convnet", 32, "momentum", 0.01, 4.0),
}
OPTIMIZERS = {
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "adam": optax.adam,
}
WINDOWS = 20  # points of a curve
PROBES = 5  # times that the layers' statistics are recorded, from before the first step
_TEST_IMAGES = 2000
_EVAL_BATCH = 500
_CALIBRATION = 512


class Setting:
    """The compiled programs of one setting, which all its runs share."""

    def __init__(self, name: str, dataset: data.Dataset, images: int):
        self.spec, self.batch_size, optimizer, self.learning_rate, share = SETTINGS[name]
        self.num_steps = int(images * share) // self.batch_size
        self.dataset = dataset
        self.optimizer = OPTIMIZERS[optimizer](self.learning_rate)
        self.model = self.create_model("zeros")
        map_one = functools.partial(
            jax.pmap, axis_name=AXIS, out_axes=None, devices=jax.local_devices()[:1]
        )
        step = functools.partial(train_step, model=self.model, optimizer=self.optimizer)
        self.step = map_one(step, in_axes=(None, 0, None))
        self.eval_step = map_one(functools.partial(eval_step, model=self.model), in_axes=(None, 0))
        self.network = refine.Network(self.model.clone(axis_name=None), jax.random.key(0))
        self.probe = self.images(dataset.test_images[:256])

    def create_model(self, init: str, axis_name: str | None = AXIS):
        return create_model(
            self.spec,
            num_classes=self.dataset.num_classes,
            kernel_init=init,
            axis_name=axis_name,
        )

    def images(self, images) -> jax.Array:
        return data.normalize(jnp.asarray(images), self.dataset.mean, self.dataset.std)

    def create_state(self, start: str, seed: int, calibration):
        """The state before the first step, and the report of its refinement if there is one."""
        init, refinement = STARTS[start]
        model = self.create_model(init, axis_name=None)
        variables = jax.jit(model.init)(jax.random.key(seed), self.probe[:1])
        params, report = variables["params"], None
        if refinement:
            params, report = refine.refine(
                refinement, model, params, self.images(calibration), jax.random.key(0)
            )
        stats = variables.get("batch_stats", {})
        state = TrainState(jnp.int32(0), params, stats, self.optimizer.init(params))
        return state, report

    def statistics(self, state) -> dict[str, dict[str, float]]:
        found = self.network.statistics(jax.device_get(state.params), self.probe)
        return {
            path: {name: getattr(z, name) for name in ("mean", "variance", "total_variance")}
            for path, z in found.items()
        }

    def evaluate(self, state) -> tuple[float, float]:
        """(loss, accuracy) over the first test images, which are in random order."""
        number = min(_TEST_IMAGES, len(self.dataset.test_labels))
        indices, mask = data.evaluation_indices(number, _EVAL_BATCH)
        totals = np.zeros(3)
        for rows, keep in zip(indices, mask, strict=True):
            batch = {
                "image": self.images(self.dataset.test_images[rows])[None],
                "label": self.dataset.test_labels[rows][None],
                "mask": keep[None],
            }
            found = jax.device_get(self.eval_step(state, batch))
            totals += [found["loss"], found["correct"], found["count"]]
        return totals[0] / totals[2], totals[1] / totals[2]

    def run(self, start: str, seed: int) -> dict:
        """One training run, as it is kept in runs.jsonl."""
        began = time.perf_counter()
        order = np.random.default_rng(seed).permutation(len(self.dataset.train_labels))
        calibration = self.dataset.train_images[order[-_CALIBRATION:]]
        state, report = self.create_state(start, seed, calibration)
        probes = {round(x) for x in np.linspace(0, self.num_steps, PROBES)}
        statistics = {0: self.statistics(state)}
        losses, correct = [], []
        for i in range(self.num_steps):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            batch = {
                "image": self.images(self.dataset.train_images[rows])[None],
                "label": self.dataset.train_labels[rows][None],
            }
            state, metrics = self.step(state, batch, jax.random.key(seed))
            metrics = jax.device_get(metrics)
            losses.append(float(metrics["loss"]) / self.batch_size)
            correct.append(float(metrics["correct"]) / self.batch_size)
            if i + 1 in probes:
                statistics[i + 1] = self.statistics(state)
        test_loss, test_accuracy = self.evaluate(state)
        return {
            "learning_rate": self.learning_rate,
            "steps": self.num_steps,
            "batch_size": self.batch_size,
            "loss": [float(x.mean()) for x in np.array_split(losses, WINDOWS)],
            "accuracy": [float(x.mean()) for x in np.array_split(correct, WINDOWS)],
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "statistics": statistics,
            "gap_before": report.before if report else None,
            "gap_after": report.after if report else None,
            "seconds": time.perf_counter() - began,
        }


def read_runs(path: pathlib.Path) -> list[dict]:
    """The runs done so far; a last line that was cut off is dropped."""
    runs = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return runs


def main():
    parser = command.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="folder of prepared tensorflow-datasets sets")
    parser.add_argument("--datasets", default="cifar10,svhn_cropped")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000, help="training images a run")
    parser.add_argument("--settings", default=";".join(SETTINGS), help="separated by semicolons")
    parser.add_argument("--starts", default=";".join(STARTS), help="separated by semicolons")
    parser.add_argument("--results", type=user_path, default=HERE / "results")
    args = parser.parse_args()
    cache = pathlib.Path(tempfile.gettempdir()) / "initjax-compiled"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    args.results.mkdir(parents=True, exist_ok=True)
    file = args.results / "runs.jsonl"
    done = {(r["dataset"], r["setting"], r["start"], r["seed"]) for r in read_runs(file)}
    for name in args.datasets.split(","):
        try:
            dataset = data.load(name, args.data_dir)
        except UserError as error:
            print(f"{name} is left out: {error}", flush=True)
            continue
        settings = {s: Setting(s, dataset, args.images) for s in args.settings.split(";")}
        # What the source compares first, seed by seed: whenever it is stopped, cells are even.
        order = [
            (name, setting, start, seed)
            for starts in (list(STARTS)[:3], list(STARTS)[3:])
            for seed in range(args.seeds)
            for setting in settings
            for start in starts
            if start in args.starts.split(";")
        ]
        for identity in order:
            if identity in done:
                continue
            _, setting, start, seed = identity
            run = dict(zip(("dataset", "setting", "start", "seed"), identity, strict=True))
            run |= settings[setting].run(start, seed) | {"environment": describe_environment()}
            with file.open("a") as stream:
                stream.write(strict_json(run) + "\n")
            print(
                f"{name}, {setting}, {start}, seed {seed}: loss {run['loss'][-1]:.3f}, test"
                f" accuracy {run['test_accuracy']:.4f}, {run['seconds']:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    command.run(main, resumes=True)
