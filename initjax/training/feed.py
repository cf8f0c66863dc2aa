"""Which images a step sees, and what becomes of them before the model does.

The data lie whole on every device, as bytes; each device gathers its share of a batch, by its
index, from an order that all of them know, so that the numbers of a run do not depend on how many
devices compute them, but for rounding.
"""

import jax
import jax.numpy as jnp
from jax import lax

from initjax.data.augmentation import augment, default_augmentation, draw_augmentation, normalize
from initjax.data.dataset import Dataset, evaluation_indices
from initjax.support.errors import UserError
from initjax.training.devices import Devices
from initjax.training.randomness import order_key

EVAL_BATCH = 512


class Feed:
    """The images of a set in memory.

    Args:
      dataset: the set.
      batch_size: images a step, on all devices together.
      augmentation: "none", "crop", "crop_flip", or "auto", which goes by the set's name.
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
        self._mean, self._std = dataset.mean, dataset.std
        self._devices = devices
        self.train = devices.place((dataset.train_images, dataset.train_labels))
        self.test = devices.place((dataset.test_images, dataset.test_labels))
        eval_batch = min(EVAL_BATCH, len(dataset.test_labels))
        eval_batch = -(-eval_batch // devices.number) * devices.number
        # [K, B] each: what `evaluation_batch` takes, row by row.
        self.evaluation = evaluation_indices(len(dataset.test_labels), eval_batch)

    def order(self, key, epoch) -> jax.Array:
        """The training images in the order in which `epoch` shows them; traced, as what follows."""
        return jax.random.permutation(order_key(key, epoch), self.num_train)

    def batch(self, data, order, step, key) -> dict[str, jax.Array]:
        """This device's share of the batch of a step, augmented by `key` and normalized.

        `data` is `train`, handed through the program; `order` that of the step's epoch.
        """
        images, labels = data
        start, size = self._devices.share(self.batch_size)
        position = (step % self.steps_per_epoch) * self.batch_size + start
        indices = lax.dynamic_slice(order, (position,), (size,))
        batch_images = images[indices]
        if self.augmentation != "none":
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
        """This device's share of one row of `evaluation`; `data` is `test`, handed through."""
        images, labels = data
        start, size = self._devices.share(len(indices))
        indices, mask = (lax.dynamic_slice(x, (start,), (size,)) for x in (indices, mask))
        return {"image": self._normalize(images[indices]), "label": labels[indices], "mask": mask}

    def _normalize(self, images):
        return normalize(images, self._mean, self._std)
