"""What makes training on CPUs fast, and that it changes nothing else."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import draw_dataset

from initjax.models import create_model
from initjax.training import Config, Trainer, devices, use_cpu_cores
from initjax.training.optimizers import create_optimizer
from initjax.training.start import create_state

pytestmark = pytest.mark.slow

LENET = Config(
    model="lenet", init="he_normal", batch_size=16, steps=20, augment="crop", learning_rate=0.02
)


def train(steps=20, trainer=None, state=None):
    """(trainer, state, totals) after steps of LeNet, four an epoch, from `state` or the start."""
    trainer = trainer or Trainer(LENET, draw_dataset(shape=(28, 28, 1)))
    state = trainer.create_state() if state is None else trainer.place(state)
    totals = trainer.zero_metrics()
    for step in range(int(state.step), steps):
        state, totals = trainer.run(state, totals, trainer.order(step // 4), 1)
    return trainer, *jax.device_get((state, totals))


def test_compiler_options_change_no_more_than_rounding(monkeypatch):
    _, cured, totals = train()
    assert cured.step == 20 and totals["count"] == 320
    monkeypatch.setattr(devices, "compiler_options", lambda model: {})
    _, plain, plain_totals = train()
    np.testing.assert_allclose(totals["loss"], plain_totals["loss"], rtol=1e-5)
    differ = jax.tree.map(lambda a, b: np.abs(a - b).max(), cured.params, plain.params)
    assert max(jax.tree.leaves(differ)) < 1e-5


def test_runs_and_runs_that_go_on_are_the_same_bits():
    trainer, whole, _ = train()
    _, half, _ = train(9, trainer)
    for state in (None, half):
        _, other, _ = train(state=state)
        jax.tree.map(np.testing.assert_array_equal, whole, other)


@pytest.mark.parametrize("init", ["nspl", "he_normal", "he_uniform", "orthogonal"])
def test_the_first_state_has_the_bits_of_init(init, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")  # in which the tests name the option
    model, key = create_model("lenet", kernel_init=init), jax.random.PRNGKey(3)
    state = create_state(model, create_optimizer(LENET, 20), (28, 28, 1), key)
    lowered = jax.jit(model.init).lower(key, jnp.zeros((1, 28, 28, 1)))
    program = lowered.compile(compiler_options={"xla_backend_optimization_level": 3})
    expected = program(key, jnp.zeros((1, 28, 28, 1)))["params"]
    jax.tree.map(np.testing.assert_array_equal, state.params, expected)


@pytest.mark.parametrize(
    ("model", "batch_size", "cores", "number"),
    [
        ("mlp", 128, 4, None),
        ("lenet", 128, 4, 4),
        ("resnet32", 128, 3, 2),
        ("convnet", 6, 8, 2),
        (None, 128, 64, 8),
        (None, 128, 1, 1),
    ],
)
def test_number_of_cpu_devices(monkeypatch, model, batch_size, cores, number):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    set_to = {}
    monkeypatch.setattr(jax.config, "update", set_to.__setitem__)
    use_cpu_cores(batch_size, model and create_model(model))
    assert set_to.get("jax_num_cpu_devices") == number
    for name in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES"):
        set_to.clear()
        monkeypatch.setenv(name, "--xla_force_host_platform_device_count=3")
        use_cpu_cores(batch_size, model and create_model(model))
        assert not set_to
        monkeypatch.delenv(name)


FAULTS = """
import resource, sys
import numpy as np
from initjax import training

training.keep_memory()
blocks = [np.ones(1 << 23) for _ in range(2)]
del blocks
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.confstr("CS_GNU_LIBC_VERSION") is None,
    reason="glibc's malloc",
)
def test_freed_memory_is_kept_unless_the_environment_says_otherwise():
    """Of pages for arrays in the place of freed ones; NumPy asks for huge ones."""
    faults = []
    for chosen in ({}, {"MALLOC_ARENA_MAX": "4"}):
        environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | chosen
        command = [sys.executable, "-c", FAULTS]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        faults.append(int(run.stdout))
    assert 10 * faults[0] < faults[1], faults
