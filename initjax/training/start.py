"""Refinement in a training run: calibration data from its training set, and what is recorded."""

import jax
import jax.numpy as jnp
import numpy as np

from initjax.data.augmentation import normalize
from initjax.data.dataset import Dataset
from initjax.refine import methods
from initjax.refine.network import Network
from initjax.refine.reports import Report
from initjax.support.errors import UserError

# Of the training set; the last quarter of them is held out.
_CALIBRATION_IMAGES = 1024


class Refinement:
    """The refinement that a run's `--refine` names.

    Args:
      name: as in `refine`.
      model: the run's model. Its statistics are those of the whole batch on one device.
      dataset: the run's data; images are drawn from the training split, and not augmented.
      key: a PRNG key, from the run's seed.
    """

    def __init__(self, name: str, model, dataset: Dataset, key: jax.Array):
        self._name, self._model = name, model.clone(axis_name=None)
        self._key, key_order = jax.random.split(key)
        number = min(_CALIBRATION_IMAGES, len(dataset.train_labels))
        indices = np.asarray(jax.random.permutation(key_order, len(dataset.train_labels)))[:number]
        self._batch = (
            normalize(jnp.asarray(dataset.train_images[indices]), dataset.mean, dataset.std),
            jnp.asarray(dataset.train_labels[indices]),
        )
        # The held-out quarter is also what is measured while training goes on.
        self._probe = self._batch[0][-(number // 4) :]
        self._network = Network(self._model, self._key)

    @property
    def records(self) -> bool:
        """Whether the statistics of the layers are recorded through training."""
        return self._name.startswith("consistency")

    def apply(self, params) -> tuple[dict, Report]:
        """The refined parameters, and the report."""
        try:
            return methods.refine(self._name, self._model, params, self._batch, self._key)
        except UserError as error:
            raise UserError(f"--refine: {error}") from None

    def statistics(self, params) -> dict[str, float]:
        """Mean, variance and total variance of every layer, as {"Conv_0/mean": ...}."""
        return {
            f"{path}/{name}": getattr(layer, name)
            for path, layer in self._network.statistics(params, self._probe).items()
            for name in ("mean", "variance", "total_variance")
        }
