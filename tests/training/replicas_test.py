"""A replica is the run alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import draw_dataset

from initjax import training
from initjax.support.errors import UserError
from initjax.training import Config, Devices, devices, replicas
from initjax.training.replicas import Member, Replicas, at_once

pytestmark = pytest.mark.slow

STEPS = 20
SMALL = Config(
    model="mlp(width=16)",
    init="he_normal",
    batch_size=16,
    steps=STEPS,
    eval_every=5.0,
    warmup_steps=2,
    augment="crop",
    learning_rate=0.05,
)
# Differences of a few bits, which twenty steps have made grow.
TOLERANCE = {"rtol": 2e-3, "atol": 2e-5}


def replace(**changes):
    return Member(dataclasses.replace(SMALL, **changes))


MEMBERS = [
    replace(),
    replace(seed=1, learning_rate=0.01),
    replace(init="nspl", weight_decay=0.1, momentum=0.5),
    replace(init="orthogonal", seed=2**32 - 1, label_smoothing=0.1),
]


def train(members, method="devices", steps=STEPS, at_once=1, dataset=None):
    """The states of replicas after some steps, as a list, on the host."""
    dataset = draw_dataset() if dataset is None else dataset
    programs = Replicas(members[0].config, dataset, len(members), method=method)
    programs.take(members)
    placed = programs.place(programs.create_states(members))
    state, totals = placed["state"], placed["totals"]
    for step in range(0, steps, at_once):
        if step % programs.steps_per_epoch == 0:
            order = programs.order(step // programs.steps_per_epoch)
        state, totals = programs.run(state, totals, order, at_once)
    found = programs.fetch({"state": state, "totals": totals}, len(members))
    return [jax.tree.map(lambda x, i=i: x[i], found) for i in range(len(members))]


@pytest.fixture
def fusion_emitters(monkeypatch):
    """Programs of training are compiled by what compiles users', which the suite does without.

    Between an optimizer's numbers in a program and beside it the others differ by a rounding.
    """
    jax.devices()  # as XLA_FLAGS says
    monkeypatch.setenv("XLA_FLAGS", "")
    options = devices.CPU_OPTIONS | {"xla_cpu_use_fusion_emitters": True}
    monkeypatch.setattr(devices, "CPU_OPTIONS", options)


def alone(config):
    """The last state of the run on one device."""
    settings = dict(vars(config))
    for name in ("epochs", "model", "dataset", "workdir"):
        del settings[name]
    _, state = training.train(
        config.model, draw_dataset(), devices=Devices(jax.devices()[:1]), **settings
    )
    return state


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **TOLERANCE), a, b)


def differ(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return any(not np.array_equal(x, y) for x, y in pairs)


def test_replicas_on_devices_are_the_runs_alone_bit_for_bit():
    together = train(MEMBERS)
    for member, found in zip(MEMBERS, together, strict=True):
        assert found["state"].step == STEPS
        assert_equal(found, train([member])[0])
        assert_equal(found["state"], alone(member.config))
    assert differ(together[0]["state"].params, together[1]["state"].params)


def test_vectorized_replicas_are_the_runs_alone_within_rounding():
    for one, other in zip(train(MEMBERS, "vmap"), train(MEMBERS), strict=True):
        assert_close(one["state"].params, other["state"].params)
        np.testing.assert_allclose(one["totals"]["loss"], other["totals"]["loss"], rtol=1e-4)
        assert one["totals"]["count"] == other["totals"]["count"] == STEPS * 16


@pytest.mark.parametrize("model", ["lenet", "resnet20(depth=8)"])
def test_so_are_those_of_other_models(model):
    """Not bit for bit where a mean over an axis of one device rounds, as in batch normalization."""
    steps = 5
    members = [Member(dataclasses.replace(m.config, model=model, steps=steps)) for m in MEMBERS[:2]]
    together = train(members, steps=steps)
    for member, found in zip(members, together, strict=True):
        assert_equal(found, train([member], steps=steps)[0])
        assert_close(found["state"], alone(member.config))
    assert bool(together[0]["state"].batch_stats) == model.startswith("resnet")


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_numbers_reach_every_optimizer(optimizer, fusion_emitters):
    members = [
        replace(**{"optimizer": optimizer, "learning_rate": 0.003, "schedule": "step"} | changes)
        for changes in ({}, {"learning_rate": 0.01}, {"momentum": 0.5}, {"weight_decay": 0.3})
    ]
    together = train(members)
    for member, found in zip(members[1:], together[1:], strict=True):
        assert_equal(found["state"], alone(member.config))
        assert differ(found["state"].params, together[0]["state"].params)


def test_rules_of_learning_rates_are_part_of_the_program(fusion_emitters):
    members = [replace(learning_rate_rules="Dense_0=0,Dense_1=0.5", seed=seed) for seed in (0, 1)]
    for member, found in zip(members, train(members), strict=True):
        assert_equal(found["state"], alone(member.config))
    first = train(members[:1], steps=1)[0]["state"].params
    both = [found["state"].params for found in (train(members[:1])[0], train([replace()])[0])]
    np.testing.assert_array_equal(both[0]["Dense_0"]["kernel"], first["Dense_0"]["kernel"])
    assert differ(both[1]["Dense_0"], both[0]["Dense_0"])


def test_one_seed_shows_all_starts_the_same_images():
    """With equal weights, nothing that is random tells replicas of one seed apart."""
    weights = np.random.default_rng(0).normal(0, 0.1, (64, 16)).astype(np.float32)

    def begin(key):
        return {
            "params": {
                "Dense_0": {"kernel": weights, "bias": np.zeros(16, np.float32)},
                "Dense_1": {"kernel": weights[:16, :16], "bias": np.zeros(16, np.float32)},
                "Dense_2": {"kernel": weights[:16, :10], "bias": np.zeros(10, np.float32)},
            }
        }

    same, start, seed = (
        Member(dataclasses.replace(SMALL, **changes), None, begin)
        for changes in ({}, {"init": "nspl"}, {"seed": 1})
    )
    same, start, seed = train([same, start, seed], steps=3)
    assert_equal(same, start)
    assert differ(same, seed)


def test_steps_looped_on_the_devices_are_the_same_steps():
    looped = train(MEMBERS, "vmap", at_once=4)
    for one, other in zip(looped, train(MEMBERS), strict=True):
        assert_close(one["state"].params, other["state"].params)


def test_a_start_is_drawn_by_one_program_for_all_seeds(monkeypatch):
    made = []
    drawn_by = replicas.drawn_by
    monkeypatch.setattr(replicas, "drawn_by", lambda *a: made.append(a) or drawn_by(*a))
    members = [replace(init=init, seed=seed) for init in ("nspl", "he_normal") for seed in range(3)]
    programs = Replicas(SMALL, draw_dataset(), 2, method="devices")
    states = programs.create_states(members)
    assert len(made) == 2
    kernels = states["state"].params["Dense_0"]["kernel"]
    assert len({kernel.tobytes() for kernel in kernels}) == 6
    shapes = programs.shapes(6)
    assert jax.tree.structure(shapes) == jax.tree.structure(states)
    for zeros, found in zip(jax.tree.leaves(shapes), jax.tree.leaves(states), strict=True):
        assert (zeros.shape, zeros.dtype) == (found.shape, found.dtype)


def test_refinements_are_of_each_replica():
    members = [replace(refine="lsuv", init="normal", seed=seed) for seed in (0, 1)]
    for member, found in zip(members, train(members), strict=True):
        assert_equal(found["state"], alone(member.config))


def test_parts_are_of_nearly_one_size(monkeypatch):
    sizes = [at_once(SMALL, draw_dataset(), n, method="devices") for n in (1, 7, 8, 9, 15, 17)]
    assert sizes == [1, 7, 8, 5, 8, 6]
    one = [
        at_once(SMALL, draw_dataset(), n, method="vmap", devices=jax.devices()[:1]) for n in (9,)
    ]
    assert one == [9]
    monkeypatch.setattr(replicas, "_memory", lambda device: 0.0)  # one a device at least
    assert at_once(SMALL, draw_dataset(), 9, method="vmap", devices=jax.devices()[:4]) == 3
    with pytest.raises(UserError, match="--population='scan' is not one of auto, devices, vmap"):
        at_once(SMALL, draw_dataset(), 9, method="scan")


def test_what_a_step_reads_and_writes_is_above_its_parameters_and_activations():
    found = replicas._step_bytes(SMALL, draw_dataset(), None)
    parameters = 4 * (64 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10)
    assert 3 * parameters < found < 100 * parameters


def test_more_replicas_than_devices_are_told():
    with pytest.raises(UserError, match="9 replicas do not fit on 8 devices"):
        Replicas(SMALL, draw_dataset(), 9, method="devices")


def test_vectorized_replicas_fill_several_devices():
    """Five on two devices: three each, of which one is a filling."""
    members = [replace(seed=seed) for seed in range(5)]
    programs = Replicas(SMALL, draw_dataset(), 5, method="vmap", devices=jax.devices()[:2])
    assert programs.devices.shape == (2, 3)
    host = programs.create_states(members)
    placed = programs.place(host)
    assert jax.tree.leaves(placed)[0].shape[:2] == (2, 3)
    assert_equal(programs.fetch(placed, 5), host)
    assert jnp.asarray(programs.zero_metrics()["count"]).shape == (2, 3)
