"""A contender's process in benchmarks/training.py; it may be of an earlier checkout of initjax."""

import json
import os
import resource
import sys
import time

import numpy as np

SHAPES = {"resnet32": (32, 32, 3), "lenet": (28, 28, 1), "convnet": (32, 32, 3), "mlp": (32, 32, 3)}
BATCH = 128


def random_dataset(shape):
    """1,024 random images, enough for eight steps an epoch."""
    from initjax.data import Dataset

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (1024, *shape), np.uint8)
    labels = generator.integers(0, 10, 1024).astype(np.int32)
    return Dataset("noise", images, labels, images[:8], labels[:8], 10, tuple("0123456789"))


def our_step(model):
    """A function that trains as often as this hardware does at once, and how many steps that is."""
    import jax

    from initjax import training
    from initjax.models import create_model

    if hasattr(training, "keep_memory"):
        training.keep_memory()
        training.use_cpu_cores(BATCH, create_model(model))
    else:  # before them
        training.use_cpu_cores(BATCH)
    config = training.Config.create(model=model, augment="none", learning_rate=0.01)
    trainer = training.Trainer(config, random_dataset(SHAPES[model]))
    carry = [trainer.create_state(), trainer.zero_metrics()]
    order = trainer.order(0)
    at_once = trainer.steps_per_epoch if trainer.loops_on_device else 1

    def step():
        carry[:] = trainer.run(*carry, order, at_once)
        jax.block_until_ready(carry[1])

    return step, at_once


def work(contender, model):
    """A contender's process: as many steps as each line asks for, answered by their seconds."""
    if contender == "torch":
        from torch_models import create_step

        step, at_once = create_step(model, SHAPES[model], BATCH, len(os.sched_getaffinity(0))), 1
    else:
        step, at_once = our_step(model)
    for _ in range(3):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        began, cpu = time.perf_counter(), time.process_time()
        calls = max(int(line) // at_once, 1)
        for _ in range(calls):
            step()
        seconds = [time.perf_counter() - began, time.process_time() - cpu]
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(json.dumps([s / calls / at_once for s in seconds] + [megabytes]), flush=True)


if __name__ == "__main__":
    work(*sys.argv[1:])
