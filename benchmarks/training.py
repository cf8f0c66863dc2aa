"""Training throughput, model by model: python benchmarks/training.py

Images a second of whole training steps (gather, augmentation, forward, backward, update) at batch
128, on random images, as the launcher runs them: on all cores or devices. Steps of the variants
alternate. `--activations=relu,jax` gives a ResNet `jax.nn.relu` instead of its own
`relu_by_choice`; other models use `jax.nn.relu` in both.
"""

import argparse
import statistics
import time

import common
import jax
import numpy as np

from initjax import data, training
from initjax.training import Config


def random_dataset(shape, num_classes=10):
    """1,024 random images, enough for eight steps an epoch."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (1024, *shape), np.uint8)
    labels = generator.integers(0, num_classes, 1024).astype(np.int32)
    names = tuple(map(str, range(num_classes)))
    return data.Dataset("cifar10", images, labels, images[:8], labels[:8], num_classes, names)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="resnet32,lenet,convnet,mlp")
    parser.add_argument("--shape", default="32,32,3")
    parser.add_argument("--activations", default="relu")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--precision", default="float32")
    args = parser.parse_args()
    training.use_cpu_cores(128)
    shape = tuple(map(int, args.shape.split(",")))
    runs = {}
    for model in args.models.split(","):
        for activation in args.activations.split(","):
            config = Config.create(model=model, precision=args.precision)
            trainer = training.Trainer(config, random_dataset(shape))
            if activation == "jax":
                trainer.model = trainer.model.clone(activation=jax.nn.relu)
            runs[model, activation] = [trainer, trainer.create_state(), trainer.zero_metrics(), []]
    for _ in range(args.steps + 1):  # the first compiles
        for run in runs.values():
            trainer, state, totals, seconds = run
            steps = trainer.steps_per_epoch if trainer.loops_on_device else 1
            order = trainer.order(0)
            start = time.perf_counter()
            run[1], run[2] = trainer.run(state, totals, order, steps)
            jax.block_until_ready(run[2])
            seconds.append((time.perf_counter() - start) / steps)
    rows, lines = (
        [],
        ["| model | activation | images/s (median) | 5 % - 95 % |", "|---|---|---|---|"],
    )
    for (model, activation), (*_, seconds) in runs.items():
        speeds = sorted(128 / s for s in seconds[1:])
        low, high = np.quantile(speeds, (0.05, 0.95))
        median = statistics.median(speeds)
        rows.append({"model": model, "activation": activation, "images_per_second": speeds})
        lines.append(f"| {model} | {activation} | {median:.0f} | {low:.0f} - {high:.0f} |")
    name = f"training-{jax.default_backend()}-jax{jax.__version__}"
    common.save(name, {"rows": rows}, "\n".join(lines))


if __name__ == "__main__":
    main()
