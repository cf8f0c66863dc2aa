"""A labelled set of images in memory, and its exact evaluation."""

import dataclasses
import functools

import jax
import numpy as np

from initjax.support.errors import UserError

CHUNK_IMAGES = 1024


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

    def validation_split(self) -> "Dataset":
        """What choices are made on: `test` is held out of the training images, and no test image.

        Held out are a tenth of the training images, at least 1,000 but at most a fifth, drawn by a
        key that no seed changes.
        """
        number = len(self.train_labels)
        held_out = max(number // 10, min(1000, number // 5))
        if not held_out:
            raise UserError(
                f"{number} training images of {self.name} are too few to hold some out."
            )
        order = np.asarray(jax.random.permutation(jax.random.key(0), number))
        test, train = np.sort(order[:held_out]), np.sort(order[held_out:])
        return dataclasses.replace(
            self,
            train_images=self.train_images[train],
            train_labels=self.train_labels[train],
            test_images=self.train_images[test],
            test_labels=self.train_labels[test],
        )

    @functools.cached_property
    def _channel_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean, std); exact for bytes, because it is enough to count their 256 values."""
        if self.train_images.dtype != np.uint8:
            over = {"axis": (0, 1, 2), "dtype": np.float64}
            mean, std = self.train_images.mean(**over), self.train_images.std(**over)
            return mean.astype(np.float32), std.astype(np.float32)
        num_channels = self.train_images.shape[-1]
        counts = np.zeros((num_channels, 256), np.int64)
        # In chunks, because bincount makes an int64 copy of what it counts.
        for start in range(0, len(self.train_images), CHUNK_IMAGES):
            pixels = self.train_images[start : start + CHUNK_IMAGES].reshape(-1, num_channels)
            for channel in range(num_channels):
                counts[channel] += np.bincount(pixels[:, channel], minlength=256)
        values = np.arange(256) / 255
        frequencies = counts / counts.sum(axis=1, keepdims=True)
        mean = frequencies @ values
        variance = (frequencies * (values - mean[:, None]) ** 2).sum(axis=1)
        return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


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
