"""A Flax Linen model as refinements see it: parameters and inputs to pre-activations."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from initjax import taps
from initjax.errors import UserError
from initjax.refine.reports import LayerReport, Report, Statistics


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

        `edit` is as in `initjax.taps.record`.
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


def rows(z: jax.Array) -> jax.Array:
    """z [..., C] as [rows, C], in float32 at least."""
    return z.reshape(-1, z.shape[-1]).astype(jnp.promote_types(z.dtype, jnp.float32))


def channel_moments(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(mean, sd, alive), each [C], of z [rows, C]; alive: not constant but for rounding.

    Values are divided by the largest first, so that no square leaves the range of the dtype.
    """
    size = jax.lax.stop_gradient(jnp.abs(z).max())
    size = jnp.where(size > 0, size, 1)
    unit = z / size
    mean, variance = unit.mean(0), unit.var(0)
    positive = variance > 0  # the root has no derivative at 0
    sd = jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), 0)
    epsilon = jnp.finfo(z.dtype).eps
    dead = sd <= 8 * epsilon * jnp.maximum(jnp.abs(mean), epsilon)
    return mean * size, sd * size, ~dead  # what is not finite is not dead


def moments(z: jax.Array) -> dict[str, jax.Array]:
    """The fields of `Statistics`, as arrays."""
    _, sd, alive = channel_moments(z)
    return {
        "mean": z.mean(),
        "variance": z.var(),
        "total_variance": (sd**2).sum(),
        "dead_channels": (~alive).sum(),
        "num_channels": jnp.int32(z.shape[-1]),
    }


def as_statistics(arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, Statistics]:
    """Host arrays of `moments` by path, as `Statistics`."""
    return {path: Statistics(**{k: x.item() for k, x in a.items()}) for path, a in arrays.items()}


def get_layer(params, path: str) -> Mapping[str, Any]:
    """The parameters of the layer at `path`; empty where there are none."""
    for name in filter(None, path.split("/")):
        params = params.get(name, {}) if isinstance(params, Mapping) else {}
    return params if isinstance(params, Mapping) else {}


def set_layer(params, path: str, layer: Mapping[str, Any]):
    """`params` with another layer at `path`."""
    head, _, rest = path.partition("/")
    if not head:
        return {**layer}
    return {**params, head: set_layer(params[head], rest, layer)}


def change_layers(params, changes: Mapping[str, tuple[jax.Array, jax.Array]]):
    """W <- W s, b <- s b + t for the layers at these paths, each with its (s, t).

    s is a number or one number an output channel, which is the kernel's last axis.
    """
    for path, (scale, shift) in changes.items():
        layer = dict(get_layer(params, path))
        for name, offset in (("kernel", 0), ("bias", shift)):
            if name in layer:
                old = layer[name]
                wide = old.astype(jnp.promote_types(old.dtype, jnp.float32))
                layer[name] = (wide * scale + offset).astype(old.dtype)
        params = set_layer(params, path, layer)
    return params


def sweep(network: Network, params, inputs, solve: Callable) -> tuple[Any, dict[str, Any]]:
    """Corrects every layer in one forward pass, each given the corrected layers before it.

    Args:
      network: the model.
      params: its parameters.
      inputs: the calibration inputs.
      solve: (path, z [rows, C], the layer's parameters) -> (scale, shift, anything to return).
        It is traced; a layer without a bias must be given the shift 0.

    Returns:
      The refined parameters, and what `solve` returned third, by path. A layer that is used several
      times is solved for at its first call.
    """

    @jax.jit
    def run(params, inputs):
        changes, details = {}, {}

        def edit(path, z, call_number):
            if path not in changes:
                layer = get_layer(params, path)
                if layer["kernel"].shape[-1] != z.shape[-1]:
                    raise UserError(
                        f"The last axis of {path}/kernel, {layer['kernel'].shape}, is not that of"
                        f" its outputs, {z.shape}: it cannot be rescaled by channels."
                    )
                scale, shift, details[path] = solve(path, rows(z), layer)
                changes[path] = (scale, shift)
            scale, shift = changes[path]
            return (scale * z + shift).astype(z.dtype)

        network.record(params, inputs, edit)
        return change_layers(params, changes), details

    try:
        return run(params, inputs)
    except jax.errors.UnexpectedTracerError:
        raise UserError(
            f"{type(network.model).__name__} has layers inside nn.remat or nn.jit, where they"
            " cannot be corrected.\nRefine the same parameters with the model built without it."
        ) from None


