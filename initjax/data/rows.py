"""Which images, in which crops, the batches of a run show: computed by the workers of a stream."""

import dataclasses
import functools

import jax
import numpy as np

from initjax.data.images import random_resized_crop, resize
from initjax.data.stream import Row

# The evaluation's square, of the shorter side of an image, where training sees random crops: 224
# pixels of 256, as is usual since Krizhevsky, Sutskever & Hinton 2012.
EVALUATION_SHARE = 224 / 256
_EVALUATIONS = 2**20  # more than a run has; what is read ahead needs an end


def epoch_order(key: jax.Array, epoch, number: int) -> jax.Array:
    """The order in which an epoch shows `number` images, by the key of a run's orders."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), number)


@functools.lru_cache(maxsize=2)
def _known_order(key: tuple[int, ...], kind, epoch: int, number: int) -> np.ndarray:
    wrapped = jax.random.wrap_key_data(np.uint32(key), impl=kind)
    return np.asarray(epoch_order(wrapped, epoch, number))


@dataclasses.dataclass(frozen=True)
class TrainingRows:
    """What each step of a run shows: a sequence.

    Attributes:
      key: words of the key of the run's orders, of which crops are drawn, too.
      kind: of that key.
      number: of training images.
      batch_size: of all processes together.
      part: of a batch, that this process reads.
      first: the step of row 0.
      last: the step after the last row's.
      random_crops: whether images are shown in crops drawn from (key, epoch, index).
    """

    key: tuple[int, ...]
    kind: str
    number: int
    batch_size: int
    part: slice
    first: int
    last: int
    random_crops: bool

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> Row:
        epoch, step = divmod(self.first + index, self.number // self.batch_size)
        order = _known_order(self.key, self.kind, epoch, self.number)
        indices = order[step * self.batch_size :][: self.batch_size][self.part]
        if not self.random_crops:
            return Row(indices)
        draws = (np.random.default_rng([*self.key, epoch, i]) for i in indices)
        return Row(indices, [functools.partial(random_resized_crop, rng=rng) for rng in draws])


@dataclasses.dataclass(frozen=True)
class EvaluationRows:
    """The test images in batches, again and again: a sequence.

    Attributes:
      indices: int32 [K, B], those that this process reads.
      central: whether the centre is shown, as where training sees random crops.
    """

    indices: np.ndarray
    central: bool

    def __len__(self) -> int:
        return _EVALUATIONS * len(self.indices)

    def __getitem__(self, index: int) -> Row:
        indices = self.indices[index % len(self.indices)]
        crop = functools.partial(resize, share=EVALUATION_SHARE)
        return Row(indices, [crop] * len(indices) if self.central else None)
