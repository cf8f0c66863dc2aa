"""Finds the files of tensorflow-datasets (TFDS) sets, and prepares some sets without TensorFlow.

TFDS itself needs TensorFlow to unpack archives and to encode images. For the sets in `DATASETS`
this module does both with the standard library, SciPy and Pillow; features, version, labels and
keys of the examples are those of TFDS, whose own reader reads the result.
"""

import contextlib
import difflib
import functools
import gzip
import io
import os
import pathlib
import re
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import PIL.Image

from initjax.data.features import check_descriptions
from initjax.support.errors import UserError
from initjax.support.fetch import NetworkError, fetch
from initjax.support.text import first_line

# What a split yields: (key, record of TFDS features).
Examples = Iterator[tuple[int, dict]]


def find_builder(name: str, data_dir: str | os.PathLike[str] | None):
    """The TFDS builder of `name`, prepared or not; it knows the features and files of the set.

    Args:
      name: "cifar10", "imagenette/160px-v2", "mnist:3.0.1".
      data_dir: directory of prepared sets; None is TFDS's own default.

    Raises:
      UserError: there is no such set, or its files are not those of one.
    """
    # Imported here because it takes a second, and the default dataset never needs it.
    import tensorflow_datasets as tfds

    if not re.fullmatch(r"\w+(/[^/:]+)?(:\d+\.\d+\.\d+)?", name):
        raise UserError(
            f"dataset={name!r} is not of the form NAME, NAME/CONFIG or NAME:VERSION, nor a folder."
        )
    base_name = re.split("[/:]", name)[0]
    check_descriptions(base_name, data_dir)
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        if base_name in known:
            # TFDS reads such a version or configuration, but only where someone prepared it.
            place = data_dir or tfds.core.constants.DATA_DIR
            raise UserError(
                f"{name} is not prepared in {place}.\nTry {base_name}, the version that can be."
            ) from None
        close = difflib.get_close_matches(base_name, known)
        hint = (
            f"Did you mean {' or '.join(close)}?" if close else "`tfds.list_builders()` lists them."
        )
        raise UserError(f"{name} is not a dataset of tensorflow-datasets.\n{hint}") from None
    except ImportError as error:
        raise UserError(f"{name} needs a package to be installed: {_reason(error)}.") from None
    except Exception as error:  # no such version; or files that are not as TFDS writes them
        raise UserError(f"dataset={name!r}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """What TFDS says in one line, without the call it quotes before or the list after."""
    said = str(error).rpartition('}": ')[2]
    return first_line(said or error).split(" Here are ")[0]


def _is_prepared(builder) -> bool:
    """As `builder.is_prepared()`, which however logs a warning wherever it answers no."""
    return (builder.data_path / "dataset_info.json").exists()


def ensure_prepared(builder, download: bool = False):
    """`builder`, or one like it, with its files in place and readable without TensorFlow.

    Args:
      builder: from `find_builder`.
      download: prepare the set if its directory lacks it and it is one of `DATASETS`.

    Raises:
      UserError: the set is not prepared, which is found without touching the network.
    """
    if not _is_prepared(builder) and download and builder.name in DATASETS:
        prepare(builder.name, builder.data_dir_root)
        builder = find_builder(builder.name, builder.data_dir_root)
    # The full name ends with the version.
    name = builder.info.full_name.rpartition("/")[0]
    place, another = builder.data_dir_root, ""
    if not _is_prepared(builder):
        problem = f"{name} is not prepared in {place}."
    else:
        formats = sorted(found.value for found in builder.info.available_file_formats())
        if "array_record" in formats:
            return builder
        problem = f"{builder.data_dir} is stored as {'/'.join(formats)}, not as array_record."
        place, another = "ANOTHER_DIR", " and another --data_dir"
    if builder.name in DATASETS:
        path = os.path.relpath(builder.data_dir, builder.data_dir_root)
        remedy = (
            f"Run again with --download{another}, or pass --data_dir=DIR that holds DIR/{path}."
        )
    else:
        remedy = (
            "Preparing it takes TensorFlow: `pip install tensorflow`, then "
            f"`tfds build {name} --file_format=array_record --data_dir={place}`."
        )
    raise UserError(f"{problem}\n{remedy}")


def prepare(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    sources: Mapping[str, str] | None = None,
    checksums: Mapping[str, tuple[int, str]] | None = None,
) -> None:
    """Downloads a set and writes it as TFDS does, as array_record.

    Archives stay in `data_dir`/downloads until the set is complete, so that another try does not
    fetch them again. The set appears under its name all at once; a failure or an interrupt
    leaves no part of it.

    Args:
      name: one of `DATASETS`.
      data_dir: directory of prepared sets; None is TFDS's own default.
      sources: other places to fetch from, original URL -> URL.
      checksums: original URL -> (bytes, SHA-256 in hex); None takes those that TFDS ships.

    Raises:
      UserError: a server cannot be reached, an archive is not what it should be, or `data_dir`
        cannot be written.
    """
    import tensorflow_datasets as tfds

    if name not in DATASETS:
        raise UserError(f"{name} is not among the sets to download: {', '.join(DATASETS)}.")
    builder = tfds.builder(name, data_dir=data_dir)
    if _is_prepared(builder):
        return
    if builder.data_path.exists():
        raise UserError(
            f"{builder.data_dir} is in the way: it holds no complete {name}. Delete it."
        )
    if checksums is None:
        checksums = {url: (int(i.size), i.checksum) for url, i in builder.url_infos.items()}
    base_url, filenames, generate = DATASETS[name]
    archive_dir = pathlib.Path(builder.data_dir_root) / "downloads" / name
    archives = {filename: archive_dir / filename for filename in filenames}
    try:
        archive_dir.mkdir(parents=True, exist_ok=True)
        for filename, archive in archives.items():
            url = base_url + filename
            fetch((sources or {}).get(url, url), archive, *checksums[url])
        _write_records(builder, lambda: generate(builder.info.features, archives), archive_dir)
        for archive in archives.values():
            archive.unlink()
    except NetworkError as error:
        path = os.path.relpath(builder.data_dir, builder.data_dir_root)
        raise UserError(
            f"{error}\nTry again later, or pass --data_dir=DIR that holds a prepared DIR/{path}."
        ) from error
    except OSError as error:
        raise UserError(
            f"{name} cannot be written to {builder.data_dir_root}: {error}\n"
            "Pass --data_dir=DIR with a directory to write to."
        ) from error
    finally:
        # Directories that are still in use are not empty, and stay.
        extract_dir = archive_dir / "extracted"
        for directory in (extract_dir, archive_dir, archive_dir.parent, builder.data_path.parent):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def _write_records(builder, generate: Callable[[], dict[str, Examples]], download_dir) -> None:
    """Has TFDS write the examples, in place of those it would make with TensorFlow."""
    import tensorflow_datasets as tfds

    builder._split_generators = lambda unused_download_manager: generate()
    tfds.display_progress_bar(sys.stderr.isatty())
    # TFDS announces on standard output what it is about to download, with unknown sizes.
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(
            file_format="array_record",
            download_dir=download_dir,
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )


def _cifar_splits(
    features,
    archives: Mapping[str, pathlib.Path],
    prefix: str,
    members: Mapping[str, tuple[str, ...]],
    label_files: Mapping[str, str],
) -> dict[str, Examples]:
    """Splits of the binary version of CIFAR: for each image its label bytes, then 3x32x32 pixels.

    `members` are the files of each split, `label_files` the names of the labels in the order of
    their bytes.
    """
    (archive,) = archives.values()

    def read(member: str) -> bytes:
        with tarfile.open(archive) as tar:
            return tar.extractfile(prefix + member).read()

    def examples(split: str) -> Examples:
        data = b"".join(read(member) for member in members[split])
        num_labels = len(label_files)
        rows = np.frombuffer(data, np.uint8).reshape(-1, num_labels + 3 * 32 * 32)
        for i, row in enumerate(rows):
            labels = zip(label_files, row[:num_labels].tolist(), strict=True)
            image = row[num_labels:].reshape(3, 32, 32).transpose(1, 2, 0)
            yield i, {"id": f"{split}_{i:05d}", "image": PIL.Image.fromarray(image), **dict(labels)}

    for key, file in label_files.items():
        features[key].names = read(file).decode().split()
    return {split: examples(split) for split in members}


def _mnist_splits(features, archives: Mapping[str, pathlib.Path]) -> dict[str, Examples]:
    """Splits of MNIST's format, IDX: a header of big-endian int32, then the bytes."""

    def read_idx(filename: str) -> np.ndarray:
        data = gzip.decompress(archives[filename].read_bytes())
        num_axes = data[3]
        shape = np.frombuffer(data, ">i4", num_axes, offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * num_axes).reshape(shape)

    def examples(prefix: str) -> Examples:
        images = read_idx(f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(f"{prefix}-labels-idx1-ubyte.gz")
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {"image": PIL.Image.fromarray(image), "label": int(label)}

    return {"train": examples("train"), "test": examples("t10k")}


def _svhn_splits(features, archives: Mapping[str, pathlib.Path]) -> dict[str, Examples]:
    """Splits of the cropped Street View House Numbers, one MATLAB file each."""

    def examples(split: str) -> Examples:
        # Imported here because it is slow, and needed for this set only.
        import scipy.io

        data = scipy.io.loadmat(archives[f"{split}_32x32.mat"])
        for i, label in enumerate(data["y"].ravel()):
            image = PIL.Image.fromarray(data["X"][..., i])
            # The file has label 10 for the digit 0.
            yield i, {"id": f"{split}_{i:06d}", "image": image, "label": int(label) % 10}

    return {split: examples(split) for split in ("train", "test", "extra")}


_MNIST_FILES = tuple(
    f"{split}-{kind}-ubyte.gz"
    for split in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)

# name -> (URL of the directory, files in it, what reads them)
DATASETS = {
    "cifar10": (
        "https://www.cs.toronto.edu/~kriz/",
        ("cifar-10-binary.tar.gz",),
        functools.partial(
            _cifar_splits,
            prefix="cifar-10-batches-bin/",
            members={
                "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
                "test": ("test_batch.bin",),
            },
            label_files={"label": "batches.meta.txt"},
        ),
    ),
    "cifar100": (
        "https://www.cs.toronto.edu/~kriz/",
        ("cifar-100-binary.tar.gz",),
        functools.partial(
            _cifar_splits,
            prefix="cifar-100-binary/",
            members={"train": ("train.bin",), "test": ("test.bin",)},
            label_files={
                "coarse_label": "coarse_label_names.txt",
                "label": "fine_label_names.txt",
            },
        ),
    ),
    "mnist": ("https://storage.googleapis.com/cvdf-datasets/mnist/", _MNIST_FILES, _mnist_splits),
    "fashion_mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        _MNIST_FILES,
        _mnist_splits,
    ),
    "svhn_cropped": (
        "http://ufldl.stanford.edu/housenumbers/",
        ("train_32x32.mat", "test_32x32.mat", "extra_32x32.mat"),
        _svhn_splits,
    ),
}
