"""Data sets that are damaged, wrong or hostile: told in two lines, never trained on, never run."""

import dataclasses
import io
import json
import os
import shutil
import struct
import sys
import zlib

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from helpers import draw_dataset
from prepared import records, write_tfds
from tensorflow_datasets.proto import tf_example_pb2

from initjax import data
from initjax.data.images import decode_image
from initjax.support.errors import UserError

DEEP = np.array([0, 300, 1000, 20000, 40000, 65535], np.uint16)
BYTES = [0, 1, 3, 77, 155, 255]
DICT = "tensorflow_datasets.core.features.features_dict.FeaturesDict"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data directory that holds the set "tiny_insects" of 30 and 7 images of 6x5."""
    data_dir, rng = tmp_path_factory.mktemp("tfds"), np.random.default_rng(0)

    def draw(size):
        images = rng.integers(0, 256, (size, 6, 5, 3), np.uint8)
        return records(images, rng.integers(0, 3, size))

    features = {
        "image": tfds.features.Image(shape=(6, 5, 3)),
        "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"]),
    }
    write_tfds(data_dir, "tiny_insects", features, {"train": draw(30), "test": draw(7)})
    return data_dir


@pytest.fixture
def folder(prepared, tmp_path, monkeypatch):
    """Of the set, in a copy of its own."""
    monkeypatch.setenv("INITJAX_CACHE", str(tmp_path / "cache"))
    shutil.copytree(prepared, tmp_path / "sets")
    return tmp_path / "sets" / "tiny_insects" / "1.0.0"


def load(folder, **settings):
    return data.load("tiny_insects", folder.parents[1], **settings)


def refused(message, load, *args, **settings):
    with pytest.raises(UserError, match=message) as error:
        load(*args, **settings)
    assert len(str(error.value).splitlines()) <= 2


def edit(file, path, value):
    """Writes `value` at a path of keys of a json file."""
    whole = inner = json.loads(file.read_text())
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    file.write_text(json.dumps(whole))


# What a folder names is not imported.

OWN = {"pythonClassName": DICT}
EVIL = "hostile_features.Evil"
HOSTILE = {
    "an image": ("features.json", ("featuresDict", "features", "image", "pythonClassName"), EVIL),
    "the whole": ("features.json", ("pythonClassName",), EVIL),
    "protobuf's name": (
        "features.json",
        ("featuresDict", "features", "image"),
        {"python_class_name": EVIL, "image": {}},
    ),
    "the old form": ("features.json", ("type",), EVIL),
    "within text": (
        "features.json",
        ("featuresDict", "features", "image"),
        OWN | {"jsonFeature": {"json": json.dumps({"x": {"type": EVIL, "content": {}}})}},
    ),
    "within a list": (
        "features.json",
        ("featuresDict", "features", "image"),
        OWN | {"jsonFeature": {"json": json.dumps([{"pythonClassName": EVIL}])}},
    ),
    "the other file": (
        "dataset_info.json",
        ("features",),
        {"pythonClassName": EVIL, "jsonFeature": {"json": "{}"}},
    ),
    "another module of TFDS": (
        "features.json",
        ("pythonClassName",),
        "tensorflow_datasets.scripts.cli.main.Evil",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("name", ["tiny_insects", "tiny_insects:1.0.0"])
def test_a_folder_executes_nothing(folder, tmp_path, monkeypatch, what, name):
    (tmp_path / "hostile_features.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    file, path, value = HOSTILE[what]
    edit(folder / file, path, value)
    if what == "the old form":
        edit(folder / file, ("content",), {})
    before = set(sys.modules)
    refused("names the class '.*Evil'.*\n.*nothing in a folder", data.load, name, folder.parents[1])
    assert "hostile_features" not in sys.modules
    assert not {m for m in set(sys.modules) - before if m.startswith("tensorflow_datasets.scripts")}


def test_features_are_looked_at_wherever_a_configuration_lies(folder):
    shutil.copytree(folder, folder.parent / "large" / "1.0.0")
    edit(folder.parent / "large" / "1.0.0" / "features.json", ("pythonClassName",), EVIL)
    with pytest.raises(UserError, match=r"large/1\.0\.0/features\.json names the class"):
        data.load("tiny_insects/large", folder.parents[1])


def test_a_module_that_is_only_named_is_not_imported(folder):
    edit(folder / "dataset_info.json", ("moduleName",), "hostile_features")
    assert load(folder).num_classes == 3
    assert "hostile_features" not in sys.modules


# Descriptions that are broken.


@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"[]", b"{}", b"3"])
def test_broken_descriptions(folder, file, content):
    (folder / file).write_bytes(content)
    refused("features.json|dataset_info.json|tiny_insects", load, folder)


def test_a_pipe_is_not_waited_for(folder):
    (folder / "features.json").unlink()
    os.mkfifo(folder / "features.json")
    refused("features.json cannot be read: it is no file", load, folder)


SHARDS = ("splits", 0, "shardLengths")
SHAPE = ("featuresDict", "features", "image", "image", "shape", "dimensions")
CLASSES = ("featuresDict", "features", "label", "classLabel", "numClasses")


@pytest.mark.parametrize(
    ("file", "path", "value", "message"),
    [
        ("dataset_info.json", SHARDS, ["40"], "of-00001 has 30 records, for dataset_info.json 40"),
        ("dataset_info.json", SHARDS, ["20"], "has 30 records, for dataset_info.json 20"),
        ("dataset_info.json", SHARDS, ["0"], "without examples"),
        ("dataset_info.json", SHARDS, ["-3"], "json -3"),
        ("dataset_info.json", SHARDS, ["400000000000"], "take 36,000 GB, but this machine has"),
        ("dataset_info.json", SHARDS, ["15", "15"], "No such file"),
        ("dataset_info.json", ("splits",), [], "train is needed"),
        ("dataset_info.json", ("name",), "other", "No such file"),
        ("dataset_info.json", ("fileFormat",), "unknown", "'unknown' is not a valid FileFormat"),
        ("features.json", SHAPE, ["28", "28", "3"], "record 0 .* has 6x5 pixels, not 28x28"),
        ("features.json", SHAPE, ["1000000", "1000000", "3"], "take 111,000 GB, but this machine"),
        ("features.json", SHAPE, ["6", "5", "7"], "images of uint8 with 7 channels"),
        ("features.json", SHAPE, ["6", "5", "1"], "record 0 .* colours, and the set is of gray"),
        ("features.json", CLASSES, "2", "record . .* its label is 2; the classes are 0"),
        ("features.json", CLASSES, "0", "num_classes=0 is not a number, 1 to 1000000"),
        ("features.json", CLASSES, "1000000000000", "num_classes=1000000000000 is not a number"),
    ],
)  # fmt: skip
def test_descriptions_that_the_records_do_not_bear_out(folder, file, path, value, message):
    edit(folder / file, path, value)
    refused(message, load, folder)


# Records.


def png(pixels):
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


def png_file(height, width, depth, kind, content):
    """A PNG by hand: Pillow writes neither colours of 16 bits nor false sizes."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(content))
        + chunk(b"IEND", b"")
    )


