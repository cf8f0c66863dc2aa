"""Runs whose data are streamed: bit for bit those of the same data in memory."""

import dataclasses
import types

import jax
import numpy as np
import pytest
from helpers import draw_dataset, without_times

from initjax import data
from initjax.support.errors import UserError
from initjax.training import Config, Devices, Quiet, Trainer, train
from initjax.training.feed import Feed
from initjax.training.loop import run_steps
from initjax.training.replicas import Member, Replicas
from initjax.training.streaming import Stream

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("streamed_here")]


@pytest.fixture
def config(insects_dir):
    return Config(
        model="mlp(width=16)",
        dataset="tiny_insects",
        data_dir=str(insects_dir),
        image_size=8,
        batch_size=16,
        steps=7,  # two an epoch
        eval_every=1.5,
        warmup_steps=0,
        augment="crop_flip",
    )


def ends_of(config, streams, saved=None):
    """(rows, {step: what was saved}) of a run, from its start or from what was saved."""
    dataset = data.load(config.dataset, config.data_dir, config.image_size, stream=streams)
    trainer = Trainer(config, dataset)
    if saved is None:
        state, totals = trainer.create_state(), trainer.zero_metrics()
    else:
        state, totals = (trainer.place(saved[name]) for name in ("state", "totals"))
    trees = {}
    rows, _ = run_steps(trainer, state, totals, Quiet(), save=trees.__setitem__)
    return without_times(rows), trees


def assert_equal(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_stream_is_the_set_in_memory_bit_for_bit(config):
    """Over eight devices, each of which takes its part of a batch and of the last row."""
    rows, trees = ends_of(config, streams=False)
    streamed_rows, streamed_trees = ends_of(config, streams=True)
    assert [row["step"] for row in rows] == list(trees) == [3, 6, 7]
    assert streamed_rows == rows
    assert_equal(streamed_trees, trees)
    # From within an epoch, and its start.
    for step, number in ((3, 2), (6, 1)):
        resumed_rows, resumed_trees = ends_of(config, True, trees[step])
        assert resumed_rows == rows[-number:]
        assert_equal(resumed_trees[7], trees[7])


def test_random_crops_go_on_bit_for_bit(config):
    """By the recipe for ImageNet, on a small set and with a small network."""
    recipe = Config.create(
        preset="resnet50_imagenet",
        model="mlp(width=16)",
        steps=7,
        eval_every=1.5,
        **{k: getattr(config, k) for k in ("dataset", "data_dir", "image_size", "batch_size")},
    )
    rows, trees = ends_of(recipe, True)
    resumed_rows, resumed_trees = ends_of(recipe, True, trees[3])
    assert resumed_rows == rows[1:]
    assert_equal(resumed_trees[7], trees[7])


def parts_of_two(batch_size, monkeypatch):
    """What each of two processes, of two devices each, reads of a batch."""
    devices = Devices(jax.devices()[:4])
    assert devices.of_process(batch_size) == slice(0, batch_size)
    devices._devices = [types.SimpleNamespace(process_index=i) for i in (0, 0, 1, 1)]
    parts = []
    for process in (0, 1):
        with monkeypatch.context() as patch:
            patch.setattr(jax, "process_index", lambda process=process: process)
            parts.append(devices.of_process(batch_size))
    return parts


def test_two_processes_read_what_one_does_in_its_order(insects_dir, monkeypatch):
    """Random crops and the evaluation, too; without overlap or loss."""
    dataset = data.load("tiny_insects", insects_dir, 8, stream=True)
    one, *both = (Stream(dataset, 16, random_crops=True) for _ in range(3))

    def assert_shared(wanted, found):
        images, labels = (np.concatenate(x) for x in zip(*found, strict=True))
        np.testing.assert_array_equal(images, wanted[0])
        np.testing.assert_array_equal(labels, wanted[1])

    parts = parts_of_two(16, monkeypatch)
    assert parts == [slice(0, 8), slice(8, 16)]
    for step in range(1, 6):  # over the ends of epochs, of two steps each
        found = [s.training(part, 3, step, 6) for s, part in zip(both, parts, strict=True)]
        assert_shared(one.training(slice(16), 3, step, 6), found)
    indices, _ = data.evaluation_indices(14, 8)
    parts = parts_of_two(8, monkeypatch)
    for _ in range(2):
        rows = [s.evaluation(part, indices) for s, part in zip(both, parts, strict=True)]
        for wanted, *found in zip(one.evaluation(slice(8), indices), *rows, strict=True):
            assert_shared(wanted, found)


def test_a_part_of_a_batch_is_counted_from_its_own_start(insects_dir):
    """The second of two processes with four devices each: its devices are 4 to 7 of eight."""
    dataset = data.load("tiny_insects", insects_dir, 8, stream=True)
    whole = data.load("tiny_insects", insects_dir, 8)
    feed = Feed(dataset, 16, "none", Devices())
    memory = Feed(whole, 16, "none", Devices())
    indices = np.arange(16, dtype=np.int32)
    images, labels = whole.test_images, whole.test_labels
    rows, mask = indices % 14, indices < 14

    def at(feed, device, data):
        feed._devices.share = lambda size: (np.int32(device * size // 8), size // 8)
        return feed.evaluation_batch(data, rows, mask)

    for device in range(4, 8):
        local = images[rows][8:], labels[rows][8:]
        found, wanted = at(feed, device, local), at(memory, device, (images, labels))
        jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_what_streams_do_not_do_is_refused(config, insects_dir):
    dataset = data.load("tiny_insects", insects_dir, 8, stream=True)
    replicas = Replicas(config, dataset, 2, method="devices")
    with pytest.raises(UserError, match="runs that train together have one seed"):
        replicas.take([Member(dataclasses.replace(config, seed=seed)) for seed in (0, 1)])
    with pytest.raises(UserError, match="streamed in the order of the seed"):
        train("mlp", dataset, steps=1, batch_size=8, order=lambda epoch: np.arange(40))
    with pytest.raises(UserError, match="random_resized_crop crops images as they lie on disk"):
        train("mlp", draw_dataset(), steps=1, batch_size=8, augment="random_resized_crop")


def test_data_that_devices_do_not_hold_are_refused(monkeypatch):
    devices = Devices(jax.devices()[:4])
    monkeypatch.setattr("initjax.training.devices.machine_memory", lambda: 5e9)
    devices.check_memory("moths", 10**9)
    with pytest.raises(UserError, match=r"take 5.5 GB on 4 x cpu, but .* 5.0 GB(?s:.)*--stream"):
        devices.check_memory("moths", 11 * 10**8)
