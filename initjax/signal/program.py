"""Runs a network once, forward and backward, and measures what every layer does to the signal."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from initjax.network import taps
from initjax.network.taps import Call
from initjax.signal import links, operations
from initjax.signal.links import Link, Sample
from initjax.signal.operations import Operation
from initjax.signal.prediction import LayerFacts
from initjax.support.errors import UserError
from initjax.theory.activations import get_activation
from initjax.theory.gaussian import evaluator

# An activation is flat where its slope is below this share of its steepest.
FLAT = 0.05
# Histograms have this many bins, which reach this many root mean squares to both sides.
BINS = 80
REACH = 4.0

_SAMPLED = 2  # examples by which the links between layers are found


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of one use of a layer; see `initjax.signal.Layer` for the numbers."""

    path: str
    number: int
    units: int
    numbers: dict[str, float]
    histogram: np.ndarray


@dataclasses.dataclass(frozen=True)
class Observation:
    """One run of a network, and what theory needs to know of it."""

    layers: list[Measured]
    facts: list[LayerFacts]
    links: list[Link | None]
    operations: list[Operation | None]
    output: int | None
    activation: str | Callable | None
    x: np.ndarray


def observe(
    model: nn.Module | nnx.Module,
    variables: Any,
    x: Any,
    *,
    activation: str | Callable | None,
    loss: Callable | None,
    key: jax.Array | None,
    apply_kwargs: dict[str, Any],
) -> Observation:
    """One run, forward and backward, of a compiled program that later parameters use again."""
    if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating) or np.ndim(x) < 2:
        raise UserError("x must be an array of floating-point numbers, [B, ...].")
    if len(x) < 2:
        raise UserError(f"x has {len(x)} example(s); 2 or more are needed.")
    if isinstance(model, nnx.Module):
        variables = nnx.state(model) if variables is None else variables
    elif isinstance(model, nn.Module):
        variables = taps.linen_variables(variables)
    if activation is None:
        activation = getattr(model, "activation", None)
    if activation is not None:
        get_activation(activation)
    else:
        activation = _infer(model, variables, x[:_SAMPLED], apply_kwargs)
    program = _compiled(_Program, model, apply_kwargs, activation, loss)
    # Threefry takes longer to compile than the rest of a small network.
    key = jax.random.key(0, impl="rbg") if key is None else key
    calls, results = program(variables, x, key)
    results = _per_call(jax.device_get(results), calls)
    sample = _sample(x, results, _tolerance([call.output for call in calls]))
    phi = None if activation is None else _on_host(activation)
    found = links.find_links(sample, phi)
    activated = links.find_activated(sample, phi, found)
    return Observation(
        layers=[_measured(call, results, i, activated[i]) for i, call in enumerate(calls)],
        facts=[_facts(call, results, i) for i, call in enumerate(calls)],
        links=found,
        operations=operations.find_operations(sample, phi, found, _channels(results)),
        output=links.find_output(sample),
        activation=activation,
        x=np.asarray(x, np.float64),
    )


def _per_call(results, calls):
    """The program's results, with a list over calls in place of groups."""
    outputs = [call.output for call in calls]
    arrays = {
        "forward": outputs,
        "kernel": [call.kernel for call in calls],
        "bias": [call.bias for call in calls],
        "gradient": outputs if results["gradient"] else [None] * len(calls),
        "inputs": [call.inputs for call in calls],
        "outputs": outputs,
    }
    return results | {name: _ungrouped(results[name], of) for name, of in arrays.items()}


@functools.cache
def _on_host(activation):
    function = jax.jit(get_activation(activation))
    return lambda z: np.asarray(function(z), np.float32)


def _channels(results) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean and variance of every layer's channels, over the batch and positions."""
    found = []
    for layer in results["forward"]:
        scale = np.float64(layer["scale"])  # in float32 its square may overflow
        with np.errstate(invalid="ignore"):  # what is infinite is asked for nowhere
            found.append((scale * layer["channel_mean"], scale**2 * layer["channel_variance"]))
    return found


def _tolerance(outputs) -> float:
    """How well inputs must agree to be taken for the same, in units of the largest.

    But for rounding; and GELU's usual approximation is off by 5e-4.
    """
    return max(1e-3, *(4 * float(jnp.finfo(z.dtype).eps) for z in outputs))


def _sample(x, results, tolerance) -> Sample:
    def float32(array):
        return None if array is None else np.asarray(array, np.float32)

    return Sample(
        x=float32(x[:_SAMPLED]),
        inputs=[float32(array) for array in results["inputs"]],
        outputs=[float32(array) for array in results["outputs"]],
        output=float32(results["output"]),
        tolerance=tolerance,
    )


def _infer(model, variables, x, kwargs) -> str | None:
    """The activation of a model that does not say it."""
    results = _compiled(_sampler, model, kwargs)(variables, x)
    return links.infer_activation(_sample(x, results, _tolerance(results["outputs"])))