def deep_png(pixels):
    """[H, W, C] of uint16."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png_file(height, width, 16, {1: 0, 3: 2, 4: 6}[channels], rows)


def change_record(folder, change, index=3):
    """Has `change` alter the features of a record of the training split."""
    (file,) = folder.glob("*-train.*")
    reader = array_record_module.ArrayRecordReader(str(file))
    found = list(reader.read_all())
    reader.close()
    example = tf_example_pb2.Example.FromString(found[index])
    change(example.features.feature)
    found[index] = example.SerializeToString()
    writer = array_record_module.ArrayRecordWriter(str(file), "group_size:1")
    for record in found:
        writer.write(record)
    writer.close()


def label(*values):
    return lambda features: features["label"].int64_list.value.__setitem__(slice(None), values)


def image(*values):
    return lambda features: features["image"].bytes_list.value.__setitem__(slice(None), values)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (label(3), "its label is 3; the classes are 0 to 2"),
        (label(2**40), "its label is 1099511627776; the classes are 0 to 2"),
        (label(-2), "its label is -2; the classes"),
        (label(1, 2), "Error"),
        (lambda features: features.pop("label"), "it has no label"),
        (lambda features: features.pop("image"), "it has no image"),
        (image(b""), "it has no image"),
        (image(b"hello"), "none of the formats PNG, JPEG"),
        (image(EPS), "none of the formats PNG, JPEG"),  # Pillow would call an interpreter
        (image(png(np.zeros((1, 1, 3), np.uint8))), "its image has 1x1 pixels, not 6x5"),
        (image(png(np.zeros((1, 5, 3), np.uint8))), "its image has 1x5 pixels, not 6x5"),
        (image(png(np.zeros((12, 10, 3), np.uint8))), "its image has 12x10 pixels, not 6x5"),
        # Four hundred megapixels in a kilobyte.
        (image(png_file(20_000, 20_000, 8, 0, bytes(1000))), "Image size .400000000 pixels"),
    ],
)
def test_a_record_is_named_with_what_is_wrong(folder, change, message):
    change_record(folder, change)
    refused(f"record 3 of split train of .* cannot be read: {message}", load, folder)
    assert not list(folder.parents[2].glob("cache/*"))


def test_a_record_of_garbage_is_named(folder, monkeypatch):
    monkeypatch.setattr(
        tf_example_pb2.Example, "SerializeToString", lambda self: b"garbage" * 9, raising=True
    )
    change_record(folder, lambda features: None, index=29)
    refused("record 29 of split train of .* cannot be read", load, folder)


# Sixteen bits.


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("wanted", [1, 3])
def test_sixteen_bits_are_scaled_to_eight(channels, wanted):
    pixels = np.repeat(DEEP[None, :, None], channels, axis=2)
    for values in (pixels, np.roll(pixels, 2, axis=1)):
        encoded = deep_png(values)
        expected = np.repeat(values[..., :1] // 257, wanted, axis=2)
        np.testing.assert_array_equal(decode_image(encoded, wanted, None), expected)
    assert decode_image(deep_png(pixels), 1, None).ravel().tolist() == BYTES


def test_every_value_of_sixteen_bits():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    colours = np.concatenate([values, values[::-1], values.transpose(1, 0, 2)], axis=2)
    np.testing.assert_array_equal(decode_image(deep_png(colours), 3, None), colours // 257)


def test_sixteen_bits_in_a_folder_and_in_records(folder, tmp_path):
    for split in ("train", "test"):
        (tmp_path / "gray" / split / "a").mkdir(parents=True)
        PIL.Image.fromarray(DEEP[None]).save(tmp_path / "gray" / split / "a" / "0.png")
    assert data.load(str(tmp_path / "gray")).train_images.ravel().tolist() == BYTES
    pixels = np.broadcast_to(DEEP[:, None, None], (6, 5, 3))
    change_record(folder, image(deep_png(pixels)))
    assert load(folder).train_images[3, :, 0, 0].tolist() == BYTES


def test_floats_are_no_image():
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.ones((2, 2), np.float32)).save(buffer, format="tiff")
    with pytest.raises(ValueError, match="floats"):
        decode_image(buffer.getvalue(), 1, None)


# Caches.


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("train_labels", lambda x: x + 500),
        ("test_labels", lambda x: x - 1),
        ("train_labels", lambda x: x[:-1]),
        ("test_labels", lambda x: x.astype(np.int64)),
        ("train_images", lambda x: x[:-1]),
        ("train_images", lambda x: x[:, :3]),
        ("train_images", lambda x: x[..., :1]),
        ("test_images", lambda x: x.astype(np.float32)),
        ("test_images", lambda x: x[:, :1, :1]),
        ("test_images", lambda x: x[0]),
    ],
)
def test_a_cache_of_wrong_content_is_made_anew(folder, caplog, key, change):
    right = load(folder)
    (cache,) = folder.parents[2].glob("cache/*")
    with np.load(cache) as found:
        arrays = dict(found)
    np.savez(cache, **arrays | {key: change(arrays[key])})
    again = load(folder)
    assert f"{cache} is made anew: " in caplog.text
    for name in arrays:
        np.testing.assert_array_equal(getattr(again, name), getattr(right, name))
        with np.load(cache) as found:
            np.testing.assert_array_equal(found[name], getattr(right, name))


# A Dataset that somebody made.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: {"train_labels": d.train_labels + 500}, "classes are 0 to 9, but label 0 is 50"),
        (lambda d: {"test_labels": d.test_labels[1:]}, "test_labels have the shape"),
        (lambda d: {"num_classes": 10.0}, "num_classes=10.0 is not a number"),
        (lambda d: {"num_classes": 2**40}, "num_classes=1099511627776 is not a number"),
        (lambda d: {"label_names": ("a",)}, "1 names of labels for 10 classes"),
        (lambda d: {"test_images": d.test_images[:, :1]}, "but test images are"),
        (lambda d: {"test_images": d.test_images[:, :, :0]}, "hold no images"),
    ],
)  # fmt: skip
def test_a_dataset_is_checked(change, message):
    dataset = draw_dataset()
    assert dataset.checked() is dataset
    refused(message, dataclasses.replace(dataset, **change(dataset)).checked)


def test_labels_that_no_memory_holds_names_for():
    images = np.zeros((3, 2, 2), np.uint8)
    refused(
        "reach from 0 to 1099511627776; .* but label 1 is 1099511627776",
        data.from_arrays, images, [0, 2**40, 1], images, [0, 1, 0],
    )  # fmt: skip
    refused("num_classes=1099511627776", data.from_arrays, images, [0] * 3, images, [0] * 3,
            num_classes=2**40)  # fmt: skip


def test_the_image_that_is_wrong_is_named():
    images = np.zeros((3, 2, 2))
    images[1, 0, 0] = np.inf
    refused("the first in image 1", data.from_arrays, images, [0] * 3, images, [0] * 3)
    images[1, 0, 0] = 300
    bad = images.astype(int)
    refused("not all of image 1", data.from_arrays, bad, [0] * 3, bad, [0] * 3)
    refused("are no array", data.from_arrays, [[[0, 1], [2]]], [0], images, [0] * 3)
