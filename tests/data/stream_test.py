"""Sets that stay on disk: the same images in the same order, whoever decodes them."""

import dataclasses
import functools
import hashlib
import io
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds
from helpers import ROOT, TIMEOUT
from prepared import ANY_SIZE, draw_records, write_tfds

from initjax import data
from initjax.data import stream
from initjax.data.images import random_resized_crop, resize
from initjax.data.rows import EvaluationRows, TrainingRows, epoch_order
from initjax.data.stream import Row, read_batches
from initjax.support.errors import UserError

pytestmark = pytest.mark.usefixtures("streamed_here")

TINY_IMAGENET = ROOT.parent / "shared" / "tfds"


@pytest.fixture
def both(insects_dir):
    """The set in memory, and streamed."""
    return [data.load("tiny_insects", insects_dir, 8, stream=streams) for streams in (False, True)]


ROWS = TrainingRows(
    key=(0, 7),
    kind="threefry2x32",
    number=40,
    batch_size=8,
    part=slice(0, 8),
    first=3,
    last=12,
    random_crops=False,
)


def images_of(batches):
    return np.stack([images for images, _ in batches])


def test_columns_are_the_arrays(both):
    arrays, streamed = both
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        array, column = getattr(arrays, name), getattr(streamed, name)
        assert (column.shape, column.dtype, column.ndim) == (array.shape, array.dtype, array.ndim)
        assert len(column) == len(array)
        for index in (3, -1, slice(4, 9), np.array([[5, 2], [5, 0]])):
            found = column[index]
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array[index])
    assert streamed.label_names == arrays.label_names


def test_mean_and_deviation_are_those_of_the_arrays_and_kept(both, monkeypatch, insects_dir):
    arrays, streamed = both
    monkeypatch.setattr(stream, "_PART", 16)
    np.testing.assert_array_equal(streamed.mean, arrays.mean)
    np.testing.assert_array_equal(streamed.std, arrays.std)
    np.testing.assert_array_equal(streamed.label_counts, arrays.label_counts)
    again = data.load("tiny_insects", insects_dir, 8, stream=True)
    with monkeypatch.context() as patch:
        patch.setattr(stream, "read_batches", None)
        np.testing.assert_array_equal(again.std, arrays.std)


@pytest.mark.slow
def test_rows_follow_the_order_of_each_epoch():
    key = jax.random.wrap_key_data(np.uint32(ROWS.key))
    orders = [np.asarray(epoch_order(key, epoch, 40)) for epoch in (0, 1, 2)]
    wanted = np.concatenate([order[:40] for order in orders]).reshape(-1, 8)
    assert len(ROWS) == 9
    np.testing.assert_array_equal([ROWS[i].indices for i in range(9)], wanted[3:12])


def test_processes_share_a_batch_without_overlap_or_loss():
    parts = [dataclasses.replace(ROWS, part=slice(i, i + 2)) for i in (0, 2, 4, 6)]
    for i in range(len(ROWS)):
        joined = np.concatenate([rows[i].indices for rows in parts])
        np.testing.assert_array_equal(joined, ROWS[i].indices)


def test_batches_are_those_of_the_arrays(both):
    arrays, streamed = both
    for i, (images, labels) in enumerate(read_batches(streamed.train, ROWS)):
        np.testing.assert_array_equal(images, arrays.train_images[ROWS[i].indices])
        np.testing.assert_array_equal(labels, arrays.train_labels[ROWS[i].indices])
        assert labels.dtype == np.int32


def test_what_is_resumed_sees_the_same_crops(both):
    _, streamed = both
    random = dataclasses.replace(ROWS, random_crops=True)
    whole = images_of(read_batches(streamed.train, random))
    later = images_of(read_batches(streamed.train, dataclasses.replace(random, first=7)))
    np.testing.assert_array_equal(later, whole[4:])
    # An image has another crop in another epoch.
    first, second = (dataclasses.replace(random, first=i, last=i + 5) for i in (0, 5))
    shown = []
    for rows in (first, second):
        indices = np.concatenate([rows[i].indices for i in range(5)])
        images = np.concatenate(images_of(read_batches(streamed.train, rows)))
        shown.append(images[np.argsort(indices)])
    assert all((a != b).any() for a, b in zip(*shown, strict=True))


def test_evaluation_comes_round_and_shows_the_centre(both):
    arrays, streamed = both
    indices, _ = data.evaluation_indices(14, 4)
    plain, central = (EvaluationRows(indices, central) for central in (False, True))
    np.testing.assert_array_equal(plain[5].indices, indices[1])
    (images, _) = next(read_batches(streamed.test, plain))
    np.testing.assert_array_equal(images, arrays.test_images[indices[0]])
    (images, _) = next(read_batches(streamed.test, central))
    record = streamed.test.source[0]["image"]
    with PIL.Image.open(io.BytesIO(record)) as image:
        # 7/8 of the shorter side: 8 pixels of 8 / (7/8) = 64/7.
        np.testing.assert_array_equal(images[0], np.asarray(resize(image, 8, 224 / 256)))
    assert (images != arrays.test_images[indices[0]]).any()


