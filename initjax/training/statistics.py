"""What becomes of a run's layers while it trains: --record_statistics, and `consistency`'s own."""

import functools
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from initjax.network.paths import get_layer, named_leaves
from initjax.refine.network import Network
from initjax.support.files import json_row
from initjax.training.devices import is_first
from initjax.training.progress import Follower, Histogram, Reporter
from initjax.training.start import calibration_batch, on_axis
from initjax.training.step import TrainState
from initjax.training.workdir import keep_rows


class LayerStatistics:
    """What layers put out on fixed images, and how far their weights have moved.

    Args:
      model: the run's model, in training mode; batch statistics are those of the images.
      dataset: the run's data: 256 training images, as refinements hold them out of calibration.
      key: of the run's refinement.
    """

    def __init__(self, model, dataset, key: jax.Array):
        key, key_order = jax.random.split(key)
        images, _ = calibration_batch(dataset, key_order)
        self._images = images[-(len(images) // 4) :]
        self._network = Network(on_axis(model, None), key)
        self._histograms = self._network.each_layer(lambda path, z: _histogram(z))

    def measure(self, params, before=None) -> dict[str, dict[str, float]]:
        """By layer what `StatisticsLog` writes; updates only where weights before are given."""
        found = {
            path: {name: getattr(z, name) for name in ("mean", "variance", "total_variance")}
            for path, z in self._network.statistics(params, self._images).items()
        }
        if before is not None:
            updates = jax.device_get(_updates(tuple(found), params, before))
            for path, layer in found.items():
                layer |= {name: x.item() for name, x in updates[path].items()}
        return found

    def histograms(self, params) -> dict[str, Histogram]:
        """Of every parameter and of every layer's pre-activations, those that are finite."""
        found = {}
        for path, w in named_leaves(meta.unbox(params)):
            w = np.asarray(w, np.float32).ravel()
            if w.size and np.isfinite(w).all():
                counts, edges = np.histogram(w, _BINS)
                found[f"weights/{path}"] = Histogram(edges, counts, w.sum(), w @ w)
        for path, (low, high, *rest) in self._histograms(params, self._images).items():
            if np.isfinite([low, high]).all():
                edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
                found[f"pre_activations/{path}"] = Histogram(edges, *rest)
        return found


_BINS = 64


def _histogram(z: jax.Array) -> tuple[jax.Array, ...]:
    """(least, largest, counts, sum, sum of squares): there is no room for all of z on the host."""
    low, high = z.min(), z.max()
    position = (z - low) / jnp.where(high > low, high - low, 1) * _BINS
    bins = jnp.clip(position, 0, _BINS - 1).astype(jnp.int32)  # of the largest, the last
    return low, high, jnp.bincount(bins.ravel(), length=_BINS), z.sum(), jnp.square(z).sum()


@functools.partial(jax.jit, static_argnums=0)
def _updates(paths, params, before):
    def kernel(tree, path):
        w = get_layer(meta.unbox(tree), path)["kernel"]
        return w.astype(jnp.promote_types(w.dtype, jnp.float32))

    def rms(x):
        return jnp.sqrt(jnp.square(x).mean())

    found = {}
    for path in paths:
        now = kernel(params, path)
        size = rms(now - kernel(before, path))
        found[path] = {"update": size, "relative_update": size / rms(now)}
    return found


class StatisticsLog:
    """statistics.jsonl: a line before the first step, and one an evaluation.

        {"step": 200, "epoch": 1.0, "layers": {"Conv_0": {"mean": ..., "variance": ...,
         "total_variance": ..., "update": ..., "relative_update": ...}, ...}}

    Mean and variance are of all pre-activations of a layer, the total variance is the sum of its
    channels' variances. Of kernels W now and V at the line before, the update is rms(W - V), and
    the relative one that divided by rms(W), or null for 0/0; the first line has none.

    TensorBoard gets a histogram of every parameter and of every layer's pre-activations with each.

    Attributes:
      params: at the last line, on the host. A checkpoint holds them, so that what comes after it is
        measured from there.
    """

    def __init__(self, folder: pathlib.Path, trainer, reporter: Reporter | Follower):
        self._reporter = reporter
        self._path = folder / "statistics.jsonl"
        self._statistics, self._steps_per_epoch = trainer.statistics, trainer.steps_per_epoch
        self.params = None

    def begin(self, state: TrainState) -> None:
        """Of a run that has not begun: its first line."""
        self._keep(-1, ())
        self.record(0, state)

    def resume(self, step: int, params, expected: Sequence[int] = ()) -> None:
        """Of a run that stands at a step; later lines are dropped, which will be written again.

        Of `expected` steps, those that have no line are told.
        """
        self._keep(step, (0, *expected))
        self.params = params

    def _keep(self, step, expected):
        if is_first():
            keep_rows(self._path, step, expected, ("epoch",), self._reporter.say)

    def record(self, step: int, state: TrainState) -> dict[str, float]:
        """A line of the state at an evaluation. Nothing of it is for metrics.jsonl."""
        params = jax.device_get(state.params)
        layers = self._statistics.measure(params, self.params)
        row = {"step": step, "epoch": step / self._steps_per_epoch, "layers": layers}
        if is_first():
            with self._path.open("a") as file:
                file.write(json_row(row))
            self._reporter.histograms(step, self._statistics.histograms(params))
        self.params = params
        return {}
