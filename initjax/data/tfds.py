"""Sets of tensorflow-datasets (TFDS), read without TensorFlow, decoded once and cached."""

import hashlib
import os
import pathlib
import sys

import numpy as np
import tqdm
from absl import logging

from initjax.data.dataset import CHUNK_IMAGES, Dataset
from initjax.data.downloads import ensure_prepared, find_builder
from initjax.data.images import PIL_MODES, decode_image
from initjax.support.errors import UserError
from initjax.support.fetch import cache_folder
from initjax.support.files import user_path, whole_file

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def load_tfds(name, data_dir, image_size, download) -> Dataset:
    """Loads a TFDS set from the cache, or else from its records."""
    if data_dir:
        if "://" in os.fspath(data_dir):
            raise UserError(f"data_dir={data_dir!r} is not a local directory: copy the set to one.")
        data_dir = str(user_path(data_dir))
    builder = find_builder(name, data_dir)
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
    test_split = "test" if "test" in splits else "validation"
    if not {"train", test_split} <= set(splits):
        raise UserError(
            f"{name} has the splits {', '.join(splits)}; train is needed, and test or validation."
        )

    label_feature = builder.info.features[label_key]
    cache_file = _cache_file(builder, image_size)
    arrays = _read_cache(cache_file)
    if arrays is None:
        keys = (image_key, label_key)
        arrays = _decode(builder, ("train", test_split), keys, shape, image_size)
        _write_cache(cache_file, arrays)
    for labels in (arrays["train_labels"], arrays["test_labels"]):
        if len(labels) == 0 or labels.min() < 0:
            raise UserError(f"{name} has a split without examples or without labels.")
    return Dataset(
        name=name,
        num_classes=label_feature.num_classes,
        label_names=tuple(label_feature.names),
        **arrays,
    )


def _find_image_and_label(builder) -> tuple[str, str]:
    """Keys of the image and of the class label in the records of `builder`."""
    import tensorflow_datasets as tfds

    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    features = dict(builder.info.features or {})
    keys = builder.info.supervised_keys or ()
    if not (
        len(keys) == 2
        and all(isinstance(key, str) for key in keys)
        and all(isinstance(features[key], kind) for key, kind in zip(keys, kinds, strict=True))
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
    if image.np_dtype != np.uint8 or image.shape[-1] not in PIL_MODES:
        raise UserError(
            f"{builder.name} has images of {image.np_dtype.__name__} with {image.shape[-1]} "
            "channels; 8-bit images with 1, 3 or 4 channels are supported."
        )
    return tuple(keys)


def _decode(builder, splits, keys, shape, image_size) -> dict[str, np.ndarray]:
    """Decodes the train and test splits of `builder` into the arrays of a Dataset."""
    import tensorflow_datasets as tfds

    image_key, label_key = keys
    # Images stay encoded: TFDS would decode them without converting grayscale, palette or CMYK
    # files to the number of channels that the set declares.
    decoders = {
        key: tfds.decode.SkipDecoding()
        for key, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    arrays = {}
    try:
        sources = [
            builder.as_data_source(split, decoders=decoders, file_format="array_record")
            for split in splits
        ]
        bar = tqdm.tqdm(
            total=sum(len(source) for source in sources),
            desc=f"Decoding {builder.name}",
            unit="image",
            disable=not sys.stderr.isatty(),
        )
        with bar:
            for prefix, source in zip(("train", "test"), sources, strict=True):
                images = np.empty((len(source), *shape), np.uint8)
                labels = np.empty(len(source), np.int32)
                for start in range(0, len(source), CHUNK_IMAGES):
                    chunk = list(range(start, min(start + CHUNK_IMAGES, len(source))))
                    for i, record in zip(chunk, source.__getitems__(chunk), strict=True):
                        images[i] = decode_image(record[image_key], shape[-1], image_size)
                        labels[i] = record[label_key]
                    bar.update(len(chunk))
                arrays |= {f"{prefix}_images": images, f"{prefix}_labels": labels}
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        raise UserError(
            f"{builder.data_dir} cannot be read: {error}\n"
            f"Delete it and prepare {builder.name} anew."
        ) from error
    return arrays


def _cache_file(builder, image_size: int | None) -> pathlib.Path:
    """Where the arrays are cached; the name changes whenever the source files do."""
    fingerprint = hashlib.sha256()
    for file in sorted(pathlib.Path(builder.data_dir).iterdir()):
        stat = file.stat()
        fingerprint.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    size = "" if image_size is None else f"-{image_size}px"
    full_name = builder.info.full_name.replace("/", "-")
    return cache_folder() / f"{full_name}{size}-{fingerprint.hexdigest()[:16]}.npz"


def _read_cache(file: pathlib.Path) -> dict[str, np.ndarray] | None:
    """The cached arrays, or None if there are none or their checksums fail."""
    try:
        with file.open("rb") as stream, np.load(stream) as arrays:
            return {key: arrays[key] for key in _ARRAYS}
    except Exception:  # A damaged archive raises any of a dozen errors: all mean "decode again".
        return None


def _write_cache(file: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes the cache at once or not at all; without a writable place, only warns."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            # An .npz holds .npy arrays, each with a CRC-32: damage does not go unnoticed.
            np.savez(part, **arrays)
    except OSError as error:
        logging.warning("Decoded images are not cached (set INITJAX_CACHE=DIR): %s", error)