def test_the_centre_is_that_of_256_pixels():
    """224 pixels of a photograph whose shorter side has 256: nothing is resampled."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 300, 3), np.uint8)
    centre = resize(PIL.Image.fromarray(pixels), 224, 224 / 256)
    np.testing.assert_array_equal(np.asarray(centre), pixels[16:240, 38:262])


class Seen(PIL.Image.Image):
    """An image without pixels that tells what is cropped."""

    def __init__(self, size, boxes):
        super().__init__()
        self._size, self._boxes = size, boxes

    def crop(self, box=None):
        self._boxes.append(box)
        return PIL.Image.new("L", (1, 1))


def test_random_crops_have_the_areas_and_ratios_of_the_source():
    """A large square, in which every ratio fits whose area is below 3/4."""
    boxes, rng = [], np.random.default_rng(0)
    for _ in range(4000):
        random_resized_crop(Seen((4000, 4000), boxes), 1, rng)
    left, top, right, bottom = np.array(boxes).T
    width, height = right - left, bottom - top
    areas, ratios = width * height / 4000**2, width / height
    assert (left >= 0).all() and (top >= 0).all() and max(right.max(), bottom.max()) <= 4000
    assert 0.08 - 1e-3 <= areas.min() and areas.max() <= 1
    assert 3 / 4 - 1e-3 <= ratios.min() and ratios.max() <= 4 / 3 + 1e-3
    # There areas and log ratios are uniform.
    fits = areas < 0.75
    for values, low, high in ((areas, 0.08, 0.75), (np.log(ratios), np.log(3 / 4), np.log(4 / 3))):
        error = (high - low) / np.sqrt(12 * fits.sum())
        assert abs(values[fits].mean() - (low + high) / 2) < 4 * error
        sd = (high - low) / np.sqrt(12)
        # Var of a uniform's sample variance: (mu_4 - sd^4) / n = sd^4 (9/5 - 1) / n.
        assert abs(values[fits].var() / sd**2 - 1) < 4 * np.sqrt(0.8 / fits.sum())
    # Positions are uniform: left / free has mean 1/2.
    free = 4000 - width > 400
    position = left[free] / (4000 - width[free])
    assert abs(position.mean() - 0.5) < 4 / np.sqrt(12 * free.sum())


def test_a_random_crop_of_a_strip_is_its_centre():
    for size, wanted in (((400, 10), (193, 0, 206, 10)), ((10, 400), (0, 193, 10, 206))):
        boxes = []
        random_resized_crop(Seen(size, boxes), 1, np.random.default_rng(0))
        assert boxes == [wanted]


def test_half_of_the_random_crops_are_mirrored():
    ramp = PIL.Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (64, 1)))
    rng = np.random.default_rng(0)
    crops = (np.asarray(random_resized_crop(ramp, 2, rng)) for _ in range(400))
    mirrored = sum(int(crop[0, 0]) > int(crop[0, 1]) for crop in crops)
    assert abs(mirrored - 200) < 4 * np.sqrt(400 / 4)


def test_imagenet_by_its_name(tmp_path):
    """In the files that its own builder reads; the labels of its test split are kept elsewhere."""
    features = {
        "image": ANY_SIZE,
        "label": tfds.features.ClassLabel(num_classes=1000),
        "file_name": tfds.features.Text(),
    }
    splits = {
        "train": draw_records(5, 0, 1000),
        "validation": draw_records(4, 1, 1000),
        "test": [record | {"label": -1} for record in draw_records(3, 2)],
    }
    named = {name: [r | {"file_name": "a"} for r in found] for name, found in splits.items()}
    write_tfds(tmp_path, "imagenet2012", features, named)
    folder = (tmp_path / "imagenet2012" / "1.0.0").rename(tmp_path / "imagenet2012" / "5.1.0")
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"1.0.0"', '"5.1.0"'))
    found = data.load("imagenet2012", tmp_path, 24, stream=True)
    assert found.num_classes == 1000
    assert (len(found.train), len(found.test)) == (5, 4)
    wanted = [record["label"] for record in splits["validation"]]
    assert found.test_labels[:].tolist() == wanted
    assert found.train_images[2].shape == (24, 24, 3)


@pytest.mark.parametrize("name", ["digits", "stream_test:isolated"])
def test_what_cannot_be_streamed_says_so(name):
    with pytest.raises(UserError, match="cannot be streamed: only sets of tensorflow-datasets"):
        data.load(name, stream=True)


def test_what_takes_more_than_a_tenth_of_the_memory_is_streamed(insects_dir, monkeypatch):
    num_bytes = 54 * 8 * 8 * 3
    for memory, streams in ((10 * num_bytes, False), (10 * num_bytes - 1, True)):
        monkeypatch.setattr("initjax.data.tfds.machine_memory", lambda m=memory: m)
        found = data.load("tiny_insects", insects_dir, 8, stream=None)
        assert isinstance(found, stream.StreamedDataset) == streams
    monkeypatch.setattr("initjax.data.dataset.machine_memory", lambda: num_bytes - 1)
    with pytest.raises(UserError, match=r"take 0 GB, but(?s:.)*or --stream them"):
        data.load("tiny_insects", insects_dir, 8)
    assert data.load("tiny_insects", insects_dir, 8, stream=True).train_images.shape[0] == 40


def test_a_record_that_cannot_be_read_is_named(both):
    _, streamed = both
    source = streamed.train.source
    broken = [source[i] | {"label": 7 if i == 5 else 0} for i in range(40)]

    class Source(list):
        def __getitems__(self, indices):
            return [self[i] for i in indices]

    records = dataclasses.replace(streamed.train, source=Source(broken))
    with pytest.raises(UserError, match=r"record 5 of split train .* its label is 7"):
        list(read_batches(records, [Row([1, 2]), Row([4, 5])]))


def test_what_is_held_out_of_a_stream_is_that_of_the_arrays(both, monkeypatch):
    arrays, streamed = (dataset.validation_split() for dataset in both)
    assert (len(streamed.train), len(streamed.test)) == (32, 8)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(streamed, name)[:], getattr(arrays, name))
    monkeypatch.setattr(stream, "_PART", 16)
    for name in ("mean", "std", "label_counts"):
        np.testing.assert_array_equal(getattr(streamed, name), getattr(arrays, name))
    assert (streamed.mean != both[1].mean).any()  # and is kept apart
    assert len({streamed.facts, both[1].facts}) == len(list(streamed.facts.parent.glob("*facts*")))


PROGRAM = """
import dataclasses, hashlib, multiprocessing, sys
from initjax import data
from initjax.data.stream import read_batches
from stream_rows import ROWS
records = data.load("tiny_insects", sys.argv[1], 8, stream=True).train
for images, _ in read_batches(records, ROWS, workers=2):
    print(hashlib.sha256(images).hexdigest(), flush=True)
    if sys.stdin.readline() == "workers\\n":
        print(*[x.pid for x in multiprocessing.active_children()], flush=True)
