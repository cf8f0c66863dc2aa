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

import dataclasses
import json
import pathlib
import tempfile
import time

import jax
import numpy as np

from initjax import data, refine
from initjax.models import create_model
from initjax.support import command
from initjax.support.environment import describe_environment
from initjax.support.errors import UserError
from initjax.support.files import strict_json, user_path
from initjax.training import Devices, train

HERE = pathlib.Path(__file__).parent
STARTS = {  # initializer and refinement
    "zeros": ("zeros", ""),
    "N(0, 0.01^2)": ("normal(stddev=0.01)", ""),
    "consistency": ("normal(stddev=0.01)", "consistency"),
    "he_normal": ("he_normal", ""),
}
# Settings: model, batch size, optimizer (sgd has momentum 0.9), learning rate, and the share of
# --images trained on.
SETTINGS = {
    "batch 32, momentum": ("convnet", 32, "sgd", 0.01, 1.0),
    "batch 16": ("convnet", 16, "sgd", 0.01, 1.0),
    "batch 64": ("convnet", 64, "sgd", 0.01, 1.0),
    "batch normalization": ("convnet(use_batch_norm=True)", 32, "sgd", 0.01, 1.0),
    "Adam": ("convnet", 32, "adam", 0.001, 1.0),
    "6 convolutions": ("convnet(depth=6)", 32, "sgd", 0.01, 0.5),
    "learning rate 0.05": ("convnet", 32, "sgd", 0.05, 1.0),
    "four times as long": ("convnet", 32, "sgd", 0.01, 4.0),
}
WINDOWS = 20  # points of a curve
PROBES = 5  # times that the layers' statistics are recorded, from before the first step
_TEST_IMAGES = 2000
_CALIBRATION = 512


class Setting:
    """One setting on one data set, of which only the start and the seed are still open."""

    def __init__(self, name: str, dataset: data.Dataset, images: int):
        self.spec, self.batch_size, self.optimizer, self.learning_rate, share = SETTINGS[name]
        self.num_steps = int(images * share) // self.batch_size
        self.dataset = dataclasses.replace(  # the first test images, which are in random order
            dataset,
            test_images=dataset.test_images[:_TEST_IMAGES],
            test_labels=dataset.test_labels[:_TEST_IMAGES],
        )
        self.normalize = data.Normalization(dataset.mean, dataset.std)
        self.devices = Devices(jax.local_devices()[:1])
        self.network = refine.Network(self.create_model("zeros"), jax.random.key(0))
        self.probe = self.normalize(dataset.test_images[:256])

    def create_model(self, init: str):
        return create_model(self.spec, num_classes=self.dataset.num_classes, kernel_init=init)

    def statistics(self, params) -> dict[str, dict[str, float]]:
        found = self.network.statistics(jax.device_get(params), self.probe)
        return {
            path: {name: getattr(z, name) for name in ("mean", "variance", "total_variance")}
            for path, z in found.items()
        }

    def run(self, start: str, seed: int) -> dict:
        """One training run, as it is kept in runs.jsonl."""
        began = time.perf_counter()
        num_train = len(self.dataset.train_labels)
        order = np.random.default_rng(seed).permutation(num_train)
        init, refinement = STARTS[start]
        model, report = self.create_model(init), None
        variables = jax.jit(model.init)(jax.random.key(seed), self.probe[:1])
        if refinement:
            batch = self.normalize(self.dataset.train_images[order[-_CALIBRATION:]])
            params, report = refine.refine(
                refinement, model, variables["params"], batch, jax.random.key(0)
            )
            variables = {**variables, "params": params}
        probes = {round(x) for x in np.linspace(0, self.num_steps, PROBES)}
        statistics = {0: self.statistics(variables["params"])}

        def record(step, state):
            if step in probes:
                statistics[step] = self.statistics(state.params)
            return {}

        rows, _ = train(
            model,
            self.dataset,
            variables=variables,
            order=lambda epoch: order,
            record=record,
            evaluate=False,
            stop_at_nan=False,
            devices=self.devices,
            steps=self.num_steps,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            nesterov=False,
            weight_decay=0.0,
            schedule="constant",
            warmup_steps=0,
            augment="none",
            eval_every=self.batch_size / num_train,  # a row a step
            seed=seed,
        )
        curves = {
            name: [
                float(window.mean())
                for window in np.array_split([row[f"train_{name}"] for row in rows], WINDOWS)
            ]
            for name in ("loss", "accuracy")
        }
        return {
            "learning_rate": self.learning_rate,
            "steps": self.num_steps,
            "batch_size": self.batch_size,
            **curves,
            "test_loss": rows[-1]["eval_loss"],
            "test_accuracy": rows[-1]["eval_accuracy"],
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
