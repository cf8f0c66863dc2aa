"""How an activation changes the size of a signal: Gaussian expectations, and gains.

Everything here is computed on the host in float64, also inside a user's `jit` and whatever JAX's
default precision, so that a gain is an exact Python number.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from initjax.support.arguments import finite
from initjax.support.caching import cached
from initjax.support.errors import UserError
from initjax.theory.activations import get_activation

# Gauss-Legendre nodes a panel. Panels end at every small integer, where the kinks of activations
# are, and are halved where a panel and its two halves disagree.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_KINKS = np.array([sign * 2.0**k for k in range(-6, 4) for sign in (-1, 1)] + [0, 3, -3, 6, -6])
_RANGE = 16.0  # standard deviations: beyond, a normal law holds 1e-57
_TOLERANCE = 1e-13
_MAX_HALVINGS = 60
# Functions are evaluated at this many points at a time, so that each is compiled once.
_CHUNK = 6144

_LOG_NORMALIZER = 0.5 * math.log(2 * math.pi)


@cached
def evaluator(
    function: Callable[..., Any], derivative: bool = False
) -> Callable[[np.ndarray], np.ndarray]:
    """`function` as a float64 function on the host: x[...] to [1 or 2, ...] with its derivative.

    Raises, when it is called, UserError where `function` is not elementwise and real.
    """

    @jax.jit
    def evaluate(x):
        whole = jnp.asarray(function(x))
        one = jax.vmap(lambda scalar: jnp.asarray(function(scalar)))(x)
        if whole.shape != x.shape or one.shape != x.shape:
            raise _not_elementwise(function)
        values = [one]
        if derivative:
            values.append(jax.vmap(jax.grad(lambda scalar: jnp.asarray(function(scalar))))(x))
        return whole, jnp.stack(values)

    def evaluate_all(x):
        flat = np.ravel(np.asarray(x, np.float64))
        padding = -flat.size % _CHUNK
        chunks = np.concatenate([flat, np.ones(padding)]).reshape(-1, _CHUNK)
        results = []
        # An activation is a constant of the program: under a user's jit it is evaluated while that
        # is traced.
        with jax.ensure_compile_time_eval(), jax.enable_x64(True):
            for chunk in chunks:
                try:
                    whole, values = jax.device_get(evaluate(chunk))
                except UserError:
                    raise
                except Exception as error:
                    raise UserError(
                        f"{name(function)} is not an elementwise function of a real JAX array:"
                        f" {str(error).splitlines()[0] if str(error) else type(error).__name__}"
                    ) from error
                if not np.allclose(whole, values[0], rtol=1e-6, atol=1e-9, equal_nan=True):
                    raise _not_elementwise(function)
                results.append(values)
        values = np.concatenate(results, axis=1)[:, : flat.size]
        return values.reshape(len(values), *np.shape(x))

    return evaluate_all


def name(function: Any) -> str:
    """The name of a function, for messages."""
    return getattr(function, "__name__", None) or repr(function)


def _not_elementwise(function):
    return UserError(f"{name(function)} is not elementwise: one value depends on the others.")


def panels(mean: float, std: float) -> np.ndarray:
    """Ends of the panels in units of z, x = mean + std z."""
    kinks = (_KINKS - mean) / std
    grid = np.linspace(-_RANGE, _RANGE, int(4 * _RANGE) + 1)
    ends = np.concatenate([grid, kinks[np.abs(kinks) < _RANGE]])
    return np.unique(ends)


def nodes(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes z and weights of the law N(0, 1) on the panels between `ends`, each [panels, nodes]."""
    return _rule(ends[:-1], ends[1:])


def _rule(start, end):
    half = 0.5 * (end - start)[:, None]
    z = 0.5 * (start + end)[:, None] + half * _NODES
    return z, half * _WEIGHTS * np.exp(-0.5 * z * z - _LOG_NORMALIZER)


