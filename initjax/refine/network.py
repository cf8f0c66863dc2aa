"""A Flax model, Linen or NNX, as refinements see it: parameters and inputs to pre-activations."""

import contextlib
import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from flax.errors import (
    ScopeCollectionNotFound,
    ScopeParamNotFoundError,
    ScopeVariableNotFoundError,
)

from initjax.initializers.layout import Layout
from initjax.network import taps
from initjax.network.conventions import conventional_layout
from initjax.network.layouts import find_layouts
from initjax.network.paths import get_layer, named_leaves, set_layer
from initjax.refine.statistics import Statistics, as_statistics, moments, rows
from initjax.support.errors import UserError

_STREAMS = ("dropout", "params")


@contextlib.contextmanager
def _legible(model):
    """Says what to give a model that lacks variables."""
    try:
        yield
    except (ScopeCollectionNotFound, ScopeVariableNotFoundError, ScopeParamNotFoundError) as error:
        raise UserError(
            f"{type(model).__name__} reads variables that it was not given: {error}\nGive what"
            " model.init returned, with all its collections, in place of the parameters alone."
        ) from None


@dataclasses.dataclass(frozen=True)
class WithCollections:
    """A Flax Linen module with its variables other than parameters, such as buffers."""

    model: nn.Module
    collections: Mapping[str, Any]


def split_variables(model, params) -> tuple[Any, Any]:
    """(model, parameters) for `Network`, where `params` may be all of the model's variables.

    Those of an NNX model become dictionaries, as Linen has them.
    """
    if isinstance(model, nnx.Module):
        given: dict[str, Any] = dict(named_leaves(params))
        inner: dict[str, Any] = {}
        for path, own in named_leaves(nnx.state(model, nnx.Param)):
            *names, last = path.split("/")
            layer = inner
            for name in names:
                layer = layer.setdefault(name, {})
            layer[last] = given.get(path, own)
        return model, inner
    if not (isinstance(params, Mapping) and isinstance(params.get("params"), Mapping)):
        return model, params
    others = {name: tree for name, tree in params.items() if name != "params"}
    return WithCollections(model, others), params["params"]


def join_variables(params, inner, found) -> Any:
    """What is like `params`, of which `split_variables` made `inner`, with the new parameters."""
    if inner is params:
        return found
    if isinstance(params, nnx.State):
        return _filled(params, found)
    return {**params, "params": found}


def _filled(state, params):
    """A state whose leaves are those of `params`, by path, where these have them."""
    found = dict(named_leaves(params))
    leaves = [found.get(path, leaf) for path, leaf in named_leaves(state)]
    return jax.tree.unflatten(jax.tree.structure(state), leaves)


