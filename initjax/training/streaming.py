"""The batches of a run whose data are streamed, read ahead by processes that stay."""

import time
from collections.abc import Iterator

import jax
import numpy as np

from initjax.data.rows import EvaluationRows, TrainingRows
from initjax.data.stream import Batch, StreamedDataset, read_batches
from initjax.support.errors import UserError
from initjax.training.randomness import orders_key, run_key


class Stream:
    """The batches of one run, or a process's part of them.

    Args:
      dataset: the set.
      batch_size: images a step, of all processes together.
      random_crops: whether training sees random crops, and the evaluation the centre.
    """

    def __init__(self, dataset: StreamedDataset, batch_size: int, random_crops: bool):
        height, width, _ = dataset.train.shape
        if random_crops and height != width:
            raise UserError(
                f"--augment=random_resized_crop makes squares, and the images of {dataset.name} are"
                f" {height}x{width}.\nChoose a size with --image_size={min(height, width)}."
            )
        self._dataset, self._batch_size, self._random_crops = dataset, batch_size, random_crops
        self._training: Iterator[Batch] | None = None
        self._evaluation: Iterator[Batch] | None = None
        self._next: tuple[int, int, int] | None = None
        self.starting_seconds = 0.0  # that workers have taken to begin

    def training(self, part: slice, seed: int, step: int, last: int) -> Batch:
        """The batch of `step`; it is read already if the one before was asked for before.

        Args:
          part: of the batch, that this process reads.
          seed: of the run.
          step: which, counted from 0.
          last: how many steps the run has.
        """
        if self._training is None or self._next != (seed, step, last):
            key = orders_key(run_key(seed))
            rows = TrainingRows(
                key=tuple(jax.random.key_data(key).tolist()),
                kind=str(jax.random.key_impl(key)),
                number=len(self._dataset.train),
                batch_size=self._batch_size,
                part=part,
                first=step,
                last=last,
                random_crops=self._random_crops,
            )
            self._training = read_batches(self._dataset.train, rows)
            start = time.perf_counter()
            batch = next(self._training)
            self.starting_seconds += time.perf_counter() - start
        else:
            batch = next(self._training)
        self._next = (seed, step + 1, last)
        return batch

    def evaluation(self, part: slice, indices: np.ndarray) -> Iterator[Batch]:
        """The batches of all rows of `indices`, int32 [K, B]; this process reads a part of each."""
        ahead, self._evaluation = self._evaluation, None  # unless all are taken
        if ahead is None:
            rows = EvaluationRows(indices[:, part], self._random_crops)
            ahead = read_batches(self._dataset.test, rows)
        for _ in indices:
            yield next(ahead)
        self._evaluation = ahead
