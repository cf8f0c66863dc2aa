"""Image classification data as uint8 arrays in memory, its augmentation, and exact evaluation.

Every set but the embedded default is read from tensorflow-datasets (TFDS) files, without
TensorFlow: decoded once, then kept as plain arrays in a cache of its own.
"""

import dataclasses
import functools
import hashlib
import io
import numbers
import os
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import tqdm
from absl import logging

from initjax import downloads
from initjax.errors import UserError
from initjax.files import user_path, whole_file

AUGMENTATIONS = ("none", "crop", "crop_flip")

_PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_DECODE_CHUNK = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A set of labelled images, whole, in host memory.

    Attributes:
      name: the name it was loaded by.
      train_images: uint8 [N, H, W, C].
      train_labels: int32 [N].
      test_images: uint8 [M, H, W, C].
      test_labels: int32 [M].
      num_classes: labels are in [0, num_classes).
      label_names: one name a class.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    num_classes: int
    label_names: tuple[str, ...]

    @property
    def mean(self) -> np.ndarray:
        """Mean of every channel over the training images in [0, 1] units, float32 [C]."""
        return self._channel_statistics[0]

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of every channel, likewise, float32 [C]."""
        return self._channel_statistics[1]

    @functools.cached_property
    def _channel_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean, std), exact, because it is enough to count the 256 values of uint8."""
        num_channels = self.train_images.shape[-1]
        counts = np.zeros((num_channels, 256), np.int64)
        # In chunks, because bincount makes an int64 copy of what it counts.
        for start in range(0, len(self.train_images), _DECODE_CHUNK):
            pixels = self.train_images[start : start + _DECODE_CHUNK].reshape(-1, num_channels)
            for channel in range(num_channels):
                counts[channel] += np.bincount(pixels[:, channel], minlength=256)
        values = np.arange(256) / 255
        frequencies = counts / counts.sum(axis=1, keepdims=True)
        mean = frequencies @ values
        variance = (frequencies * (values - mean[:, None]) ** 2).sum(axis=1)
        return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def load(
    name: str = "digits",
    data_dir: str | os.PathLike | None = None,
    image_size: int | None = None,
    download: bool = False,
) -> Dataset:
    """Loads a dataset.

    Args:
      name: "digits", which comes with scikit-learn and needs no network, or any image
        classification set of TFDS: "cifar10", "imagenette/160px-v2", "mnist:3.0.1".
      data_dir: directory of prepared TFDS sets; None is TFDS's own default ($TFDS_DATA_DIR, else
        ~/tensorflow_datasets). It is only read, unless a download goes there.
      image_size: resize the shorter side to this many pixels and crop the centre square. Needed
        where the images of a set differ in size.
      download: download and prepare the set first if `data_dir` lacks it, for the sets that
        `initjax.downloads` covers.

    Returns:
      The training split, and as test split "test" or, without one, "validation".

    Raises:
      UserError: the set is unknown, not image classification, or not prepared.
    """
    if image_size is not None:
        if not isinstance(image_size, numbers.Integral) or image_size < 1:
            raise UserError(f"image_size={image_size!r} is not a number of pixels, 1 or more.")
    if name == "digits":
        return _load_digits(image_size)
    return _load_tfds(name, data_dir, image_size, download)