class Network:
    """`model` in training mode: batch normalization uses the statistics of the batch it is given.

    Running averages are neither read nor written, so that what is refined is the function that the
    first training step sees. A dropout layer draws its mask from `key`, the same at every call.

    Args:
      model: a Flax Linen or NNX module; `train=True` is passed to it where it takes that. A Linen
        one that reads other collections than parameters and batch statistics comes as a
        `WithCollections`; of an NNX one the parameters are dictionaries, see `split_variables`.
      key: a PRNG key.
    """

    def __init__(self, model: Any, key: jax.Array):
        self._collections: Mapping[str, Any] = {}
        if isinstance(model, WithCollections):
            model, self._collections = model.model, model.collections
        if not isinstance(model, nn.Module | nnx.Module):
            raise UserError(f"model={type(model).__name__} is not a Flax Linen or NNX module.")
        self.model: Any = model
        self.key: jax.Array = key
        self._axes: dict[str, tuple[int, ...]] = {}
        self._stacked: set[str] = set()
        self._kwargs: dict[str, Any] = {}
        if isinstance(model, nn.Module):
            self._kwargs = {
                "mutable": ["batch_stats", *self._collections],
                # Streams of other names, as of stochastic depth, draw from "params" in Flax.
                "rngs": {name: jax.random.fold_in(key, i) for i, name in enumerate(_STREAMS)},
            }
        if "train" in inspect.signature(model.__call__).parameters:
            self._kwargs["train"] = True

    def _variables(self, params):
        if isinstance(self.model, nnx.Module):
            return _filled(nnx.state(self.model, nnx.Param), params)
        return {"params": params, **self._collections}

    def apply(self, params: Any, inputs: Any) -> jax.Array:
        """The outputs."""
        if isinstance(self.model, nnx.Module):
            model = nnx.clone(self.model)
            nnx.update(model, self._variables(params))
            return model(inputs, **self._kwargs)
        with _legible(self.model):
            return self.model.apply(self._variables(params), inputs, **self._kwargs)[0]

    def record(
        self, params: Any, inputs: Any, edit: Callable | None = None
    ) -> dict[str, jax.Array]:
        """What every layer put out at its first call, [rows, C], in the order of computing.

        Rows are samples and positions; where a layer has several output axes, as heads and their
        size, all of them are channels. `edit(path, z [rows, C], number)` is as in
        `initjax.network.taps.record`.
        """

        def edit_rows(path, z, number):
            by_row = self._rows(path, z)
            self._check_channels(path, get_layer(params, path), by_row.shape[1])
            return edit(path, by_row, number).reshape(z.shape).astype(z.dtype)

        found = self._record(params, inputs, edit and edit_rows)
        return {path: self._rows(path, z) for path, z in found.items()}

    def calls(self, params: Any, inputs: Any) -> dict[str, taps.Call]:
        """The first use of every layer, in the order of computing."""
        with _legible(self.model):
            found = taps.record_calls(self.model, self._variables(params), inputs, **self._kwargs)[
                1
            ]
        return {call.path: call for call in found if call.number == 0}

    def _record(self, params, inputs, edit=None):
        if not self._axes:  # here: while layers are recorded, the model cannot be traced
            self._axes = self._output_axes(params, inputs)
        variables = self._variables(params)
        with _legible(self.model):
            found = taps.record(self.model, variables, inputs, edit=edit, **self._kwargs)[1]
        return {path: calls[0] for path, calls in found.items()}

    def _rows(self, path, z):
        return rows(z, len(self._axes[path]))

    def _output_axes(self, params, inputs) -> dict[str, tuple[int, ...]]:
        """For every layer the axes of its kernel that its outputs have."""
        kernels = {
            path.removesuffix("kernel").rstrip("/"): (path, jnp.shape(leaf))
            for path, leaf in named_leaves(params)
            if path.rpartition("/")[2] == "kernel" and jnp.ndim(leaf) > 1
        }
        layouts = {name: conventional_layout(*kernel) for name, kernel in kernels.items()}
        if None in layouts.values():
            found = find_layouts(self.apply, *jax.eval_shape(lambda *x: x, params, inputs))
            layouts |= {
                name: found.get(path)
                for name, (path, _) in kernels.items()
                if layouts[name] is None
            }
        roles = {
            name: (layouts[name] or Layout()).roles(shape) for name, (_, shape) in kernels.items()
        }
        self._stacked = {name for name, (stacked, *_) in roles.items() if stacked}
        return {name: outputs for name, (*_, outputs) in roles.items()}

    def _check_channels(self, path, layer, number):
        """That every channel has its own slice of the kernel, and its own bias."""
        if path in self._stacked:
            raise UserError(
                f"{path} holds the layers of an nn.scan or nn.vmap, {jnp.shape(layer['kernel'])},"
                " which cannot be corrected one after the other.\nRefine a model whose layers are"
                " called in a loop, and stack what it gives."
            )
        kernel = jnp.shape(layer["kernel"])
        parts = {"kernel": math.prod(kernel[i] for i in self._axes[path])}
        if "bias" in layer:
            parts["bias"] = jnp.size(layer["bias"])
        for name, size in parts.items():
            if size != number:
                raise UserError(
                    f"{path}/{name}, {jnp.shape(layer[name])}, has no part for each of the {number}"
                    " channels that its layer puts out: it cannot be rescaled by channels."
                )

    def unscalable(self, params: Any, inputs: Any) -> set[str]:
        """The layers whose outputs do not grow with their weights, since these are normalized.

        Told by the derivative of z by the log of the weights' scale, what the layer is given being
        kept: z - b, or 0.
        """
        paths = list(self.shapes(params, inputs))

        def scaled(logs, params):
            params = self.change_layers(params, {p: (jnp.exp(logs[p]), 0.0) for p in paths})
            found = {}

            def keep(path, z, number):
                found.setdefault(path, z - jnp.ravel(get_layer(params, path).get("bias", 0)))
                return jax.lax.stop_gradient(z)

            self.record(params, inputs, keep)
            return found

        @jax.jit
        def respond(params):
            logs = {path: jnp.zeros(()) for path in paths}
            linear, slope = jax.jvp(
                lambda logs: scaled(logs, params), (logs,), (jax.tree.map(jnp.ones_like, logs),)
            )
            return {p: jnp.abs(slope[p]).max() >= 0.01 * jnp.abs(linear[p]).max() for p in paths}

        return {path for path, responds in respond(params).items() if not responds}

    def change_layers(self, params: Any, changes: Mapping[str, tuple[Any, Any]]) -> Any:
        """W <- W s, b <- s b + t for layers that were recorded, each with its (s, t).

        s and t are numbers, or one number a channel. What is inside an `nn.WeightNorm` has the size
        of its weights in that module's parameters, which are changed in their place.
        """
        sizes = _weight_norms(params)
        for path, (scale, shift) in changes.items():
            layer = dict(get_layer(params, path))
            shape = [n if i in self._axes[path] else 1 for i, n in enumerate(layer["kernel"].shape)]
            if path in sizes:
                norm, name = sizes[path]
                size = get_layer(params, norm)
                changed = _affine(size[name], scale, 0.0, jnp.shape(size[name]))
                params = set_layer(params, norm, {**size, name: changed})
            else:
                layer["kernel"] = _affine(layer["kernel"], scale, 0.0, shape)
            if "bias" in layer:
                layer["bias"] = _affine(layer["bias"], scale, shift, jnp.shape(layer["bias"]))
            params = set_layer(params, path, layer)
        return params

    def shapes(self, params: Any, inputs: Any) -> dict[str, jax.ShapeDtypeStruct]:
        """The shape [..., C] of what every layer puts out at its first call, not computing it."""
        paths: dict[str, int] = {}

        def run(params, inputs):
            found = self._record(params, inputs)
            for path in found:  # a dictionary that leaves jax.eval_shape is sorted
                paths[path] = len(self._axes[path])
            return [z.reshape(*z.shape[: z.ndim - paths[path]], -1) for path, z in found.items()]

        return dict(zip(paths, jax.eval_shape(run, params, inputs), strict=True))

    def statistics(self, params: Any, inputs: Any) -> dict[str, Statistics]:
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
            return [function(path, z) for path, z in found.items()]

        def call(params, inputs):
            values = jax.device_get(run(params, inputs))
            return dict(zip(paths, values, strict=True))

        return call


def _affine(old, scale, shift, shape):
    """scale old + shift in float32 at least, these being numbers or having this shape."""
    scale, shift = (jnp.reshape(x, shape) if jnp.ndim(x) else x for x in (scale, shift))
    wide = old.astype(jnp.promote_types(old.dtype, jnp.float32))
    return (wide * scale + shift).astype(old.dtype)


def _weight_norms(params) -> dict[str, tuple[str, str]]:
    """{layer: (an `nn.WeightNorm`, its parameter that holds the size of the layer's weights)}."""
    found = {}
    for path, _ in named_leaves(params):
        block, name, inside = path.rpartition("WeightNorm_")
        number, _, parameter = inside.partition("/")
        if name and parameter.endswith("/kernel/scale"):
            layer = block + parameter.removesuffix("/kernel/scale")
            found[layer] = f"{block}WeightNorm_{number}", parameter
    return found
