"""Laws of a network's signals, propagated through its program without running it.

The program of a model (its jaxpr) is followed operation by operation. A signal is the law of one
value of an array, all values being taken for alike: nodes of a quadrature with their weights.
Elementwise functions act on the nodes, and so are exact, also where several of them make up one
activation; sums of independent signals, and what linear layers put out, are taken for normal.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.extend as jex
import numpy as np

from initjax.support.errors import UserError
from initjax.theory import gaussian
from initjax.theory.gaussian import panels

_ELEMENTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp cos cosh div eq
    erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic
    lt max min mul ne neg not or pow rem round rsqrt select_n sign sin sinh sqrt square sub tan tanh
    xor""".split()
)
# These move values, or repeat them: what they give has the law of their first operand.
_MOVING = frozenset(
    """broadcast_in_dim convert_element_type copy copy_p dynamic_slice expand_dims gather name
    optimization_barrier reduce_precision reshape rev sharding_constraint slice split squeeze
    stop_gradient transpose""".split()
)
_EMPIRICAL_NODES = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Signal:
    """A law: `values` with the probabilities `weights`, both [K].

    Signals with the very same `weights` are functions of one random value.
    """

    values: np.ndarray
    weights: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.weights @ self.values)

    @property
    def variance(self) -> float:
        return float(self.weights @ (self.values - self.mean) ** 2)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """The weights of a linear layer, by the path of the layer."""

    path: str


class Unknown:
    """What is not known of a signal, because an operation before it is not followed."""


UNKNOWN = Unknown()


def normal(mean: float, variance: float) -> Signal | np.ndarray:
    """N(mean, variance); a constant where that is 0."""
    if not (math.isfinite(mean) and math.isfinite(variance)):
        raise UserError(
            f"The signal has mean {mean} and variance {variance}: it cannot be followed."
        )
    std = math.sqrt(max(variance, 0.0))
    if std <= 1e-12 * abs(mean) or std == 0:
        return np.float64(mean)
    z, weights = (part.ravel() for part in gaussian.nodes(panels(mean, std)))
    return Signal(mean + std * z, weights)


def propagate(
    function: Callable, leaves: dict[Any, Any], inputs: Signal, layer: Callable, *arguments
) -> None:
    """Follows the signals through `function(*arguments)`.

    Args:
      function: params, inputs to outputs.
      leaves: what each leaf of params is, in order: a `Kernel`, or a concrete array.
      inputs: the law of the inputs.
      layer: (kernel, fan_in, second moment of what goes in) -> variance of what comes out. The
        moment is None behind an operation through which no law is known, such as the products of
        attention; and then, and where the weights themselves go through such an operation, what
        it returns is not asked for.
      *arguments: params and inputs, or their shapes.

    Raises:
      UserError: a signal that is not finite.
    """
    closed = jax.make_jaxpr(function)(*arguments)
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        _run(closed.jaxpr, closed.consts, [*leaves.values(), inputs], layer)


def _run(jaxpr, consts, arguments, layer) -> list[Any]:
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

    def read(variable):
        return variable.val if isinstance(variable, jex.core.Literal) else env[variable]

    for equation in jaxpr.eqns:
        operands = [read(variable) for variable in equation.invars]
        env.update(zip(equation.outvars, _apply(equation, operands, layer), strict=False))
    return [read(variable) for variable in jaxpr.outvars]


def _apply(equation, operands, layer) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    inner = params.get("jaxpr", params.get("call_jaxpr", params.get("fun_jaxpr")))
    if inner is not None and name not in ("scan", "while", "cond"):
        closed = hasattr(inner, "consts")
        return _run(
            inner.jaxpr if closed else inner, inner.consts if closed else [], operands, layer
        )
    if not any(isinstance(x, (Signal, Kernel, Unknown)) for x in operands):
        # Traced with 32 bits, as in the user's program: constants and random masks.
        with jax.enable_x64(False):
            results = equation.primitive.bind(*operands, **params)
        return list(results) if equation.primitive.multiple_results else [results]
    if name in _MOVING:
        return [operands[0]] * len(equation.outvars)
    shapes = [np.shape(getattr(variable, "aval", variable)) for variable in equation.invars]
    kernels = [x for x in operands if isinstance(x, Kernel)]
    is_linear = name in ("dot_general", "conv_general_dilated") and len(kernels) == 1
    result: Any = UNKNOWN
    if is_linear and any(not isinstance(x, Kernel) and np.ndim(x) > 0 for x in operands):
        pass  # weights times an array that is no signal, as where they are normalized
    elif any(isinstance(x, Unknown) for x in operands) or (kernels and not is_linear):
        for kernel in kernels:
            layer(kernel, 0, None)
    elif is_linear:
        result = _linear(name, params, operands, shapes, layer)
    else:
        result = _of_signals(equation, [_law(x) for x in operands], shapes)
    return [result] * len(equation.outvars)


