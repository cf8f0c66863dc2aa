"""A labelled set of images in memory, and its exact evaluation."""

import dataclasses
import functools
import numbers
from collections.abc import Iterable

import jax
import numpy as np

from initjax.support.errors import UserError
from initjax.support.memory import machine_memory

CHUNK_IMAGES = 1024
# A slip such as a date for a label would fill the memory with names and with the last layer.
MAX_CLASSES = 1_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A set of labelled images, whole, in host memory.

    Attributes:
      name: the name it was loaded by.
      train_images: uint8 [N, H, W, C], or float32, in units of its own.
      train_labels: int32 [N].
      test_images: [M, H, W, C], likewise.
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
        """Mean of every channel over the training images, bytes divided by 255; float32 [C]."""
        return self._channel_statistics[0]

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of every channel, likewise, float32 [C]."""
        return self._channel_statistics[1]

    @functools.cached_property
    def label_counts(self) -> np.ndarray:
        """How many training images each class has, int64 [num_classes]."""
        return np.bincount(self.train_labels, minlength=self.num_classes)

    def checked(self) -> "Dataset":
        """Itself, if it can be trained on.

        Raises:
          UserError: what is wrong, with the split and the index of the first wrong label.
        """
        check_num_classes(self.name, self.num_classes)
        for split in ("train", "test"):
            images, what = getattr(self, f"{split}_images"), f"{self.name}: {split}_images"
            if images.ndim != 4:
                raise UserError(f"{what} have the shape {images.shape}; [N, H, W, C] is needed.")
            if 0 in images.shape:
                raise UserError(f"{what} hold no images: their shape is {images.shape}.")
            labels, what = getattr(self, f"{split}_labels"), f"{self.name}: {split}_labels"
            check_labels(what, labels, len(images), self.num_classes)
        train, test = (
            f"{x.dtype} {'x'.join(map(str, x.shape[1:]))}"
            for x in (self.train_images, self.test_images)
        )
        if train != test:
            raise UserError(
                f"{self.name}: training images are {train}, but test images are {test}."
            )
        if len(self.label_names) != self.num_classes:
            raise UserError(
                f"{self.name} has {len(self.label_names)} names of labels for {self.num_classes}"
                " classes."
            )
        return self

    def validation_split(self) -> "Dataset":
        """What choices are made on: `test` is held out of the training images, and no test image.

        Held out are a tenth of the training images, at least 1,000 but at most a fifth, drawn by a
        key that no seed changes.
        """
        train, test = self._held_out()
        return dataclasses.replace(
            self,
            train_images=self.train_images[train],
            train_labels=self.train_labels[train],
            test_images=self.train_images[test],
            test_labels=self.train_labels[test],
        )

    def _held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """(what is left, what is held out): indices of training images, rising."""
        number = len(self.train_labels)
        held_out = max(number // 10, min(1000, number // 5))
        if not held_out:
            raise UserError(
                f"{number} training images of {self.name} are too few to hold some out."
            )
        order = np.asarray(jax.random.permutation(jax.random.key(0), number))
        return np.sort(order[held_out:]), np.sort(order[:held_out])

    @functools.cached_property
    def _channel_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean, std); exact for bytes, because it is enough to count their 256 values."""
        if self.train_images.dtype != np.uint8:
            over = {"axis": (0, 1, 2), "dtype": np.float64}
            mean, std = self.train_images.mean(**over), self.train_images.std(**over)
            return mean.astype(np.float32), std.astype(np.float32)
        # In chunks, because bincount makes an int64 copy of what it counts.
        starts = range(0, len(self.train_images), CHUNK_IMAGES)
        return byte_statistics(self.train_images[i : i + CHUNK_IMAGES] for i in starts)


def byte_statistics(parts: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std) of every channel over parts of a set, uint8 [N, H, W, C], divided by 255."""
    counts = 0
    for images in parts:
        channels = images.reshape(-1, images.shape[-1]).T
        counts += np.stack([np.bincount(channel, minlength=256) for channel in channels])
    values = np.arange(256) / 255
    frequencies = counts / counts.sum(axis=1, keepdims=True)
    mean = frequencies @ values
    variance = (frequencies * (values - mean[:, None]) ** 2).sum(axis=1)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def check_num_classes(name: str, num_classes: int) -> None:
    """Refuses what is no number of classes, before a name a class takes the memory."""
    if not isinstance(num_classes, numbers.Integral) or not 1 <= num_classes <= MAX_CLASSES:
        raise UserError(f"{name}: num_classes={num_classes!r} is not a number, 1 to {MAX_CLASSES}.")


def check_labels(what: str, labels: np.ndarray, number: int, num_classes: int | None) -> None:
    """Checks that `labels` are `number` integers in [0, num_classes); None takes any classes.

    Raises:
      UserError: about `what`, with the index of the first label that is wrong.
    """
    if labels.shape != (number,):
        raise UserError(f"{what} have the shape {labels.shape}; they must have ({number},).")
    if labels.dtype.kind not in "ui":
        raise UserError(
            f"{what} are of dtype {labels.dtype}; integers are needed, not one-hot rows."
        )
    last = (MAX_CLASSES if num_classes is None else num_classes) - 1
    wrong = np.flatnonzero((labels < 0) | (labels > last))
    if len(wrong):
        first, low, high = wrong[0], labels.min(), labels.max()
        known = "0 or more" if num_classes is None and high <= last else f"0 to {last}"
        raise UserError(
            f"{what} reach from {low} to {high}; the classes are {known}, but label {first} is"
            f" {labels[first]}."
        )


def check_memory(name: str, num_bytes: int) -> None:
    """Refuses images of `num_bytes` in all where this machine has less memory.

    Raises:
      UserError: with both figures.
    """
    memory = machine_memory()
    if num_bytes > memory:
        raise UserError(
            f"The images of {name} take {num_bytes / 1e9:,.0f} GB, but this machine has"
            f" {memory / 1e9:,.0f} GB of memory.\nChoose a smaller --image_size, or --stream them."
        )


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