def _sampler(model, kwargs):
    def run(variables, x):
        _, calls = taps.record_calls(model, variables, x, **dict(kwargs))
        inputs, outputs = [call.inputs for call in calls], [call.output for call in calls]
        return {"inputs": inputs, "outputs": outputs, "output": None}

    return jax.jit(run)


def _compiled(make, model, kwargs, *args):
    """`make(model, kwargs, *args)`, remembered where all of it can be hashed.

    Not for NNX, whose models are their arrays.
    """
    frozen = tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in sorted(kwargs.items())
    )
    try:
        hash((model, frozen, args))
    except TypeError:
        return make(model, frozen, *args)
    if isinstance(model, nnx.Module):
        return make(model, frozen, *args)
    return _remembered(make, model, frozen, *args)


@functools.lru_cache(maxsize=8)
def _remembered(make, *args):
    return make(*args)


class _Program:
    """The compiled program (variables, x, key) -> measurements, and the calls it makes."""

    def __init__(self, model, kwargs, activation, loss):
        self._model, self._loss, self._kwargs = model, loss, dict(kwargs)
        self._activation = None if activation is None else get_activation(activation)
        self._steepest = None if activation is None else _steepest(self._activation)
        self._calls: dict[Any, list[Call]] = {}
        self._run = jax.jit(self._trace)

    def __call__(self, variables, x, key):
        shapes = jax.tree.map(jnp.shape, (variables, x))
        signature = jax.tree.structure(shapes), tuple(jax.tree.leaves(shapes))
        if signature not in self._calls:
            calls = self._shapes(variables, x)
            for call in calls:
                if 0 in call.output.shape or 0 in call.kernel.shape:
                    raise UserError(
                        f"Of inputs {x.shape[1:]} nothing is left for the layer {call.path}, with"
                        f" a kernel {call.kernel.shape}: larger ones are needed."
                    )
            self._calls[signature] = calls
        return self._calls[signature], self._run(variables, x, key)

    def _shapes(self, variables, x) -> list[Call]:
        """The calls, with shapes in place of arrays."""
        found = []

        def record(variables, x):
            _, calls = taps.record_calls(self._model, variables, x, **self._kwargs)
            found.extend(calls)

        jax.eval_shape(record, variables, x)
        fields = ("inputs", "output", "kernel", "bias")
        return [
            dataclasses.replace(call, **{name: _shape(getattr(call, name)) for name in fields})
            for call in found
        ]

    def _trace(self, variables, x, key):
        expected = self._shapes(variables, x)
        shifts = {
            (call.path, call.number): jnp.zeros(call.output.shape, call.output.dtype)
            for call in expected
        }
        kept = []

        def run(shifts):
            def edit(path, z, number):
                return z + shifts[path, number]

            result, calls = taps.record_calls(
                self._model, variables, x, edit=edit if shifts else None, **self._kwargs
            )
            output = result if not self._kwargs.get("mutable") else result[0]
            kept[:] = calls
            return output, [(c.inputs, c.output, c.kernel, c.bias) for c in calls]

        if all(call.editable for call in expected):
            output, pull_back, arrays = jax.vjp(run, shifts, has_aux=True)
            cotangent = self._cotangent(output, key)
            (gradients,) = pull_back(cotangent)
            gradients = [gradients[call.path, call.number] for call in kept]
            leaves = [leaf.astype(jnp.float32).ravel() for leaf in jax.tree.leaves(cotangent)]
            size = _mean_square(jnp.concatenate(leaves)), sum(leaf.size for leaf in leaves)
        else:
            output, arrays = run({})
            gradients, size = [None] * len(kept), None
        inputs, outputs, kernels, biases = zip(*arrays, strict=True)
        leaves = jax.tree.leaves(output)
        return {
            "forward": _grouped(self._forward, outputs),
            "kernel": _grouped(_weight_statistics, kernels),
            "bias": _grouped(_weight_statistics, biases),
            "gradient": _grouped(_mean_square, gradients),
            "inputs": _grouped(_first, inputs),
            "outputs": _grouped(_first, outputs),
            "output": _first(leaves[0]) if len(leaves) == 1 and leaves[0].ndim else None,
            "cotangent": size,
        }

    def _cotangent(self, output, key):
        if self._loss is not None:
            gradient = jax.grad(self._loss)(output)
            return jax.tree.map(lambda g, o: g.astype(o.dtype), gradient, output)
        leaves, structure = jax.tree.flatten(output)
        keys = jax.random.split(key, len(leaves))
        drawn = [
            jax.random.normal(k, leaf.shape, leaf.dtype)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, drawn)

    def _forward(self, z):
        z = z.astype(jnp.float32)
        scale = jnp.max(jnp.abs(z))  # so that squares neither overflow nor underflow
        z_scaled = z / jnp.where(scale > 0, scale, 1)
        mean = z_scaled.mean()
        centred = z_scaled - mean
        variance = (centred**2).mean()
        rms = jnp.sqrt((z_scaled**2).mean())
        flat = z_scaled.reshape(len(z), -1)
        flat = flat / jnp.maximum(jnp.linalg.norm(flat, axis=1, keepdims=True), 1e-30)
        pairs = ((flat.sum(0) ** 2).sum() - (flat**2).sum()) / (len(z) * (len(z) - 1))
        bins = jnp.clip((z_scaled / jnp.maximum(rms, 1e-30) / REACH + 1) * (BINS / 2), 0, BINS - 1)
        by_channel = z_scaled.reshape(-1, z.shape[-1])
        found = {
            "scale": scale,
            "channel_mean": by_channel.mean(0),
            "channel_variance": by_channel.var(0),
            "mean": mean,
            "variance": variance,
            "kurtosis": (centred**4).mean() / jnp.maximum(variance**2, 1e-30),
            "correlation": pairs,
            "histogram": jnp.zeros(BINS).at[bins.astype(jnp.int32).ravel()].add(1.0),
        }
        if self._activation is not None:
            _, slope = jax.jvp(self._activation, (z,), (jnp.ones_like(z),))
            is_flat = jnp.abs(slope) < FLAT * self._steepest
            found |= {
                "saturated": is_flat.mean(),
                "dead": is_flat.all(axis=tuple(range(z.ndim - 1))).mean(),
            }
        return found