"""


@pytest.mark.slow
def test_workers(both, insects_dir, tmp_path):
    """Give the same batches in the same order, whatever a terminal or a scheduler sends to all of a
    job's processes, and end with their parent even where it is killed. They do not import the
    program, which would start itself."""
    rows = dataclasses.replace(ROWS, last=10**6, random_crops=True)
    here = read_batches(both[1].train, rows)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "stream_rows.py").write_text(f"from initjax.data.rows import *\nROWS = {rows}\n")
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), str(insects_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path), *sys.path])},
    )

    def answer(asked=""):
        process.stdin.write(asked + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    def next_digest():
        return hashlib.sha256(next(here)[0]).hexdigest()

    try:
        assert process.stdout.readline().strip() == next_digest()
        workers = answer("workers").split()
        assert len(workers) == 2
        for worker in workers:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(int(worker), number)
        # The line after the workers; then more than was read ahead.
        assert process.stdout.readline().strip() == next_digest()
        assert [answer() for _ in range(12)] == [next_digest() for _ in range(12)]
    finally:
        process.kill()
        # Workers hold the other end of the pipe: it ends when they have.
        process.communicate(timeout=TIMEOUT)


@pytest.mark.skipif(not TINY_IMAGENET.exists(), reason="no sample of Tiny ImageNet here")
def test_tiny_imagenet_in_shards():
    streamed = data.load("tiny_imagenet", TINY_IMAGENET, stream=True)
    assert len(streamed.train) == 16_000
    indices = [0, 4000, 15_999, 7]
    rows = [Row(indices), Row(indices, [functools.partial(resize, share=224 / 256)] * 4)]
    (plain, labels), (central, _) = read_batches(streamed.train, rows)
    assert plain.shape == central.shape == (4, 64, 64, 3)
    np.testing.assert_array_equal(labels, streamed.train_labels[np.array(indices)])
    # The centre is enlarged by 8 / 7: its middle is nearest to that of its own image.
    middle, centre = (x[:, 28:36, 28:36].astype(int) for x in (plain, central))
    assert np.abs(middle - centre).mean() < np.abs(middle - centre[::-1]).mean()