def _of_signals(equation, signals, shapes) -> Any:
    name, params = equation.primitive.name, equation.params
    if name in _ELEMENTWISE:
        return _elementwise(equation, signals)
    if name == "pad":
        return _mixture(signals, [math.prod(shapes[0]), _grown(equation, shapes[0])])
    if name == "concatenate":
        return _mixture(signals, [math.prod(shape) for shape in shapes])
    if name in ("reduce_sum", "reduce_window_sum", "reduce_max", "reduce_window_max"):
        if "window" in name:
            number = math.prod(params["window_dimensions"])
        else:
            number = math.prod(shapes[0][axis] for axis in params["axes"])
        return (_maximum if "max" in name else _sum)(signals[0], number)
    return UNKNOWN


def _grown(equation, shape) -> int:
    """How many values padding adds."""
    return math.prod(equation.outvars[0].aval.shape) - math.prod(shape)


def _law(x) -> Signal | np.ndarray:
    """A signal as it is; an array as its one value, or as the law of its values."""
    if isinstance(x, Signal):
        return x
    values = np.asarray(x).ravel()
    if values.size and (values == values[0]).all():
        return values[0].astype(np.float64) if values.dtype.kind == "f" else values[0]
    p = (np.arange(_EMPIRICAL_NODES) + 0.5) / _EMPIRICAL_NODES
    values = np.quantile(values.astype(np.float64), p, method="inverted_cdf")
    return Signal(values, np.full(_EMPIRICAL_NODES, 1 / _EMPIRICAL_NODES))


def _linear(name, params, operands, shapes, layer):
    signal, kernel = operands
    position = 1
    if isinstance(signal, Kernel):
        signal, kernel, position = kernel, signal, 0
    if name == "dot_general":
        axes = params["dimension_numbers"][0][position]
        fan_in = math.prod(shapes[position][axis] for axis in axes)
    else:
        out_axis = params["dimension_numbers"].rhs_spec[0]
        fan_in = math.prod(shapes[1]) // shapes[1][out_axis]
    signal = _law(signal)
    mean, variance = _moments(signal)
    return normal(0.0, layer(kernel, fan_in, variance + mean**2))


def _moments(signal) -> tuple[float, float]:
    if isinstance(signal, Signal):
        return signal.mean, signal.variance
    return float(signal), 0.0


def _elementwise(equation, operands):
    name = equation.primitive.name
    bases = {id(x.weights): x.weights for x in operands if isinstance(x, Signal)}
    if not bases:
        return _bind(equation, operands)
    if len(bases) == 1:
        weights = next(iter(bases.values()))
        nodes = [x.values if isinstance(x, Signal) else np.full(len(weights), x) for x in operands]
        return Signal(_bind(equation, nodes), weights)
    if name == "select_n" and isinstance(operands[0], Signal):
        # A choice that does not depend on what is chosen, such as dropout's.
        chosen = operands[0].mean
        return _mixture(operands[1:], [1 - chosen, chosen])
    if len(operands) != 2:
        return UNKNOWN  # of several independent signals
    (mean, variance), (other_mean, other_variance) = map(_moments, operands)
    if name in ("add", "add_any", "sub"):
        sign = -1 if name == "sub" else 1
        return normal(mean + sign * other_mean, variance + other_variance)
    if name == "mul":
        second = (variance + mean**2) * (other_variance + other_mean**2)
        return normal(mean * other_mean, second - (mean * other_mean) ** 2)
    a, b = operands
    grid = [np.repeat(a.values, len(b.values)), np.tile(b.values, len(a.values))]
    return _normal_like(Signal(_bind(equation, grid), np.outer(a.weights, b.weights).ravel()))


def _normal_like(signal: Signal):
    return normal(signal.mean, signal.variance)


def _bind(equation, values):
    arrays = [np.asarray(x) for x in values]
    arrays = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in arrays]
    return np.asarray(equation.primitive.bind(*arrays, **equation.params))


def _mixture(signals, sizes) -> Signal:
    """One of `signals`, with probabilities in the ratio of `sizes`."""
    parts = [
        x if isinstance(x, Signal) else Signal(np.array([float(x)]), np.ones(1)) for x in signals
    ]
    values = np.concatenate([x.values for x in parts])
    weights = np.concatenate(
        [x.weights * (size / sum(sizes)) for x, size in zip(parts, sizes, strict=True)]
    )
    return Signal(values, weights)


def _sum(signal, number):
    """The sum of independent values."""
    mean, variance = _moments(signal)
    return normal(number * mean, number * variance)


def _maximum(signal, number):
    """The largest of independent values: F^number."""
    if not isinstance(signal, Signal):
        return signal
    order = np.argsort(signal.values, kind="stable")
    below = np.clip(np.cumsum(signal.weights[order]), 0, 1) ** number
    weights = np.empty_like(below)
    weights[order] = np.diff(below, prepend=0.0)
    return Signal(signal.values, weights)
