"""A Flax Linen model as refinements see it: parameters and inputs to pre-activations."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from initjax.network import taps
from initjax.refine.statistics import Statistics, as_statistics, moments, rows
from initjax.support.errors import UserError


class Network:
    """`model` in training mode: batch normalization uses the statistics of the batch it is given.

    Running averages are neither read nor written, so that what is refined is the function that the
    first training step sees. A dropout layer draws its mask from `key`, the same at every call.

    Args:
      model: a Flax Linen module; `train=True` is passed to it where it takes that.
      key: a PRNG key.
    """

    def __init__(self, model, key: jax.Array):
        if not isinstance(model, nn.Module):
            raise UserError(f"model={type(model).__name__} is not a Flax Linen module.")
        self.model, self.key = model, key
        self._kwargs: dict[str, Any] = {
            "mutable": ["batch_stats"],
            "rngs": {"dropout": jax.random.fold_in(key, 0)},
        }
        if "train" in inspect.signature(model.__call__).parameters:
            self._kwargs["train"] = True

    def apply(self, params, inputs) -> jax.Array:
        """The outputs."""
        return self.model.apply({"params": params}, inputs, **self._kwargs)[0]

    def record(self, params, inputs, edit: Callable | None = None) -> dict[str, jax.Array]:
        """What every layer put out at its first call, in the order in which they compute.

        `edit` is as in `initjax.network.taps.record`.
        """
        found = taps.record(self.model, {"params": params}, inputs, edit=edit, **self._kwargs)[1]
        return {path: calls[0] for path, calls in found.items()}

    def shapes(self, params, inputs) -> dict[str, jax.ShapeDtypeStruct]:
        """The shape of what every layer puts out at its first call, without computing it."""
        paths: list[str] = []

        def run(params, inputs):
            found = self.record(params, inputs)
            paths[:] = found  # a dictionary that leaves jax.eval_shape would be sorted
            return list(found.values())

        return dict(zip(paths, jax.eval_shape(run, params, inputs), strict=True))

    def statistics(self, params, inputs) -> dict[str, Statistics]:
        """The statistics of every layer."""
        return as_statistics(self._moments(params, inputs))

    @functools.cached_property
    def _moments(self):
        return self.each_layer(lambda path, z: moments(z))

    def each_layer(self, function: Callable) -> Callable[..., dict[str, Any]]:
        """A compiled (params, inputs) -> {path: function(path, z [rows, C])}, on the host."""
        paths: list[str] = []

        @jax.jit
        def run(params, inputs):
            found = self.record(params, inputs)
            paths[:] = found  # a dictionary that leaves jit would be sorted
            return [function(path, rows(z)) for path, z in found.items()]

        def call(params, inputs):
            values = jax.device_get(run(params, inputs))
            return dict(zip(paths, values, strict=True))

        return call
