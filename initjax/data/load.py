"""A data set by name."""

import numbers
import os

from initjax.data.dataset import Dataset
from initjax.data.digits import load_digits
from initjax.data.folder import is_folder, load_folder
from initjax.data.images import MAX_SIZE
from initjax.data.own import is_own, load_own
from initjax.data.tfds import load_tfds
from initjax.support.errors import UserError


def load(
    name: str = "digits",
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    download: bool = False,
    stream: bool | None = False,
) -> Dataset:
    """Loads a dataset.

    Args:
      name: "digits", which comes with scikit-learn and needs no network; any image classification
        set of TFDS, "cifar10", "imagenette/160px-v2", "mnist:3.0.1"; a folder, "./flowers", with
        an image file each in train/<class>/ and test/<class>/ (see `initjax.data.folder`); or a
        function of your own, "package.module:name" (see `initjax.data.own`), which is imported
        and called only because it is written so.
      data_dir: directory of prepared TFDS sets; None is TFDS's own default ($TFDS_DATA_DIR, else
        ~/tensorflow_datasets). It is only read, unless a download goes there.
      image_size: resize the shorter side to this many pixels and crop the centre square. Needed
        where the images of a set differ in size.
      download: download and prepare the set first if `data_dir` lacks it, for the sets that
        `initjax.data.downloads` covers.
      stream: leave the images of a TFDS set on disk; worker processes decode batches of them as
        they are needed (see `initjax.data.stream`). None does so where they would take more than
        a tenth of this machine's memory.

    Returns:
      The training split, and as test split "test" or, without one, "validation".

    Raises:
      UserError: the set is unknown, not image classification, not prepared, or not what it must
        be.
    """
    if image_size is not None:
        if not isinstance(image_size, numbers.Integral) or not 1 <= image_size <= MAX_SIZE:
            raise UserError(
                f"image_size={image_size!r} is not a number of pixels, 1 to {MAX_SIZE}."
            )
    if stream and (name == "digits" or is_own(name) or is_folder(name)):
        raise UserError(f"{name} cannot be streamed: only sets of tensorflow-datasets can.")
    if name == "digits":
        return load_digits(image_size)
    if is_own(name):
        return load_own(name, image_size)
    if is_folder(name):
        return load_folder(name, image_size)
    return load_tfds(name, data_dir, image_size, download, stream)
