"""Normalization and augmentation of batches of images, on the device."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

# The last is applied to the files of streamed images, where they are decoded.
AUGMENTATIONS = ("none", "crop", "crop_flip", "random_resized_crop")


def default_augmentation(name: str) -> str:
    """The augmentation of He et al. 2015 for CIFAR; a shift for the few digits; else none."""
    defaults = {"cifar10": "crop_flip", "cifar100": "crop_flip", "digits": "crop"}
    return defaults.get(re.split("[/:]", name)[0], "none")


def normalize(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Standardizes the channels of images [B, H, W, C] to float32.

    Args:
      images: uint8 [B, H, W, C], which are divided by 255, or floats as they are.
      mean: float32 [C], of the divided images, as in `Dataset`.
      std: float32 [C], likewise. A channel that is constant in training (std 0) is only centred.
    """
    scaled = images.astype(jnp.float32)
    if images.dtype == jnp.uint8:
        scaled = scaled / 255
    return (scaled - mean) / jnp.where(std > 0, std, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Normalization:
    """`normalize` with the statistics of one training set: images -> what its model takes."""

    mean: np.ndarray
    std: np.ndarray

    def __call__(self, images: ArrayLike) -> jax.Array:
        return normalize(jnp.asarray(images), self.mean, self.std)


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