def integrate(integrand: Callable[..., Any], mean: float, std: float, what: str) -> np.ndarray:
    """E[integrand(mean + std z)], z ~ N(0, 1), for an integrand x[...] to [outputs, ...].

    Panels are halved until a panel and its halves agree to 1e-13 of the whole, which finds kinks
    and jumps wherever they are.
    """
    ends = panels(mean, std)
    start, end = ends[:-1], ends[1:]
    done: Any = 0.0
    is_first = True
    for _ in range(_MAX_HALVINGS):
        middle = 0.5 * (start + end)
        rules = [_rule(start, end), _rule(start, middle), _rule(middle, end)]
        z = np.stack([rule[0] for rule in rules])
        weights = np.stack([rule[1] for rule in rules])
        with np.errstate(over="ignore", invalid="ignore"):
            values = integrand(mean + std * z) * weights  # [outputs, 3, panels, nodes]
        if not np.isfinite(values).all():
            raise UserError(f"{what} is NaN or infinite at some of mean={mean} +- 16 sd of {std}.")
        coarse = values[:, 0].sum(-1)
        fine = values[:, 1:].sum((1, 3))
        size = np.abs(done) + np.abs(values[:, 1:]).sum((1, 2, 3))
        if is_first:  # what the outermost panels hold must be next to nothing
            is_first = False
            beyond = np.abs(values[:, 1:, [0, -1]]).sum((1, 2, 3))
            if (beyond > _TOLERANCE * size).any():
                raise UserError(
                    f"The Gaussian expectation of {what} is infinite, or lies beyond"
                    f" {_RANGE:g} standard deviations."
                )
        rough = (np.abs(coarse - fine) > _TOLERANCE * size[:, None]).any(0)
        done = done + fine[:, ~rough].sum(1)
        if not rough.any():
            return done
        start, end = (
            np.concatenate([start[rough], middle[rough]]),
            np.concatenate([middle[rough], end[rough]]),
        )
    raise UserError(f"The Gaussian expectation of {what} does not converge; is it finite?")


def _mean_and_std(mean, variance) -> tuple[float, float]:
    mean, variance = finite(mean, "mean"), finite(variance, "variance")
    if variance < 0:
        raise UserError(f"variance={variance} must not be negative.")
    return mean, math.sqrt(variance)


@cached
def expectation(
    function: str | Callable[..., Any], variance: float = 1.0, mean: float = 0.0
) -> float:
    """E[function(x)] for x ~ N(mean, variance).

    By composite Gauss-Legendre quadrature in float64. Panels end at the integers and powers of two
    where activations have their kinks, and are halved where they do not suffice, so that the result
    is exact to some 1e-13 for kinks and jumps anywhere.

    Args:
      function: an elementwise function of JAX arrays, or the name of an activation.
      variance: variance of x, 0 or more.
      mean: mean of x.

    Returns:
      A float. It is remembered for every hashable `function`.

    Raises:
      UserError (a ValueError): a function that is not elementwise, is NaN or infinite, or has no
        finite expectation; a negative variance.

    >>> round(expectation("relu"), 8)  # 1 / sqrt(2 pi)
    0.39894228
    """
    evaluate = evaluator(get_activation(function))
    mean, std = _mean_and_std(mean, variance)
    if std == 0:
        return float(evaluate(np.array([mean]))[0, 0])
    return float(integrate(evaluate, mean, std, name(function))[0])


@cached
def second_moment(activation: str | Callable[..., Any], variance: float = 1.0) -> float:
    """E[phi(x)^2] for x ~ N(0, variance)."""
    evaluate = evaluator(get_activation(activation))
    _, std = _mean_and_std(0.0, variance)
    return float(integrate(lambda x: evaluate(x)[:1] ** 2, 0.0, std, name(activation))[0])


@cached
def derivative_moments(
    activation: str | Callable[..., Any], variance: float = 1.0
) -> tuple[float, float]:
    """E[phi'(x)^2] and d E[phi(x)^2] / d variance, for x ~ N(0, variance), variance > 0.

    The second is E[phi'^2 + phi phi''] where phi'' exists, but is computed as E[x phi phi'] /
    variance (Stein's lemma), which also counts the phi'' that hides in a kink.
    """
    evaluate = evaluator(get_activation(activation), derivative=True)
    _, std = _mean_and_std(0.0, variance)

    def integrand(x):
        value, slope = evaluate(x)
        return np.stack([slope**2, x * value * slope])

    slope, growth = integrate(integrand, 0.0, std, name(activation))
    return float(slope), float(growth / variance)


@cached
def product_moment(
    activation: str | Callable[..., Any], variance: float, correlation: float
) -> float:
    """E[phi(u) phi(v)], u and v normal with this variance and correlation.

    E[phi(v) | u] is a Gaussian expectation of its own, on panels that end at the kinks.
    """
    evaluate = evaluator(get_activation(activation))
    _, std = _mean_and_std(0.0, variance)
    z, weights = (part.ravel() for part in nodes(panels(0.0, std)))
    u = std * z
    rest = std * math.sqrt(max(0.0, (1 - correlation) * (1 + correlation)))
    conditional = np.empty_like(u)
    for i, mean in enumerate(correlation * u):
        if rest == 0:
            conditional[i] = evaluate(np.array([mean]))[0, 0]
            continue
        inner_z, inner_weights = nodes(panels(mean, rest))
        conditional[i] = np.sum(inner_weights * evaluate(mean + rest * inner_z)[0])
    return float(np.sum(weights * evaluate(u)[0] * conditional))
