"""Data of the user's own: arrays, or a function that returns them, by `package.module:name`.

    python launch.py --dataset=my_package.data:load
    python launch.py --dataset="my_package.data:load(fold=3)"

The function returns (train_images, train_labels, test_images, test_labels), as `from_arrays` takes
them, or a `Dataset`.
"""

import dataclasses

import numpy as np
import PIL.Image
from jax.typing import ArrayLike

from initjax.data.dataset import Dataset, check_labels, check_memory, check_num_classes
from initjax.data.images import PIL_MODES, resize
from initjax.support.errors import UserError
from initjax.support.naming import Registry, import_own, parse


def is_own(name: str) -> bool:
    """Whether `name` is of the form package.module:name, with arguments or without."""
    try:
        return ":" in parse(name, "dataset").name
    except UserError:
        return False


def load_own(name: str, image_size: int | None = None) -> Dataset:
    """What the user's function of this name returns, checked."""
    found = import_own(parse(name, "dataset").name)
    if callable(found):
        found = Registry("dataset").bind(name)
    if isinstance(found, Dataset):
        arrays = (found.train_images, found.train_labels, found.test_images, found.test_labels)
        labels = {"num_classes": found.num_classes, "label_names": found.label_names}
    elif isinstance(found, tuple | list) and len(found) == 4:
        arrays, labels = found, {}
    else:
        raise UserError(
            f"{name} gave an object of type {type(found).__name__}; it must give a Dataset, or the"
            " four arrays train_images, train_labels, test_images, test_labels."
        )
    return from_arrays(*arrays, name=name, image_size=image_size, **labels)


def from_arrays(
    train_images: ArrayLike,
    train_labels: ArrayLike,
    test_images: ArrayLike,
    test_labels: ArrayLike,
    *,
    name: str = "own",
    num_classes: int | None = None,
    label_names: tuple[str, ...] | None = None,
    image_size: int | None = None,
) -> Dataset:
    """A Dataset of arrays, checked.

    Args:
      train_images: [N, H, W, C] or [N, H, W], bytes 0 to 255 as integers of any dtype, or floats in
        any unit: training standardizes the channels of either.
      train_labels: [N] integers in [0, num_classes).
      test_images: likewise.
      test_labels: likewise.
      name: of the set, for messages.
      num_classes: None takes the largest training label and one.
      label_names: a name a class; None counts.
      image_size: resize bytes to this many pixels, as `load` does.

    Raises:
      UserError (a ValueError): what cannot be trained on, and why.
    """
    images = [
        _images(f"{name}: {split}_images", values, image_size)
        for split, values in (("train", train_images), ("test", test_images))
    ]
    labels = [
        _array(f"{name}: {split}_labels", values)
        for split, values in (("train", train_labels), ("test", test_labels))
    ]
    if num_classes is None:
        check_labels(f"{name}: train_labels", labels[0], len(images[0]), None)
        num_classes = int(labels[0].max()) + 1
    check_num_classes(name, num_classes)
    dataset = Dataset(
        name=name,
        train_images=images[0],
        train_labels=labels[0],
        test_images=images[1],
        test_labels=labels[1],
        num_classes=num_classes,
        label_names=tuple(label_names or map(str, range(num_classes))),
    ).checked()
    train, test = (x.astype(np.int32) for x in labels)
    return dataclasses.replace(dataset, train_labels=train, test_labels=test)


def _array(what, values) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of unequal length
        raise UserError(f"{what} are no array: {error}") from None


def _first(wrong) -> int:
    """The first image with a pixel that is `wrong`, bool [N, H, W, C]."""
    return int(np.argmax(wrong.any(axis=(1, 2, 3))))


def _images(what, values, image_size) -> np.ndarray:
    images = _array(what, values)
    if images.dtype.kind not in "uif" and images.dtype.name != "bfloat16":
        raise UserError(f"{what} are of dtype {images.dtype}; bytes or floats are needed.")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise UserError(f"{what} have the shape {images.shape}; [N, H, W, C] is needed.")
    if 0 in images.shape:
        raise UserError(f"{what} hold no images: their shape is {images.shape}.")
    if images.dtype.kind in "ui":
        low, high = images.min(), images.max()
        if low < 0 or high > 255:
            first = _first((images < 0) | (images > 255))
            raise UserError(
                f"{what} reach from {low} to {high}; integers must be 0 to 255, but not all of"
                f" image {first} are."
            )
        images = images.astype(np.uint8, copy=False)
    else:
        with np.errstate(over="ignore"):
            images = images.astype(np.float32, copy=False)
        finite = np.isfinite(images)
        if not finite.all():
            raise UserError(
                f"{what} hold values that are not finite in float32, the first in image"
                f" {_first(~finite)}."
            )
    if image_size is None or images.shape[1:3] == (image_size, image_size):
        return images
    if images.dtype != np.uint8 or images.shape[-1] not in PIL_MODES:
        raise UserError(
            f"{what}: --image_size resizes bytes with 1, 3 or 4 channels, not {images.dtype} with"
            f" {images.shape[-1]}.\nResize them in your own function."
        )
    check_memory(what, len(images) * image_size**2 * images.shape[-1])
    squeeze = images.shape[-1] == 1
    pictures = (PIL.Image.fromarray(x[..., 0] if squeeze else x) for x in images)
    small = np.stack([np.asarray(resize(picture, image_size)) for picture in pictures])
    return small.reshape(len(images), image_size, image_size, images.shape[-1])
