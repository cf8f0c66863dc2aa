"""Data that do not fit in memory: batches that worker processes read, decode and resize (Grain).

What a batch shows is decided elsewhere, from a run's seed and the step; here it is only followed,
so that a run is resumed by beginning in the middle, and sees what it would see of a set in memory.
Each batch is the work of one process, and they come in turn.
"""

import atexit
import contextlib
import dataclasses
import functools
import itertools
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from absl import flags

from initjax.data.caches import read_arrays, write_arrays
from initjax.data.dataset import Dataset, byte_statistics
from initjax.data.images import Crop
from initjax.data.records import Records
from initjax.support.bars import bar
from initjax.support.errors import UserError
from initjax.support.text import first_line

Batch = tuple[np.ndarray, np.ndarray]  # images uint8 [B, H, W, C], labels int32 [B]

# Of the memory of a machine: what takes more is streamed by itself. On CPUs each of up to eight
# devices holds a copy of a set in memory, beside that which they are copied from.
STREAM_SHARE = 0.1

_PART = 256  # images of the training split at a time, where all are looked at


class Row(NamedTuple):
    """What a batch shows: the `indices` of its images, and the crop of each; None as `Records`."""

    indices: Sequence[int]
    crops: Sequence[Crop] | None = None


@dataclasses.dataclass(frozen=True)
class Batches:
    """A sequence of batches, decoded where they are asked for."""

    records: Records
    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        images, labels = zip(*self.records.read(*self.rows[index]), strict=True)
        return {"image": np.stack(images), "label": np.array(labels, np.int32)}


def count_workers() -> int:
    """Worker processes of a stream: one a core of this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_batches(
    records: Records, rows: Sequence[Row], workers: int | None = None
) -> Iterator[Batch]:
    """The batches of `rows`, in order, decoded ahead by worker processes.

    Args:
      records: a split.
      rows: of each batch; they may be computed where they are asked for, in the workers.
      workers: processes, at most; None takes `count_workers`, and 0, or a single batch, none: this
        one decodes. They end with the iterator.

    Raises:
      UserError: a record cannot be read, or Grain is not installed.
    """
    try:
        import grain
    except ImportError:
        raise UserError("Data are streamed by Grain.\nInstall it: pip install grain.") from None
    if not flags.FLAGS.is_parsed():  # Grain reads its own.
        flags.FLAGS.mark_as_parsed()
    data = grain.MapDataset.source(Batches(records, rows))
    data = data.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    workers = min(count_workers() if workers is None else workers, len(rows) // 2)
    ahead = grain.MultiprocessingOptions(workers, per_worker_buffer_size=1)
    data = data.mp_prefetch(ahead, _begin_worker)
    # Through pipes: a process that is killed leaves shared memory behind, and one that stops early
    # warns of it.
    options = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
    batches = iter(grain.experimental.WithOptionsIterDataset(data, options))
    atexit.register(batches.close)  # before Python takes apart what closing needs
    try:
        with _main_unknown():
            first = list(itertools.islice(batches, workers))  # one of each worker
        for batch in itertools.chain(first, batches):
            yield batch["image"], batch["label"]
    except RuntimeError as error:  # a worker has gone
        raise UserError(
            f"Streaming stopped: {first_line(error)}\nWhere the memory was not enough for its"
            " workers, a smaller --batch_size helps."
        ) from error
    finally:
        atexit.unregister(batches.close)
        batches.close()


@contextlib.contextmanager
def _main_unknown() -> Iterator[None]:
    """Has new processes not import the main program, as they would by its name.

    They need nothing of it; it takes seconds, and one that does not ask whether it is the main
    program would begin anew in each.
    """
    main = vars(sys.modules["__main__"])
    known = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main |= {"__file__": None, "__spec__": None}
    try:
        yield
    finally:
        del main["__file__"]
        main.update(known)


def _begin_worker(index: int, number: int) -> None:
    """What a worker does first: it leaves signals and accelerators to its parent, and ends with it,
    even where that is killed."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # sent to all processes of a job or a terminal
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")  # rows may be computed by JAX
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class Column:
    """The images or the labels of a split as an array that is read where it is indexed.

    It has the shape, dtype and length of the array, and takes an index, indices or a slice.
    """

    def __init__(self, records: Records, position: int):
        self._records, self._position = records, position
        self.shape = (len(records), *(() if position else records.shape))
        self.dtype = np.dtype(np.int32 if position else np.uint8)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index):
        chosen = np.arange(len(self))[index]
        values = [example[self._position] for example in self._records.read(chosen.ravel())]
        return np.array(values, self.dtype).reshape(chosen.shape + self.shape[1:])


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedDataset(Dataset):
    """A Dataset whose images stay on disk, and are checked where they are read.

    Attributes:
      train: records of the training split, of which `train_images` and `train_labels` are columns.
      test: of the test split, likewise.
      facts: file that keeps what a pass over the training images found.
    """

    train: Records
    test: Records
    facts: pathlib.Path

    def checked(self) -> "StreamedDataset":
        """Itself: records are checked where they are read."""
        return self

    def validation_split(self) -> "StreamedDataset":
        """As of a set in memory; of its training images another pass is made."""
        chosen = (dataclasses.replace(self.train, chosen=part) for part in self._held_out())
        facts = self.facts.with_name(f"{self.facts.stem}-held_out.npz")
        return streamed(self.name, *chosen, self.label_names, facts)

    @property
    def label_counts(self) -> np.ndarray:  # pyright: ignore
        """How many training images each class has, int64 [num_classes]."""
        return self._facts["label_counts"]

    @property
    def _channel_statistics(self) -> tuple[np.ndarray, np.ndarray]:  # pyright: ignore
        return self._facts["mean"], self._facts["std"]

    def _agree(self, facts) -> bool:
        """Whether facts can be those of these images."""
        mean, std, counts = (facts[name] for name in ("mean", "std", "label_counts"))
        return (
            mean.shape == std.shape == self.train.shape[-1:]
            and np.isfinite([mean, std]).all()
            and counts.shape == (self.num_classes,)
            and counts.sum() == len(self.train)
        )

    @functools.cached_property
    def _facts(self) -> dict[str, np.ndarray]:
        """What one pass over the training images finds, which is kept in the cache."""
        facts = read_arrays(self.facts, ("mean", "std", "label_counts"))
        if facts is not None and self._agree(facts):
            return facts
        parts = np.array_split(np.arange(len(self.train)), -(-len(self.train) // _PART))
        counts = np.zeros(self.num_classes, np.int64)
        with bar(len(self.train), "images", "mean and standard deviation") as shown:

            def read():
                for images, labels in read_batches(self.train, [Row(part) for part in parts]):
                    np.add.at(counts, labels, 1)
                    yield images
                    shown.update(len(images))

            mean, std = byte_statistics(read())
        facts = {"mean": mean, "std": std, "label_counts": counts}
        write_arrays(self.facts, facts)
        return facts


def streamed(
    name: str, train: Records, test: Records, label_names: tuple[str, ...], facts: pathlib.Path
) -> StreamedDataset:
    """The StreamedDataset of two splits."""
    columns = (Column(records, position) for records in (train, test) for position in (0, 1))
    return StreamedDataset(name, *columns, train.num_classes, label_names, train, test, facts)  # pyright: ignore
