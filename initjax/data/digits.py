"""The handwritten digits that need no download."""

import pathlib

import numpy as np
import PIL.Image

from initjax.data.dataset import Dataset, check_memory
from initjax.data.images import resize


def load_digits(image_size: int | None) -> Dataset:
    """1,797 handwritten digits of 8 x 8 pixels, every fifth of each class kept for the test.

    Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998, UCI, CC BY 4.0), its test
    set, as scikit-learn has it: counts of pixels from 0 to 16, here scaled to 0 to 255.
    """
    with np.load(pathlib.Path(__file__).with_name("digits.npz"), allow_pickle=False) as digits:
        counts, labels = digits["images"], digits["labels"].astype(np.int32)
    images = np.rint(counts * (255 / 16)).astype(np.uint8)[..., None]
    if image_size is not None:
        check_memory("digits", len(images) * image_size**2)
        pictures = (PIL.Image.fromarray(image[..., 0]) for image in images)
        images = np.stack([np.asarray(resize(p, image_size)) for p in pictures])[..., None]
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
        label_names=tuple(map(str, range(10))),
    )
