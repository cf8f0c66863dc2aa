"""Sets of tensorflow-datasets (TFDS), read without TensorFlow, decoded once and cached."""

import contextlib
import hashlib
import math
import os
import pathlib
from collections.abc import Iterator

import numpy as np
from absl import logging

from initjax.data.caches import read_arrays, write_arrays
from initjax.data.dataset import Dataset, check_memory, check_num_classes
from initjax.data.downloads import ensure_prepared, find_builder
from initjax.data.images import PIL_MODES
from initjax.data.records import Records, encoded_source, open_split
from initjax.data.stream import STREAM_SHARE, streamed
from initjax.support import extras
from initjax.support.bars import bar
from initjax.support.errors import UserError
from initjax.support.fetch import cache_folder
from initjax.support.files import user_path
from initjax.support.memory import machine_memory
from initjax.support.text import first_line

_DECODER = 2  # Caches of another are left alone: the first made 16-bit images white.
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def load_tfds(name, data_dir, image_size, download, stream) -> Dataset:
    """Loads a TFDS set from the cache, or else from its records; or streams these."""
    extras.need("data")
    if data_dir:
        if "://" in os.fspath(data_dir):
            raise UserError(f"data_dir={data_dir!r} is not a local directory: copy the set to one.")
        data_dir = str(user_path(data_dir))
    builder = find_builder(name, data_dir)
    with _told(builder):
        return _load(builder, name, image_size, download, stream)


@contextlib.contextmanager
def _told(builder) -> Iterator[None]:
    """TFDS raises any of a dozen exceptions for files that are damaged: the user is told which."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{builder.data_dir} cannot be read: {first_line(error)}\n"
            f"Delete it and prepare {builder.name} anew."
        ) from error


def _load(builder, name, image_size, download, stream) -> Dataset:
    image_key, label_key = _find_image_and_label(builder)
    shape = builder.info.features[image_key].shape
    if image_size is not None:
        shape = (image_size, image_size, shape[-1])
    elif None in shape:
        raise UserError(
            f"The images of {name} differ in size.\n"
            "Choose one with --image_size=64 (or another number of pixels)."
        )
    builder = ensure_prepared(builder, download)
    splits = builder.info.splits
    test_split = _test_split(builder, label_key)
    if not {"train", test_split} <= set(splits):
        raise UserError(
            f"{name} has the splits {', '.join(splits)}; train is needed, and test or validation."
        )
    sizes = {split: splits[split].num_examples for split in ("train", test_split)}
    if 0 in sizes.values():
        raise UserError(f"{name} has a split without examples or without labels.")
    label_feature = builder.info.features[label_key]
    check_num_classes(name, label_feature.num_classes)
    label_names = tuple(label_feature.names)
    opened = (
        open_split(builder, split, (image_key, label_key), shape, image_size) for split in sizes
    )
    cache_file = _cache_file(builder, image_size)
    num_bytes = sum(sizes.values()) * math.prod(shape)
    if stream or (stream is None and num_bytes > STREAM_SHARE * machine_memory()):
        return streamed(
            name, *opened, label_names, cache_file.with_name(f"{cache_file.stem}-facts.npz")
        )
    check_memory(name, num_bytes)

    def dataset(arrays) -> Dataset:
        return Dataset(
            name=name,
            num_classes=label_feature.num_classes,
            label_names=label_names,
            **arrays,
        ).checked()

    arrays = read_arrays(cache_file, _ARRAYS)
    if arrays is not None:
        try:
            # Checksums tell damage apart, not another program's idea of what belongs there.
            return dataset(_of_shapes(arrays, shape, tuple(sizes.values())))
        except UserError as error:
            logging.warning("%s is made anew: %s", cache_file, error)
    arrays = _decode(dict(zip(("train", "test"), opened, strict=True)))
    made = dataset(arrays)
    write_arrays(cache_file, arrays)
    return made


def _test_split(builder, label_key) -> str:
    """The split "test"; "validation" where there is none, or none with labels, as of ImageNet."""
    splits = builder.info.splits
    if "test" not in splits:
        return "validation"
    if "validation" not in splits or not splits["test"].num_examples:
        return "test"
    return "validation" if encoded_source(builder, "test")[0][label_key] == -1 else "test"


def _of_shapes(arrays, shape, sizes) -> dict[str, np.ndarray]:
    """The arrays of a cache, if they are as `_decode` makes them."""
    for split, size in zip(("train", "test"), sizes, strict=True):
        for key, dtype, expected in (
            (f"{split}_images", np.uint8, (size, *shape)),
            (f"{split}_labels", np.int32, (size,)),
        ):
            found = arrays[key]
            if found.dtype != dtype or found.shape != expected:
                raise UserError(f"{key} are {found.dtype} {found.shape}, not {expected}")
    return arrays


def _find_image_and_label(builder) -> tuple[str, str]:
    """Keys of the image and of the class label in the records of `builder`."""
    import tensorflow_datasets as tfds

    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    features = builder.info.features
    features = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    keys = builder.info.supervised_keys or ()
    if not (
        len(keys) == 2
        and all(isinstance(key, str) for key in keys)
        and all(isinstance(features.get(key), kind) for key, kind in zip(keys, kinds, strict=True))
    ):
        # Not every set declares what supervises what; without doubt if there is one of each.
        candidates = [[k for k, f in features.items() if isinstance(f, kind)] for kind in kinds]
        keys = [found[0] for found in candidates if len(found) == 1]
    if len(keys) != 2:
        raise UserError(
            f"{builder.name} is not an image classification set: its features are "
            f"{', '.join(features) or 'unknown'}."
        )
    image = features[keys[0]]
    dtype = np.dtype(image.np_dtype)
    if dtype not in (np.uint8, np.uint16) or image.shape[-1] not in PIL_MODES:
        raise UserError(
            f"{builder.name} has images of {dtype} with {image.shape[-1]} channels;"
            " 8- and 16-bit images with 1, 3 or 4 channels are supported."
        )
    return tuple(keys)


def _decode(splits: dict[str, Records]) -> dict[str, np.ndarray]:
    """The arrays of a Dataset, by "train" and "test"."""
    arrays = {}
    with bar(sum(map(len, splits.values())), "images", "decoding") as shown:
        for prefix, records in splits.items():
            images = np.empty((len(records), *records.shape), np.uint8)
            labels = np.empty(len(records), np.int32)
            for i, example in enumerate(records):
                images[i], labels[i] = example
                shown.update()
            arrays |= {f"{prefix}_images": images, f"{prefix}_labels": labels}
    return arrays


def _cache_file(builder, image_size: int | None) -> pathlib.Path:
    """Where the arrays are cached; the name changes whenever the source files do."""
    fingerprint = hashlib.sha256(f"{_DECODER}\n".encode())
    for file in sorted(pathlib.Path(builder.data_dir).iterdir()):
        stat = file.stat()
        fingerprint.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    size = "" if image_size is None else f"-{image_size}px"
    full_name = builder.info.full_name.replace("/", "-")
    return cache_folder() / f"{full_name}{size}-{fingerprint.hexdigest()[:16]}.npz"