def _load_digits(image_size: int | None) -> Dataset:
    """Scikit-learn's 1,797 handwritten digits, every fifth of each class kept for the test."""
    # Imported here because it takes a second, and a user of another set never needs it.
    from sklearn import datasets as sklearn_datasets

    digits = sklearn_datasets.load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    if image_size is not None:
        pictures = (PIL.Image.fromarray(image[..., 0]) for image in images)
        images = np.stack([np.asarray(_resize(p, image_size)) for p in pictures])[..., None]
    labels = digits.target.astype(np.int32)
    # RandomState, because its streams never change between NumPy versions: nor does the split.
    order = np.random.RandomState(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    test = np.sort(by_class[::5])
    train = np.setdiff1d(np.arange(len(labels)), test)
    return Dataset(
        name="digits",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        num_classes=10,
        label_names=tuple(str(label) for label in digits.target_names),
    )


def _load_tfds(name, data_dir, image_size, download) -> Dataset:
    """Loads a TFDS set from the cache, or else from its records."""
    if data_dir:
        if "://" in os.fspath(data_dir):
            raise UserError(f"data_dir={data_dir!r} is not a local directory: copy the set to one.")
        data_dir = str(user_path(data_dir))
    builder = downloads.find_builder(name, data_dir)
    image_key, label_key = _find_image_and_label(builder)
    shape = builder.info.features[image_key].shape
    if image_size is not None:
        shape = (image_size, image_size, shape[-1])
    elif None in shape:
        raise UserError(
            f"The images of {name} differ in size.\n"
            "Choose one with --image_size=64 (or another number of pixels)."
        )
    builder = downloads.ensure_prepared(builder, download)
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
    if image.np_dtype != np.uint8 or image.shape[-1] not in _PIL_MODES:
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
                for start in range(0, len(source), _DECODE_CHUNK):
                    chunk = list(range(start, min(start + _DECODE_CHUNK, len(source))))
                    for i, record in zip(chunk, source.__getitems__(chunk), strict=True):
                        images[i] = _decode_image(record[image_key], shape[-1], image_size)
                        labels[i] = record[label_key]
                    bar.update(len(chunk))
                arrays |= {f"{prefix}_images": images, f"{prefix}_labels": labels}
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        raise UserError(
            f"{builder.data_dir} cannot be read: {error}\n"
            f"Delete it and prepare {builder.name} anew."
        ) from error
    return arrays


def _decode_image(encoded: bytes, num_channels: int, image_size: int | None) -> np.ndarray:
    """The pixels of a PNG or JPEG file, uint8 [H, W, num_channels]."""
    with PIL.Image.open(io.BytesIO(encoded)) as file:
        image = file.convert(_PIL_MODES[num_channels])
    if image_size is not None:
        image = _resize(image, image_size)
    return np.asarray(image).reshape(image.height, image.width, num_channels)


def _resize(image: PIL.Image.Image, size: int) -> PIL.Image.Image:
    """Scales the shorter side to `size`, antialiased, and crops the centre square."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    # As if the whole were resized and then cropped, without the work on what is cut off.
    box = (left, top, left + side, top + side)
    return image.resize((size, size), PIL.Image.Resampling.BILINEAR, box=box)


def _cache_file(builder, image_size: int | None) -> pathlib.Path:
    """Where the arrays are cached; the name changes whenever the source files do."""
    fingerprint = hashlib.sha256()
    for file in sorted(pathlib.Path(builder.data_dir).iterdir()):
        stat = file.stat()
        fingerprint.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    size = "" if image_size is None else f"-{image_size}px"
    full_name = builder.info.full_name.replace("/", "-")
    return downloads.cache_folder() / f"{full_name}{size}-{fingerprint.hexdigest()[:16]}.npz"


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


def default_augmentation(name: str) -> str:
    """The augmentation of He et al. 2015 for CIFAR; a shift for the few digits; else none."""
    defaults = {"cifar10": "crop_flip", "cifar100": "crop_flip", "digits": "crop"}
    return defaults.get(re.split("[/:]", name)[0], "none")


def normalize(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Standardizes the channels of uint8 images [B, H, W, C] to float32.

    Args:
      images: uint8 [B, H, W, C].
      mean: float32 [C], in [0, 1] units as in `Dataset`.
      std: float32 [C], likewise. A channel that is constant in training (std 0) is only centred.
    """
    return (images.astype(jnp.float32) / 255 - mean) / jnp.where(std > 0, std, 1)


def draw_augmentation(key: jax.Array, batch_size: int, pad: int) -> tuple[jax.Array, jax.Array]:
    """Draws (offsets int32 [B, 2] uniform in [0, 2 pad], flips bool [B]) for `augment`."""
    offset_key, flip_key = jax.random.split(key)
    offsets = jax.random.randint(offset_key, (batch_size, 2), 0, 2 * pad + 1, jnp.int32)
    return offsets, jax.random.bernoulli(flip_key, shape=(batch_size,))


def augment(images: jax.Array, offsets: jax.Array, flips: jax.Array, pad: int) -> jax.Array:
    """Pads by zeros, crops at an offset to the size before, and mirrors some images.

    The augmentation of He et al. 2015, "Deep Residual Learning for Image Recognition", section
    4.2, there with pad 4 for images of 32 pixels.

    Args:
      images: [B, H, W, C], of any dtype.
      offsets: int32 [B, 2], row and column of the padded image where the crop begins.
      flips: bool [B], which crops to mirror left to right.
      pad: zeros added on each of the four sides.

    Returns:
      As `images`.
    """
    _, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    columns = jnp.arange(width, dtype=offsets.dtype)
    columns = jnp.where(flips[:, None], columns[::-1], columns) + offsets[:, 1:]
    rows = jnp.arange(height, dtype=offsets.dtype) + offsets[:, :1]
    # Two one-axis gathers take half the time of a dynamic_slice for every image on CPU.
    take = functools.partial(jnp.take_along_axis, mode="promise_in_bounds")
    return take(take(padded, rows[:, :, None, None], axis=1), columns[:, None, :, None], axis=2)


def evaluation_indices(num_examples: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Batches of indices that visit every example exactly once.

    Args:
      num_examples: examples in the split.
      batch_size: examples a batch; the last batch is filled up with masked repeats of example 0.

    Returns:
      indices: int32 [K, B], K = ceil(num_examples / batch_size).
      mask: bool [K, B], False where the index is only a filling.
    """
    if num_examples < 1 or batch_size < 1:
        raise UserError(f"{num_examples=} and {batch_size=} must both be 1 or more.")
    num_batches = -(-num_examples // batch_size)
    positions = np.arange(num_batches * batch_size, dtype=np.int32).reshape(num_batches, batch_size)
    mask = positions < num_examples
    return np.where(mask, positions, 0), mask
