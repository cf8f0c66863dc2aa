"""Parts of data sets, so that two cores train on them many times.

python launch.py --dataset="experiments.sets:part(name='cifar10', train=20000, test=2000)"
"""

import dataclasses

import numpy as np

from initjax import data
from initjax.support.errors import UserError


def part(name: str, train: int, test: int, image_size: int | None = None) -> data.Dataset:
    """So many training and test images of a data set, the same ones whatever the run's seed.

    Args:
      name: as `--dataset` takes it; prepared sets are looked for in $TFDS_DATA_DIR.
      train: how many training images.
      test: how many test images.
      image_size: in pixels, if the images are to be resized.

    Raises:
      UserError: the set has not so many.
    """
    whole = data.load(name, image_size=image_size)
    chosen = {}
    for split, number in (("train", train), ("test", test)):
        images, labels = getattr(whole, f"{split}_images"), getattr(whole, f"{split}_labels")
        if not 0 < number <= len(labels):
            raise UserError(f"{split}={number}: {name} has 1 to {len(labels)} of them.")
        order = np.sort(np.random.default_rng(0).permutation(len(labels))[:number])
        chosen |= {f"{split}_images": images[order], f"{split}_labels": labels[order]}
    return dataclasses.replace(whole, **chosen)
