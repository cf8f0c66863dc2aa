"""A contender's process in benchmarks/training.py; it may be of an earlier checkout of initjax."""

import json
import os
import resource
import statistics
import subprocess
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


def prepare(model, replicas):
    """The configuration and data set of our contenders, once the process is set up for them."""
    from initjax import training
    from initjax.models import create_model

    batch = 0 if replicas else BATCH
    if hasattr(training, "keep_memory"):
        training.keep_memory()
        training.use_cpu_cores(batch, None if replicas else create_model(model))
    else:  # before them
        training.use_cpu_cores(batch)
    config = training.Config.create(model=model, augment="none", learning_rate=0.01)
    return config, random_dataset(SHAPES[model])


def our_step(model):
    """A function that trains as often as this hardware does at once, and how many steps that is."""
    import jax

    from initjax import training

    trainer = training.Trainer(*prepare(model, replicas=False))
    carry = [trainer.create_state(), trainer.zero_metrics()]
    order = trainer.order(0)
    at_once = trainer.steps_per_epoch if trainer.loops_on_device else 1

    def step():
        carry[:] = trainer.run(*carry, order, at_once)
        jax.block_until_ready(carry[1])

    return step, at_once


def population_step(model):
    """The same of a population of 8: as many of them as train at once, and their steps in all."""
    import dataclasses

    import jax

    from initjax.training import replicas

    config, dataset = prepare(model, replicas=True)
    number = replicas.at_once(config, dataset, 8)
    population = replicas.Replicas(config, dataset, number)
    members = [replicas.Member(dataclasses.replace(config, seed=i)) for i in range(number)]
    population.take(members)
    carry = population.place(population.create_states(members))
    carry = [carry["state"], carry["totals"]]
    order = population.order(0)
    at_once = population.steps_per_epoch if population.loops_on_device else 1

    def step():
        carry[:] = population.run(*carry, order, at_once)
        jax.block_until_ready(carry[1])

    return step, at_once * number


def torch_step(model, threads):
    """The same of PyTorch, which trains one step at once."""
    from torch_models import create_step

    return create_step(model, SHAPES[model], BATCH, threads), 1


STEPS = {
    "ours": our_step,
    "before": our_step,
    "population": population_step,
    "torch": lambda model: torch_step(model, len(os.sched_getaffinity(0))),
    "torch_process": lambda model: torch_step(model, 1),
}


def measured(step, at_once):
    """A function of a number of steps, which takes them and returns seconds and CPU seconds."""

    def measure(steps):
        began, cpu = time.perf_counter(), time.process_time()
        calls = max(steps // at_once, 1)
        for _ in range(calls):
            step()
        seconds = [time.perf_counter() - began, time.process_time() - cpu]
        return [s / calls / at_once for s in seconds]

    for _ in range(3):
        step()
    return measure


def torch_processes(model):
    """The same of as many processes of one thread as there are cores, which train side by side."""
    command = [sys.executable, __file__, "torch_process", model]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in os.sched_getaffinity(0)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"

    def measure(steps):
        began, share = time.perf_counter(), max(steps // len(processes), 1)
        for process in processes:
            print(share, file=process.stdin, flush=True)
        answers = [json.loads(process.stdout.readline()) for process in processes]
        taken = time.perf_counter() - began
        return [taken / share / len(processes), statistics.mean(a[1] for a in answers)]

    return measure


def work(contender, model):
    """A contender's process: as many steps as each line asks for, answered by their seconds."""
    if contender == "torch_processes":
        measure = torch_processes(model)
    else:
        measure = measured(*STEPS[contender](model))
    print("ready", flush=True)
    for line in sys.stdin:
        answer = measure(int(line))
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(json.dumps([*answer, megabytes]), flush=True)


if __name__ == "__main__":
    work(*sys.argv[1:])
