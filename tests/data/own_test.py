"""Data of the user's own: arrays, functions by name, folders of images."""

import dataclasses
import os

import numpy as np
import PIL.Image
import pytest
from helpers import draw_dataset

from initjax import data
from initjax.support.errors import UserError

_MODULE = """
import numpy as np
from helpers import draw_dataset

def load(scale=1.0):
    rng = np.random.default_rng(0)
    images = scale * rng.normal(size=(12, 4, 4))
    return images, np.arange(12) % 3, images[:6], np.arange(6) % 3

def as_dataset():
    return draw_dataset()

ready = draw_dataset()

def wrong():
    return 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Importable only from the current directory, as in a user's shell."""
    (tmp_path / "my_own_sets.py").write_text(_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_own_sets"


def test_a_function_of_arrays(module):
    dataset = data.load(f"{module}:load")
    assert dataset.train_images.shape == (12, 4, 4, 1) and dataset.train_images.dtype == np.float32
    assert dataset.num_classes == 3 and dataset.label_names == ("0", "1", "2")
    assert dataset.name == f"{module}:load"
    larger = data.load(f"{module}:load(scale=10)")
    np.testing.assert_allclose(larger.std, 10 * dataset.std, rtol=1e-5)
    np.testing.assert_allclose(dataset.std, dataset.train_images.std(), rtol=1e-5)
    # Floats are standardized as they are; only bytes are divided by 255.
    images = data.normalize(dataset.train_images, dataset.mean, dataset.std)
    assert float(images.std()) == pytest.approx(1, rel=1e-5)
    assert abs(float(images.mean())) < 1e-6


@pytest.mark.parametrize("name", ["as_dataset", "ready"])
def test_a_dataset_by_function_or_by_itself(module, name):
    dataset, expected = data.load(f"{module}:{name}", image_size=4), draw_dataset()
    assert dataset.train_images.shape == (64, 4, 4, 1)
    np.testing.assert_array_equal(dataset.test_labels, expected.test_labels)
    assert dataset.label_names == expected.label_names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_here:load", "there is no module 'no_such_module_here'"),
        ("my_own_sets:lod", "has no 'lod'. Did you mean 'load'"),
        ("my_own_sets:load(size=3)", "It takes: scale=1.0"),
        ("my_own_sets:wrong", "of type int; it must give a Dataset"),
        ("my_own_sets:load", None),
    ],
)
def test_names_that_give_no_data(module, name, message):
    if message is None:  # resizing is for bytes
        message = "--image_size resizes bytes with 1, 3 or 4 channels, not float32 with 1"
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        data.load(name, image_size=2)


def arrays():
    dataset = draw_dataset(num_train=20, num_test=10)
    return {
        name: getattr(dataset, name)
        for name in ("train_images", "train_labels", "test_images", "test_labels")
    }


def test_arrays():
    given = arrays()
    dataset = data.from_arrays(*(given[name].astype(np.int64) for name in given))
    for name in given:
        np.testing.assert_array_equal(getattr(dataset, name), given[name])
        assert getattr(dataset, name).dtype == given[name].dtype
    assert dataset.num_classes == given["train_labels"].max() + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.zeros((20, 8))}, r"have the shape \(20, 8\); \[N, H, W, C\]"),
        ({"train_images": np.zeros((0, 8, 8, 1))}, "hold no images"),
        ({"test_images": np.zeros((10, 8, 7, 1), np.uint8)}, "8x8x1, but test .* 8x7x1"),
        ({"test_images": np.zeros((10, 8, 8, 1))}, "uint8 8x8x1, but test images are float32"),
        ({"train_images": np.full((20, 8, 8, 1), 256)}, "from 256 to 256; integers must be 0 to"),
        ({"train_images": np.full((20, 8, 8, 1), -1)}, "integers must be 0 to 255"),
        ({"train_images": np.full((20, 8, 8, 1), np.nan)}, "not finite"),
        ({"train_images": np.full((20, 8, 8, 1), "x")}, "bytes or floats are needed"),
        ({"train_labels": np.zeros(19, int)}, r"have the shape \(19,\); they must have \(20,\)"),
        ({"train_labels": np.eye(20, 10)}, "they must have"),
        ({"train_labels": np.zeros(20)}, "are of dtype float64; integers"),
        ({"train_labels": np.full(20, -1)}, "from -1 to -1; the classes are 0 or more"),
        ({"test_labels": np.full(10, 12)}, "test_labels reach from 12 to 12; the classes are 0 to"),
    ],
)
def test_arrays_that_cannot_be_trained_on(change, message):
    with pytest.raises(UserError, match=message) as error:
        data.from_arrays(**(arrays() | change))
    assert len(str(error.value).splitlines()) == 1


