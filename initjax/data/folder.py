"""A folder of images by class, as cameras and other libraries leave them.

    flowers/train/daisy/*.jpg    flowers/train/rose/*.png ...
    flowers/test/daisy/*.jpg     (or val/, or validation/)

The classes are the folders of train/, in the order of their names.
"""

import pathlib

import numpy as np
import PIL.Image

from initjax.data.dataset import Dataset, check_memory
from initjax.data.images import FORMATS, decode_image
from initjax.support.errors import UserError
from initjax.support.files import user_path

_TEST_SPLITS = ("test", "val", "validation")
_ENDINGS = (".png", ".jpg", ".jpeg")


def is_folder(name: str) -> bool:
    """Whether `name` is a folder that exists, and cannot be the bare name of a set of TFDS."""
    return any(c in name for c in "/.~\\") and user_path(name).is_dir()


def load_folder(name: str, image_size: int | None = None) -> Dataset:
    """The Dataset of a folder; gray images where all of them are gray, else of three colours."""
    root = user_path(name)
    tests = [split for split in _TEST_SPLITS if (root / split).is_dir()]
    if not (root / "train").is_dir() or not tests:
        raise UserError(
            f"{root} needs a folder train, and one of {', '.join(_TEST_SPLITS)}, each with a folder"
            " of images a class."
        )
    classes = _folders(root / "train")
    if unknown := sorted(set(_folders(root / tests[0])) - set(classes)):
        raise UserError(f"{root}: {tests[0]} has the class {unknown[0]!r}, which train has not.")
    splits = [[_files(root / split / c) for c in classes] for split in ("train", tests[0])]
    for split, files in zip(("train", tests[0]), splits, strict=True):
        empty = [c for c, found in zip(classes, files, strict=True) if not found]
        if not classes or len(empty) == len(classes) or (empty and split == "train"):
            where = root / split / (empty[0] if empty and split == "train" else "")
            raise UserError(f"{where} holds no images ({', '.join(_ENDINGS)}).")
    heads = [_head(file) for files in splits for found in files for file in found]
    if image_size is None and len({size for size, _ in heads}) > 1:
        raise UserError(
            f"The images of {root} differ in size.\n"
            "Choose one with --image_size=64 (or another number of pixels)."
        )
    channels = 1 if all(mode in ("1", "L", "LA") or mode[0] == "I" for _, mode in heads) else 3
    width, height = heads[0][0] if image_size is None else (image_size, image_size)
    check_memory(name, len(heads) * width * height * channels)
    train, test = (_decode(files, channels, image_size) for files in splits)
    dataset = Dataset(name, *train, *test, num_classes=len(classes), label_names=tuple(classes))
    return dataset.checked()


def _folders(folder: pathlib.Path) -> list[str]:
    return sorted(x.name for x in folder.iterdir() if x.is_dir() and not x.name.startswith("."))


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The images of a class; a class without a folder has none."""
    if not folder.is_dir():
        return []
    files = (x for x in folder.iterdir() if x.suffix.lower() in _ENDINGS and x.is_file())
    return sorted(x for x in files if not x.name.startswith("."))


def _head(file: pathlib.Path) -> tuple[tuple[int, int], str]:
    """(size, mode), without decoding the image."""
    try:
        with PIL.Image.open(file, formats=FORMATS) as image:
            return image.size, image.mode
    except Exception as error:  # Pillow raises any of a dozen for a damaged file.
        raise UserError(f"{file} cannot be read: {error}") from None


def _decode(files, channels, image_size) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels) of one list of files a class."""
    images = []
    for file in (file for found in files for file in found):
        try:
            images.append(decode_image(file.read_bytes(), channels, image_size))
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read: {error}") from None
    labels = np.repeat(np.arange(len(files), dtype=np.int32), [len(found) for found in files])
    return np.stack(images), labels
