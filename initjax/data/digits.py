"""The handwritten digits that need no download."""

import numpy as np
import PIL.Image

from initjax.data.dataset import Dataset
from initjax.data.images import resize


def load_digits(image_size: int | None) -> Dataset:
    """Scikit-learn's 1,797 handwritten digits, every fifth of each class kept for the test."""
    # Imported here because it takes a second, and a user of another set never needs it.
    from sklearn import datasets as sklearn_datasets

    digits = sklearn_datasets.load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    if image_size is not None:
        pictures = (PIL.Image.fromarray(image[..., 0]) for image in images)
        images = np.stack([np.asarray(resize(p, image_size)) for p in pictures])[..., None]
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
