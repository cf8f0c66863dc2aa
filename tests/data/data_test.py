import hashlib
import io
import json
import logging
import os
import shutil
import socket
import time

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds
from prepared import records, write_tfds

from initjax import data
from initjax.support.errors import UserError

IMAGE = tfds.features.Image(shape=(6, 5, 3))
LABEL = tfds.features.ClassLabel(names=["ant", "bee", "cat"])


def draw_split(rng, size):
    images = rng.integers(0, 256, (size, 6, 5, 3), dtype=np.uint8)
    return images, rng.integers(0, 3, size, dtype=np.int32)


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return {"train": draw_split(rng, 30), "test": draw_split(rng, 7)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, arrays):
    """A data directory that holds the set "tiny_insects"."""
    data_dir = tmp_path_factory.mktemp("tfds")
    write_tfds(
        data_dir,
        "tiny_insects",
        {"image": IMAGE, "label": LABEL},
        {split: records(*both) for split, both in arrays.items()},
    )
    return data_dir


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("INITJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_decoding(monkeypatch):
    def fail(*args):
        raise AssertionError("decoded again")

    monkeypatch.setattr("initjax.data.records.decode_image", fail)


@pytest.fixture
def no_network(monkeypatch):
    def fail(*args):
        raise AssertionError("touched the network")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(socket.socket, "connect", fail)


def assert_holds(dataset, arrays):
    np.testing.assert_array_equal(dataset.train_images, arrays["train"][0])
    np.testing.assert_array_equal(dataset.train_labels, arrays["train"][1])
    np.testing.assert_array_equal(dataset.test_images, arrays["test"][0])
    np.testing.assert_array_equal(dataset.test_labels, arrays["test"][1])


def test_digits_split_is_fixed_and_stratified():
    digits = data.load("digits")
    assert digits.train_images.shape == (1437, 8, 8, 1)
    assert digits.test_images.shape == (360, 8, 8, 1)
    assert digits.train_images.dtype == np.uint8 and digits.train_labels.dtype == np.int32
    assert digits.train_images.min() == 0 and digits.train_images.max() == 255
    assert digits.num_classes == 10 and digits.label_names == tuple("0123456789")
    train = np.bincount(digits.train_labels, minlength=10)
    test = np.bincount(digits.test_labels, minlength=10)
    np.testing.assert_allclose(test, (train + test) * 360 / 1797, atol=1)
    digest = hashlib.sha256(digits.test_images.tobytes() + digits.test_labels.tobytes())
    assert digest.hexdigest()[:16] == "0468bb35e13d3cba"


def test_digits_split_holds_every_image_once():
    from sklearn.datasets import load_digits

    digits = data.load("digits")
    images = np.concatenate([digits.train_images, digits.test_images])[..., 0]
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    sklearn_digits = load_digits()
    expected = np.rint(sklearn_digits.images * 255 / 16).astype(np.uint8)

    def rows(images, labels):
        return sorted(
            (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
        )

    assert rows(images, labels) == rows(expected, sklearn_digits.target)


def test_digits_can_be_resized():
    digits, small = data.load("digits"), data.load("digits", image_size=4)
    assert small.train_images.shape == (1437, 4, 4, 1)
    # Antialiasing keeps the brightness of an image, a subsampling would not.
    brightness = digits.train_images.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(small.train_images.mean(axis=(1, 2, 3)), brightness, atol=12)


def test_mean_and_std_are_exact(arrays):
    images = np.concatenate([arrays["train"][0]] * 60)  # more than one chunk
    dataset = data.Dataset("x", images, None, None, None, 3, ("a", "b", "c"))
    pixels = images.reshape(-1, 3).astype(np.float64) / 255
    np.testing.assert_allclose(dataset.mean, pixels.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(dataset.std, pixels.std(axis=0), rtol=1e-7)
    assert dataset.mean.dtype == dataset.std.dtype == np.float32


def test_load_reads_what_tfds_wrote(prepared, arrays):
    before = sorted(prepared.rglob("*"))
    dataset = data.load("tiny_insects", data_dir=prepared)
    assert_holds(dataset, arrays)
    assert dataset.name == "tiny_insects"
    assert dataset.num_classes == 3 and dataset.label_names == ("ant", "bee", "cat")
    assert dataset.train_images.dtype == np.uint8 and dataset.train_labels.dtype == np.int32
    assert sorted(prepared.rglob("*")) == before  # only the cache is written to


def test_version_may_be_named(prepared, arrays):
    assert_holds(data.load("tiny_insects:1.0.0", data_dir=str(prepared)), arrays)


def test_second_load_does_not_decode(prepared, arrays, request):
    data.load("tiny_insects", data_dir=prepared)
    request.getfixturevalue("no_decoding")
    assert_holds(data.load("tiny_insects", data_dir=prepared), arrays)


def test_cache_is_keyed_by_size_and_source(prepared, arrays, tmp_path, cache_dir):
    data_dir = shutil.copytree(prepared, tmp_path / "copy")
    data.load("tiny_insects", data_dir=data_dir)
    assert data.load("tiny_insects", data_dir=data_dir, image_size=3).train_images.shape[1] == 3
    assert_holds(data.load("tiny_insects", data_dir=data_dir), arrays)
    assert len(list(cache_dir.iterdir())) == 2
    os.utime(next(data_dir.rglob("*train*")), ns=(1, 1))
    assert_holds(data.load("tiny_insects", data_dir=data_dir), arrays)
    assert len(list(cache_dir.iterdir())) == 3


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "foreign"])
def test_damaged_cache_is_rebuilt(prepared, arrays, cache_dir, damage, request):
    data.load("tiny_insects", data_dir=prepared)
    (file,) = cache_dir.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "empty":
        content.clear()
    elif damage == "truncated":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[len(content) // 3] ^= 1
    else:
        buffer = io.BytesIO()
        np.savez(buffer, something=np.zeros(3))
        content = buffer.getvalue()
    file.write_bytes(content)
    assert_holds(data.load("tiny_insects", data_dir=prepared), arrays)
    assert [path.name for path in cache_dir.iterdir()] == [file.name]  # no temporary file stays
    request.getfixturevalue("no_decoding")
    assert_holds(data.load("tiny_insects", data_dir=prepared), arrays)


@pytest.mark.parametrize("name", ["digits", "own"])
def test_images_that_would_be_too_large_are_refused_before_they_are(monkeypatch, name):
    monkeypatch.setattr("initjax.data.dataset.machine_memory", lambda: 10**9)
    small = np.zeros((4000, 2, 2, 1), np.uint8), np.zeros(4000, np.int32)
    with pytest.raises(
        UserError, match=r"take [47] GB, but this machine has 1 GB(?s:.)*--image_size"
    ):
        if name == "digits":
            data.load("digits", image_size=2000)
        else:
            data.from_arrays(*small, *small, image_size=1000)


def test_unwritable_cache_only_warns(prepared, arrays, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("INITJAX_CACHE", str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert_holds(data.load("tiny_insects", data_dir=prepared), arrays)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "not cached" in message and "\n" not in message


def test_failed_cache_write_leaves_nothing(prepared, arrays, cache_dir, monkeypatch):
    def fail(file, **arrays):
        file.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    assert_holds(data.load("tiny_insects", data_dir=prepared), arrays)
    assert list(cache_dir.iterdir()) == []


def test_cache_follows_xdg(prepared, tmp_path, monkeypatch):
    monkeypatch.delenv("INITJAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    data.load("tiny_insects", data_dir=prepared)
    assert len(list((tmp_path / "xdg" / "initjax").iterdir())) == 1


def test_images_of_any_size_are_cropped_to_the_centre(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (10, 30, 3), dtype=np.uint8)
    wide = PIL.Image.fromarray(pixels)
    gray = io.BytesIO()
    PIL.Image.new("L", (12, 40), 90).save(gray, format="png")
    some = [
        {"image": wide, "label": 0},
        {"image": io.BytesIO(gray.getvalue()), "label": 2},
    ]
    features = {"image": tfds.features.Image(shape=(None, None, 3)), "label": LABEL}
    write_tfds(tmp_path, "tiny_photos", features, {"train": some, "validation": some[:1]})
    with pytest.raises(UserError, match="--image_size=64"):
        data.load("tiny_photos", data_dir=tmp_path)
    dataset = data.load("tiny_photos", data_dir=tmp_path, image_size=5)
    assert dataset.train_images.shape == (2, 5, 5, 3)
    expected = wide.resize((15, 5), PIL.Image.Resampling.BILINEAR).crop((5, 0, 10, 5))
    np.testing.assert_array_equal(dataset.train_images[0], expected)
    np.testing.assert_array_equal(dataset.train_images[1], np.full((5, 5, 3), 90))
    np.testing.assert_array_equal(dataset.test_labels, [0])  # of the validation split


def test_image_and_label_are_found_by_their_features(tmp_path, arrays):
    def scenes(split):
        return [
            {"mask": r["image"], "picture": r["image"], "kind": r["label"], "species": 1}
            for r in records(*arrays[split])
        ]

    features = {"mask": IMAGE, "picture": IMAGE, "kind": LABEL, "species": LABEL}
    splits = {split: scenes(split) for split in arrays}
    write_tfds(tmp_path, "tiny_scenes", features, splits, supervised_keys=("picture", "kind"))
    assert_holds(data.load("tiny_scenes", data_dir=tmp_path), arrays)
    write_tfds(tmp_path, "tiny_doubt", features, splits)
    with pytest.raises(UserError, match="not an image classification set"):
        data.load("tiny_doubt", data_dir=tmp_path)


def test_set_without_test_split_is_refused(tmp_path, arrays):
    features = {"image": IMAGE, "label": LABEL}
    write_tfds(tmp_path, "tiny_train", features, {"train": records(*arrays["train"])})
    with pytest.raises(UserError, match=r"has the splits train; .* test or validation"):
        data.load("tiny_train", data_dir=tmp_path)


def test_unlabelled_split_is_refused(tmp_path, arrays):
    unlabelled = [{"image": r["image"], "label": -1} for r in records(*arrays["test"])]
    splits = {"train": records(*arrays["train"]), "test": unlabelled}
    write_tfds(tmp_path, "tiny_contest", {"image": IMAGE, "label": LABEL}, splits)
    with pytest.raises(UserError, match="without labels"):
        data.load("tiny_contest", data_dir=tmp_path)


def test_damaged_records_are_named(prepared, tmp_path):
    data_dir = shutil.copytree(prepared, tmp_path / "copy")
    file = next(data_dir.rglob("*train*"))
    file.write_bytes(file.read_bytes()[:-3000])
    with pytest.raises(UserError, match="cannot be read"):
        data.load("tiny_insects", data_dir=data_dir)


def test_format_that_needs_tensorflow_is_refused(prepared, tmp_path):
    data_dir = shutil.copytree(prepared, tmp_path / "copy")
    info_file = next(data_dir.rglob("dataset_info.json"))
    info = json.loads(info_file.read_text()) | {"fileFormat": "tfrecord"}
    info_file.write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"tfrecord, not as array_record(?s:.)*TensorFlow"):
        data.load("tiny_insects", data_dir=data_dir)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10", "cifar10 is not prepared in .*\n.*--download, .* DIR/cifar10/3.0.2."),
        ("svhn_cropped", "svhn_cropped is not prepared in .*\n.*--download"),
        ("beans", "beans is not prepared in .*\n.*TensorFlow.*`tfds build beans --file_format="),
        ("cifar10_corrupted/fog_3", "cifar10_corrupted/fog_3 is not prepared in "),
        ("cifra10", "cifra10 is not a dataset of .*\nDid you mean cifar10"),
        ("digit", "digit is not a dataset of .*\nDid you mean digits"),
        ("imdb_reviews", "not an image classification set: its features are text, label"),
        ("mnist:1.0.0", "mnist cannot be loaded at version 1.0.0, only: 3.0.1"),
        ("mnist/fog", "BuilderConfig fog not found"),
        ("../mnist", "not of the form NAME, "),
        ("", "not of the form NAME, "),
    ],
)
def test_what_is_not_there_fails_at_once(tmp_path, no_network, caplog, name, message):
    start = time.monotonic()
    with pytest.raises(UserError, match=message) as caught:
        data.load(name, data_dir=tmp_path, image_size=32)
    assert time.monotonic() - start < 10
    assert len(str(caught.value).splitlines()) <= 2
    assert list(tmp_path.iterdir()) == [] and not caplog.records


def test_default_data_dir_is_that_of_tfds(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "home"))
    with pytest.raises(UserError, match=f"not prepared in {tmp_path}/home"):
        data.load("cifar10")


@pytest.mark.parametrize("image_size", [0, -4, 2.5, "32"])
def test_image_size_must_be_a_number_of_pixels(image_size):
    with pytest.raises(UserError, match="image_size="):
        data.load("digits", image_size=image_size)


def test_remote_data_dir_is_refused():
    with pytest.raises(UserError, match="not a local directory"):
        data.load("cifar10", data_dir="gs://bucket/tfds")


def test_normalize():
    images = np.random.default_rng(1).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    mean, std = np.float32([0.1, 0.2, 0.3]), np.float32([0.5, 0.25, 0.0])
    result = jax.jit(data.normalize)(images, mean, std)
    assert result.dtype == jnp.float32
    expected = (images / 255 - mean) / [0.5, 0.25, 1]
    np.testing.assert_allclose(result, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.slow
def test_draw_augmentation_covers_its_range():
    draw = jax.jit(data.draw_augmentation, static_argnums=(1, 2))
    offsets, flips = draw(jax.random.key(0), 2000, 4)
    assert offsets.shape == (2000, 2) and offsets.dtype == jnp.int32
    assert flips.shape == (2000,) and flips.dtype == jnp.bool_
    for axis in range(2):
        counts = np.bincount(offsets[:, axis], minlength=9)
        assert len(counts) == 9 and counts.min() > 2000 / 9 * 0.7
    assert 0.45 < flips.mean() < 0.55
    assert abs(np.corrcoef(offsets[:, 0], offsets[:, 1])[0, 1]) < 0.1
    assert abs(np.corrcoef(offsets[:, 0], flips)[0, 1]) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("pad", [0, 1, 3])
def test_augment_equals_a_loop(pad):
    images = np.random.default_rng(2).integers(1, 256, (40, 6, 5, 3), dtype=np.uint8)
    offsets, flips = data.draw_augmentation(jax.random.key(pad), 40, pad)
    result = jax.jit(data.augment, static_argnums=3)(images, offsets, flips, pad)
    assert result.dtype == jnp.uint8
    for image, (row, column), flip, augmented in zip(
        images, np.asarray(offsets), np.asarray(flips), np.asarray(result), strict=True
    ):
        padded = np.zeros((6 + 2 * pad, 5 + 2 * pad, 3), np.uint8)
        padded[pad : pad + 6, pad : pad + 5] = image
        crop = padded[row : row + 6, column : column + 5]
        np.testing.assert_array_equal(augmented, crop[:, ::-1] if flip else crop)


def test_default_augmentation():
    names = ["cifar10", "cifar100", "cifar10:3.0.2", "digits", "mnist", "svhn_cropped"]
    defaults = [data.default_augmentation(name) for name in names]
    assert defaults == ["crop_flip"] * 3 + ["crop"] + ["none"] * 2
    assert set(defaults) <= set(data.AUGMENTATIONS)


@pytest.mark.parametrize(
    ("num_examples", "batch_size"), [(1, 1), (7, 3), (9, 3), (2, 5), (360, 128)]
)
def test_evaluation_visits_every_example_once(num_examples, batch_size):
    indices, mask = data.evaluation_indices(num_examples, batch_size)
    assert indices.shape == mask.shape == (-(-num_examples // batch_size), batch_size)
    assert indices.dtype == np.int32 and mask.dtype == np.bool_
    assert sorted(indices[mask]) == list(range(num_examples))
    assert (indices >= 0).all() and (indices < num_examples).all()


@pytest.mark.parametrize(("num_examples", "batch_size"), [(0, 4), (4, 0)])
def test_evaluation_of_nothing_is_refused(num_examples, batch_size):
    with pytest.raises(UserError, match="1 or more"):
        data.evaluation_indices(num_examples, batch_size)
