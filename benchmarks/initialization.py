"""Times initializing a ResNet-50 by rules against Flax's own init.

    python benchmarks/initialization.py

Every timing is a fresh process, compilation included, in turns: tracing the shapes and
`initjax.reinitialize` against `jax.jit(model.init)` and `model.init`. Seconds of wall clock and of
the processor.
"""

import argparse
import functools
import statistics
import subprocess
import sys
import time

import common
import flax.linen as nn
import jax
import jax.numpy as jnp

import initjax

RULES = (("kernel", "lecun_normal"), ("scale", "ones"), ("bias", "zeros"))


class ResNet50(nn.Module):
    """ResNet-50 of He et al. 2015: 25.6 M parameters."""

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(nn.Conv, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=True)
        x = nn.relu(norm()(conv(64, (7, 7), strides=2)(x)))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for stage, blocks in enumerate((3, 4, 6, 3)):
            for block in range(blocks):
                features = 64 * 2**stage
                stride = 2 if stage > 0 and block == 0 else 1
                y = nn.relu(norm()(conv(features, (1, 1))(x)))
                y = nn.relu(norm()(conv(features, (3, 3), strides=stride)(y)))
                y = norm()(conv(4 * features, (1, 1))(y))
                if block == 0:
                    x = norm()(conv(4 * features, (1, 1), strides=stride)(x))
                x = nn.relu(x + y)
        return nn.Dense(1000)(x.mean((1, 2)))


def by_rules(model, key, x):
    shapes = jax.eval_shape(model.init, key, x)["params"]
    return initjax.reinitialize(shapes, RULES, key)


METHODS = {
    "initjax.reinitialize": by_rules,
    "jax.jit(model.init)": lambda model, key, x: jax.jit(model.init)(key, x),
    "model.init": lambda model, key, x: model.init(key, x),
}


def time_once(method):
    """Prints wall and processor seconds of one method."""
    key, x = jax.random.key(0), jnp.ones((1, 224, 224, 3))
    jax.block_until_ready((key, x))
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(METHODS[method](ResNet50(), key, x))
    print(time.perf_counter() - wall, time.process_time() - cpu)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--once", choices=METHODS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        return time_once(args.once)
    seconds = {name: [] for name in METHODS}
    for _ in range(args.repeats):
        for name in METHODS:
            command = [sys.executable, __file__, f"--once={name}"]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds[name].append(tuple(map(float, out.split())))
    lines = ["| method | wall s (median) | processor s (median) | n |", "|---|---|---|---|"]
    for name, times in seconds.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        lines.append(f"| {name} | {wall:.1f} | {cpu:.1f} | {len(times)} |")
    name = f"initialization-{jax.default_backend()}-jax{jax.__version__}"
    common.save(name, {"seconds": seconds}, "\n".join(lines))


if __name__ == "__main__":
    main()
