"""The records of a split of tensorflow-datasets (TFDS), checked one by one as they are decoded."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from initjax.data.dataset import CHUNK_IMAGES
from initjax.data.images import Crop, decode_image, resize
from initjax.support.errors import UserError
from initjax.support.text import first_line

Example = tuple[np.ndarray, int]  # image uint8 [H, W, C], label


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """A sequence of examples, decoded where they are asked for; it can be sent to a process.

    Attributes:
      source: the encoded records, of TFDS.
      what: the split, for messages.
      keys: of the image and of the label in a record.
      shape: of an image.
      image_size: to which images are resized; None: they have `shape`.
      num_classes: labels are below it.
      chosen: which of them these are, in this order; None: all.
    """

    source: Any
    what: str
    keys: tuple[str, str]
    shape: tuple[int, int, int]
    image_size: int | None
    num_classes: int
    chosen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.source if self.chosen is None else self.chosen)

    def __getitem__(self, index: int) -> Example:
        return next(self.read([index]))

    def __iter__(self) -> Iterator[Example]:
        """All in order."""
        for start in range(0, len(self), CHUNK_IMAGES):
            yield from self.read(range(start, min(start + CHUNK_IMAGES, len(self))))

    def read(
        self, indices: Sequence[int], crops: Sequence[Crop] | None = None
    ) -> Iterator[Example]:
        """Several, read together, which is up to twice as fast as one by one.

        Args:
          indices: of the examples.
          crops: of each, to images of `shape`, which is square then; None resizes to `image_size`.
        """
        indices = [int(i if self.chosen is None else self.chosen[i]) for i in indices]
        try:
            records = self.source.__getitems__(indices)
        except Exception:  # TFDS does not say for which of them.
            records = map(self._record, indices)
        for i, record, crop in zip(indices, records, crops or [resize] * len(indices), strict=True):
            try:
                example = self._example(record, crop)
            except Exception as error:
                raise self._bad(i, error) from error
            yield example

    def _record(self, index):
        try:
            return self.source[index]
        except Exception as error:
            raise self._bad(index, error) from error

    def _example(self, record, crop) -> Example:
        encoded, label = (record[key] for key in self.keys)
        if not encoded:
            raise ValueError("it has no image")
        size = self.image_size if crop is resize else self.shape[0]
        pixels = decode_image(encoded, self.shape[-1], size, crop)
        # Assigned to a place of its size, an image of one pixel would fill all of it.
        if pixels.shape != self.shape:
            counts = ("x".join(map(str, x[:2])) for x in (pixels.shape, self.shape))
            raise ValueError("its image has {} pixels, not {}".format(*counts))
        if label is None:
            raise ValueError("it has no label")
        if not 0 <= label < self.num_classes:
            why = ", as in a split without labels" if label == -1 else ""
            raise ValueError(
                f"its label is {label}{why}; the classes are 0 to {self.num_classes - 1}"
            )
        return pixels, int(label)

    def _bad(self, index, error) -> UserError:
        return UserError(
            f"record {index} of {self.what} cannot be read: {first_line(error)}\n"
            "Prepare the set anew."
        )


def encoded_source(builder, split):
    """The records of a split of a TFDS builder; their images are the bytes of files.

    TFDS would decode them without converting grayscale, palette or CMYK files to the number of
    channels that the set declares.
    """
    import tensorflow_datasets as tfds

    decoders = {
        key: tfds.decode.SkipDecoding()
        for key, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    return builder.as_data_source(split, decoders=decoders, file_format="array_record")


def open_split(builder, split, keys, shape, image_size) -> Records:
    """The records of a split of a TFDS builder.

    Raises:
      ValueError: a file has more or fewer records than dataset_info.json says, where TFDS would
        leave some out in silence.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    info = builder.info.splits[split]
    for file, declared in zip(info.filepaths, info.shard_lengths, strict=True):
        reader = ArrayRecordReader(os.fspath(file))
        found = reader.num_records()
        reader.close()
        if found != declared:
            raise ValueError(f"{file.name} has {found} records, for dataset_info.json {declared}")
    what = f"split {split} of {builder.data_dir}"
    num_classes = builder.info.features[keys[1]].num_classes
    return Records(encoded_source(builder, split), what, keys, shape, image_size, num_classes)