def test_labels_beyond_the_classes_of_a_dataset(module, monkeypatch):
    import my_own_sets

    monkeypatch.setattr(
        my_own_sets, "ready", dataclasses.replace(draw_dataset(), num_classes=3), raising=True
    )
    with pytest.raises(UserError, match="the classes are 0 to 2"):
        data.load(f"{module}:ready")


def write(root, path, pixels):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(file)


@pytest.fixture
def flowers(tmp_path):
    """Six PNG files of two classes."""
    root, rng = tmp_path / "flowers", np.random.default_rng(0)
    for split, number in (("train", 2), ("val", 1)):
        for kind in ("rose", "daisy"):
            for i in range(number):
                write(root, f"{split}/{kind}/{i}.png", rng.integers(0, 256, (6, 5, 3), np.uint8))
    return root


def test_a_folder(flowers):
    (flowers / "train" / "rose" / "notes.txt").write_text("not an image")
    (flowers / "train" / ".hidden").mkdir()
    dataset = data.load(str(flowers))
    assert dataset.label_names == ("daisy", "rose") and dataset.num_classes == 2
    np.testing.assert_array_equal(dataset.train_labels, [0, 0, 1, 1])
    np.testing.assert_array_equal(dataset.test_labels, [0, 1])
    with PIL.Image.open(flowers / "train" / "rose" / "1.png") as image:
        np.testing.assert_array_equal(dataset.train_images[3], image)
    assert data.load(str(flowers), image_size=4).test_images.shape == (2, 4, 4, 3)


def test_a_folder_is_found_from_here_and_by_home(flowers, monkeypatch):
    monkeypatch.chdir(flowers.parent)
    monkeypatch.setenv("HOME", str(flowers.parent))
    for name in ("./flowers", "flowers/", "~/flowers"):
        assert data.load(name).num_classes == 2


def test_gray_images_stay_gray(tmp_path):
    for split in ("train", "test"):
        write(tmp_path, f"{split}/a/0.jpg", np.full((4, 4), 9, np.uint8))
    assert data.load(str(tmp_path)).train_images.shape == (1, 4, 4, 1)
    write(tmp_path, "test/a/1.JPEG", np.full((4, 4, 3), 9, np.uint8))
    assert data.load(str(tmp_path)).train_images.shape == (1, 4, 4, 3)


def damaged(root, what):
    first = root / "train" / "daisy" / "0.png"
    if what == "size":
        write(root, "train/daisy/0.png", np.zeros((3, 3, 3), np.uint8))
    elif what == "cut":
        first.write_bytes(first.read_bytes()[:60])
    elif what == "text":
        first.write_text("not an image")
    elif what == "pipe":
        first.unlink()
        os.mkfifo(first)
        (root / "train" / "daisy" / "1.png").unlink()
    elif what == "class":
        write(root, "val/tulip/0.png", np.zeros((6, 5, 3), np.uint8))
    elif what == "empty":
        for file in first.parent.iterdir():
            file.unlink()
    elif what == "untested":
        (root / "val").rename(root / "other")
    elif what == "nothing":
        for file in (root / "val").rglob("*.png"):
            file.unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("size", "differ in size.\nChoose one with --image_size=64"),
        ("cut", "0.png cannot be read"),
        ("text", "0.png cannot be read"),
        ("pipe", "train/daisy holds no images"),
        ("class", "val has the class 'tulip', which train has not"),
        ("empty", "train/daisy holds no images"),
        ("untested", "needs a folder train, and one of test, val, validation"),
        ("nothing", "val holds no images"),
    ],
)
def test_folders_that_cannot_be_trained_on(flowers, what, message):
    damaged(flowers, what)
    with pytest.raises(UserError) as error:
        data.load(str(flowers))
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) <= 2