def _shape(array):
    return None if array is None else jax.ShapeDtypeStruct(array.shape, array.dtype)


def _first(array):
    return array[:_SAMPLED]


def _mean_square(array):
    """(scale, mean square of array / scale), which neither overflows nor underflows."""
    array = array.astype(jnp.float32)
    scale = jnp.max(jnp.abs(array))
    return jnp.stack([scale, ((array / jnp.where(scale > 0, scale, 1)) ** 2).mean()])


def _weight_statistics(weights):
    return {"mean": weights.astype(jnp.float32).mean(), "square": _mean_square(weights)}


def _groups(arrays) -> list[list[int]]:
    """Numbers of the arrays that have the same shape and dtype; None is in no group."""
    groups: dict[Any, list[int]] = {}
    for i, array in enumerate(arrays):
        if array is not None:
            groups.setdefault((array.shape, array.dtype), []).append(i)
    return list(groups.values())


def _grouped(function, arrays):
    """`function` of every array, stacked by groups: a fraction of the code for XLA to compile."""
    return [
        jax.lax.map(function, jnp.stack([arrays[i] for i in group])) for group in _groups(arrays)
    ]


def _ungrouped(results, arrays) -> list:
    """The result of every array, on the host."""
    found: list[Any] = [None] * len(arrays)
    for group, stack in zip(_groups(arrays), results, strict=True):
        for position, i in enumerate(group):
            found[i] = jax.tree.map(lambda leaf, position=position: leaf[position], stack)
    return found


def _square(pair) -> float:
    scale, square = (float(number) for number in pair)
    return scale * scale * square


def _steepest(activation) -> float:
    slopes = evaluator(activation, derivative=True)(np.linspace(-10, 10, 4001))[1]
    return float(np.abs(slopes).max())


def _measured(call, results, i, follows) -> Measured:
    s = {name: np.asarray(value, np.float64) for name, value in results["forward"][i].items()}
    scale = float(s["scale"])
    numbers = {
        "mean": scale * float(s["mean"]),
        "variance": scale**2 * float(s["variance"]),
        "kurtosis": float(s["kurtosis"]),
        "correlation": float(s["correlation"]),
        "dead": float(s["dead"]) if follows and "dead" in s else None,
        "saturated": float(s["saturated"]) if follows and "saturated" in s else None,
        "gradient_variance": None,
        "gradient_norm": None,
    }
    if results["gradient"][i] is not None:
        cotangent, num_outputs = results["cotangent"]
        size = _square(cotangent)
        variance = _square(results["gradient"][i]) / size if size > 0 else math.nan
        ratio = math.prod(call.output.shape) / float(num_outputs)
        numbers |= {"gradient_variance": variance, "gradient_norm": math.sqrt(variance * ratio)}
    return Measured(
        call.path, call.number, call.output.shape[-1], numbers, s["histogram"].astype(np.int64)
    )


def _facts(call, results, i) -> LayerFacts:
    replay = call.replay
    bias = None if call.bias is None else np.zeros(call.bias.shape, np.float32)

    def spread(s):
        return replay(np.ones(call.kernel.shape, np.float32), bias, s)

    return LayerFacts(
        input_shape=() if call.inputs is None else call.inputs.shape,
        output_shape=call.output.shape,
        kernel_shape=call.kernel.shape,
        kernel_mean=float(results["kernel"][i]["mean"]),
        kernel_square=_square(results["kernel"][i]["square"]),
        bias_square=0.0 if bias is None else _square(results["bias"][i]["square"]),
        is_first_use=call.number == 0,
        spread=spread,
    )