def split_batch(batch, held_out=None) -> tuple[Any, Any]:
    """(calibration, held-out): what is given, or the first three quarters and the rest of `batch`.

    Args:
      batch: inputs [n, ...]; a pair (inputs, labels); or any tree of arrays [n, ...].
      held_out: of the same form, or None.
    """
    batch = jax.tree.map(_array, batch)
    sizes = {np.shape(x)[0] if np.ndim(x) else 0 for x in jax.tree.leaves(batch)}
    if len(sizes) != 1 or max(sizes) < 4:
        raise UserError(
            f"batch has arrays of {sorted(sizes)} samples; it needs 4 or more, the same in each"
            " (256 or more are advisable)."
        )
    if held_out is not None:
        return batch, jax.tree.map(_array, held_out)
    number = max(sizes) - max(sizes) // 4
    return jax.tree.map(lambda x: x[:number], batch), jax.tree.map(lambda x: x[number:], batch)


def _array(x):
    return x if isinstance(x, jax.Array) else jnp.asarray(x)


def inputs_of(batch) -> jax.Array:
    """The inputs of a batch with or without labels."""
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def dead_layers(statistics: Mapping[str, Statistics]) -> tuple[str, ...]:
    """Notes that name the layers that are constant, and those with some constant channels."""
    notes = []
    dead = [path for path, layer in statistics.items() if layer.dead]
    if dead:
        notes.append(
            f"{len(dead)} of {len(statistics)} layers are dead (constant, no scale gives them a"
            f" variance) and were skipped: {', '.join(dead)}"
        )
    partly = {
        path: f"{path} ({layer.dead_channels} of {layer.num_channels})"
        for path, layer in statistics.items()
        if layer.dead_channels and not layer.dead
    }
    if partly:
        notes.append(f"dead channels were not rescaled: {', '.join(partly.values())}")
    return tuple(notes)


def without_bias(params, paths) -> tuple[str, ...]:
    """A note that names the layers whose mean cannot be set."""
    found = [path for path in paths if "bias" not in get_layer(params, path)]
    if not found:
        return ()
    shown = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
    return (f"{len(found)} layers have no bias, so that their means cannot be set: {shown}",)


def only_if_finite(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """`optimizer` without its steps along gradients that are not finite."""
    return optax.apply_if_finite(optimizer, max_consecutive_errors=2**31 - 1)


def layer_reports(before, after, parts_before=None, parts_after=None) -> tuple[LayerReport, ...]:
    """One `LayerReport` a layer from its statistics, and its parts of the objective if any."""
    parts = [
        {path: float(x) for path, x in (parts or {}).items()}
        for parts in (parts_before, parts_after)
    ]
    return tuple(
        LayerReport(path, before[path], after[path], *(part.get(path) for part in parts))
        for path in before
    )


def scalar_report(network, method, objective, params, batches, values, notes=()) -> Report:
    """The `Report` of a method whose objective is one number.

    Each pair is (before, after), but `batches` is (calibration, held-out).
    """
    calibration, held_out = map(inputs_of, batches)
    statistics = [network.statistics(p, held_out) for p in params]
    return Report(
        method=method,
        objective=objective,
        before=float(values[0]),
        after=float(values[1]),
        num_calibration=len(calibration),
        num_held_out=len(held_out),
        layers=layer_reports(*statistics),
        notes=tuple(notes),
    )
