"""Which images a step sees, and what becomes of them before the model does.

The data lie whole on every device, as bytes; each device gathers its share of a batch, by its
index, from an order that all of them know, so that the numbers of a run do not depend on how many
devices compute them, but for rounding. What is streamed comes batch by batch, in that order.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from initjax.data.augmentation import augment, default_augmentation, draw_augmentation, normalize
from initjax.data.dataset import Dataset, evaluation_indices
from initjax.data.rows import epoch_order
from initjax.data.stream import StreamedDataset
from initjax.support.errors import UserError
from initjax.training.devices import Devices
from initjax.training.randomness import orders_key
from initjax.training.streaming import Stream

EVAL_BATCH = 512
# At once, so that no evaluation takes much more memory than training: 167 images of 224x224.
_EVAL_PIXELS = 2**23


class Feed:
    """The images of a set, in memory or streamed.

    Args:
      dataset: the set.
      batch_size: images a step, on all devices together.
      augmentation: one of `data.AUGMENTATIONS`, or "auto", which goes by the set's name.
      devices: which share a batch.
    """

    def __init__(self, dataset: Dataset, batch_size: int, augmentation: str, devices: Devices):
        # Whoever made it: a label beyond the classes has a one-hot of 0, and trains in silence.
        dataset = dataset.checked()
        self.num_train = len(dataset.train_labels)
        if batch_size % devices.number:
            raise UserError(
                f"--batch_size={batch_size} is not divisible by the {devices.number} devices"
                f" here.\nTake a multiple of {devices.number}, such as"
                f" {-(-batch_size // devices.number) * devices.number}."
            )
        if batch_size > self.num_train:
            raise UserError(
                f"--batch_size={batch_size} is more than the {self.num_train} training images of"
                f" {dataset.name}."
            )
        self.batch_size = batch_size
        self.steps_per_epoch = self.num_train // batch_size
        self.image_shape = dataset.train_images.shape[1:]
        self.augmentation = augmentation
        if augmentation == "auto":
            self.augmentation = default_augmentation(dataset.name)
        self._devices, self._stream = devices, None
        random_crops = self.augmentation == "random_resized_crop"
        if isinstance(dataset, StreamedDataset):
            self._stream = Stream(dataset, batch_size, random_crops)
        elif random_crops:
            raise UserError(
                f"--augment=random_resized_crop crops images as they lie on disk; {dataset.name} is"
                " in memory.\nAdd --stream, for a set of tensorflow-datasets, or take crop_flip."
            )
        else:
            images = (dataset.train_images, dataset.test_images)
            devices.check_memory(dataset.name, sum(x.nbytes for x in images))
            self.train = devices.place((dataset.train_images, dataset.train_labels))
            self.test = devices.place((dataset.test_images, dataset.test_labels))
        self._mean, self._std = dataset.mean, dataset.std
        fitting = max(_EVAL_PIXELS // math.prod(self.image_shape[:2]), 1)
        eval_batch = min(EVAL_BATCH, fitting, len(dataset.test_labels))
        eval_batch = -(-eval_batch // devices.number) * devices.number
        # [K, B] each: what `evaluation_batch` takes, row by row.
        self.evaluation = evaluation_indices(len(dataset.test_labels), eval_batch)

    def order(self, key, epoch) -> jax.Array:
        """The training images in the order in which `epoch` shows them; traced, as what follows."""
        return epoch_order(orders_key(key), epoch, self.num_train)

    @property
    def streams(self) -> bool:
        """Whether data come batch by batch, by what follows."""
        return self._stream is not None

    @property
    def starting_seconds(self) -> float:
        """Seconds that a stream has taken to begin."""
        return self._stream.starting_seconds if self._stream else 0.0

    def streamed_batch(self, seed: int, step: int, last: int) -> Any:
        """What `batch` takes in a step of a run with so many, on the devices."""
        part = self._devices.of_process(self.batch_size)
        return self._devices.place(self._stream.training(part, seed, step, last))

    def streamed_evaluation(self) -> Iterator[Any]:
        """What `evaluation_batch` takes for each row of `evaluation`, on the devices."""
        indices, _ = self.evaluation
        part = self._devices.of_process(indices.shape[1])
        return map(self._devices.place, self._stream.evaluation(part, indices))

    def batch(self, data, order, step, key) -> dict[str, jax.Array]:
        """This device's share of the batch of a step, augmented by `key` and normalized.

        `data` is `train`, handed through the program; `order` that of the step's epoch. Of a stream
        it is a `streamed_batch`, which has followed that order.
        """
        images, labels = data
        start, size = self._devices.share(self.batch_size)
        if self.streams:
            indices = start % len(images) + jnp.arange(size)
        else:
            position = (step % self.steps_per_epoch) * self.batch_size + start
            indices = lax.dynamic_slice(order, (position,), (size,))
        batch_images = images[indices]
        if self.augmentation in ("crop", "crop_flip"):
            pad = images.shape[1] // 8  # 4 at 32 pixels
            # Drawn for the whole batch, so that it does not depend on the number of devices.
            offsets, flips = draw_augmentation(key, self.batch_size, pad)
            if self.augmentation == "crop":
                flips = jnp.zeros_like(flips)
            offsets = lax.dynamic_slice(offsets, (start, 0), (size, 2))
            flips = lax.dynamic_slice(flips, (start,), (size,))
            batch_images = augment(batch_images, offsets, flips, pad)
        return {"image": self._normalize(batch_images), "label": labels[indices]}

    def evaluation_batch(self, data, indices, mask) -> dict[str, jax.Array]:
        """This device's share of one row of `evaluation`.

        `data` is `test`, handed through the program; of a stream, one of `streamed_evaluation`.
        """
        images, labels = data
        start, size = self._devices.share(len(indices))
        indices, mask = (lax.dynamic_slice(x, (start,), (size,)) for x in (indices, mask))
        if self.streams:
            indices = start % len(images) + jnp.arange(size)
        return {"image": self._normalize(images[indices]), "label": labels[indices], "mask": mask}

    def _normalize(self, images):
        return normalize(images, self._mean, self._std)
