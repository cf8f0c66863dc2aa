"""Random networks of matrix products, and the statistics of their layers, over many seeds."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from initjax import initializers
from initjax.theory.activations import get_activation
from initjax.theory.fixed_points import predict_residual_variance
from initjax.theory.gaussian import expectation, second_moment

STATISTICS = ("variance", "output_mean", "output_variance")

# Variance of the weights by fans, beside the name from which they are drawn.
WEIGHTS: dict[str, tuple[str, Callable[[int, int], float]]] = {
    "N(0, 1)": ("normal(stddev=1.0)", lambda fan_in, fan_out: 1.0),
    "N(0, 0.01^2)": ("normal(stddev=0.01)", lambda fan_in, fan_out: 1e-4),
    "LeCun": ("lecun_normal", lambda fan_in, fan_out: 1 / fan_in),
    "Xavier": ("xavier_normal", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
    "He": ("he_normal", lambda fan_in, fan_out: 2 / fan_in),
}


@dataclasses.dataclass(frozen=True)
class Plain:
    """Layers z = x W, x' = phi(z), on inputs N(0, 1), without biases.

    Attributes:
      weights: a key of `WEIGHTS`.
      activation: phi, by name.
      widths: units of the input and of every layer.
    """

    weights: str
    activation: str
    widths: tuple[int, ...]


def measure_plain(network: Plain, num_seeds: int, num_inputs: int, seed: int = 0) -> np.ndarray:
    """Statistics of every layer and seed, float64 [num_seeds, layers, STATISTICS].

    variance is the mean square of z over units and inputs; output_mean and output_variance are of
    phi(z). All seeds run in one compiled program.
    """
    program = _plain_program(network, num_inputs)
    keys = jax.random.split(jax.random.key(seed), num_seeds)
    return np.asarray(program(keys), np.float64)


@functools.cache
def _plain_program(network, num_inputs):
    init = initializers.get(WEIGHTS[network.weights][0])
    activation = get_activation(network.activation)

    def layer(x_and_log, key, width):
        # What explodes is kept in range: x times exp(log), exact for homogeneous activations.
        x, log = x_and_log
        z = x @ init(key, (x.shape[-1], width), jnp.float32)
        out = activation(z)
        moments = jnp.stack([(z**2).mean(), out.mean(), out.var()])
        if network.activation in ("linear", "relu"):
            size = jnp.sqrt((out**2).mean())
            size = jnp.where(size > 0, size, 1)
            return (out / size, log + jnp.log(size)), (moments, log)
        return (out, log), (moments, log)

    def one(key):
        input_key, *layer_keys = jax.random.split(key, len(network.widths))
        state = jax.random.normal(input_key, (num_inputs, network.widths[0])), jnp.zeros(())
        if len(set(network.widths)) == 1:
            width = network.widths[0]
            _, found = jax.lax.scan(lambda s, k: layer(s, k, width), state, jnp.stack(layer_keys))
            return found
        rows = []
        for layer_key, width in zip(layer_keys, network.widths[1:], strict=True):
            state, row = layer(state, layer_key, width)
            rows.append(row)
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)

    compiled = jax.jit(lambda keys: jax.lax.map(one, keys))

    def run(keys):
        moments, log = jax.device_get(compiled(keys))
        scale = np.exp(log.astype(np.float64))[..., None] ** np.array([2, 1, 2])
        return moments.astype(np.float64) * scale

    return run


def predict_plain(network: Plain) -> np.ndarray:
    """The same statistics of infinitely wide layers, [layers, STATISTICS].

    q_1 = n_0 Var(w), q_(l+1) = n_l Var(w) E[phi(sqrt(q_l) z)^2]. The mean of ReLU is that of layers
    of these widths: it is E[sqrt(q)] / sqrt(2 pi), and q is a product of as many random factors as
    there are layers before, the mean squares of their n units, so that E[sqrt(q)] falls with depth,
    by 1 - 5 / (8 n) a layer: from .5642 to .5314 in 50 layers of 512.
    """
    variance_of = WEIGHTS[network.weights][1]
    rows, second, root = [], 1.0, 1.0
    for fan_in, fan_out in zip(network.widths[:-1], network.widths[1:], strict=True):
        q = fan_in * variance_of(fan_in, fan_out) * second
        mean, second = _moments(network.activation, q)
        if network.activation == "relu":
            root *= _mean_root(fan_in, rectified=bool(rows))
            rows.append((q, root * mean, second - mean**2))
        else:
            rows.append((q, mean, second - mean**2))
    return np.array(rows)


def _mean_root(width, rectified):
    """E[sqrt(mean square of `width` values / its mean)], of z ~ N(0, 1) or of their ReLU.

    A sum of k squares is chi^2_k, of mean root sqrt(2) Gamma((k + 1) / 2) / Gamma(k / 2); of ReLU's
    values k ~ Bin(width, 1/2) are not 0.
    """
    k = np.arange(1, width + 1)
    roots = math.sqrt(2) * np.exp(special.gammaln((k + 1) / 2) - special.gammaln(k / 2))
    if not rectified:
        return float(roots[-1] / math.sqrt(width))
    return float(stats.binom.pmf(k, width, 0.5) @ roots / math.sqrt(width / 2))


def _moments(activation, q):
    """(E[phi], E[phi^2]); the homogeneous ones by their closed forms, for any q."""
    if activation == "linear":
        return 0.0, q
    if activation == "relu":
        return math.sqrt(q / (2 * math.pi)), q / 2
    return expectation(activation, q), second_moment(activation, q)


@dataclasses.dataclass(frozen=True)
class Residual:
    """x_l = x_(l-1) + V phi(W x_(l-1)), or without V ("reduced"); W, V ~ N(0, s^2 / width).

    Attributes:
      name: what it stands for.
      activation: phi, by name.
      weight_variance: sw^2.
      output_variance: sv^2; None for the reduced network.
    """

    name: str
    activation: str
    weight_variance: float
    output_variance: float | None


def measure_residual(
    networks: Sequence[Residual],
    num_layers: int,
    width: int,
    num_seeds: int,
    num_inputs: int,
    seed: int = 0,
) -> np.ndarray:
    """Mean square of the stream after each branch, float64 [networks, num_seeds, num_layers].

    Inputs are N(0, 1). The networks of one seed share their inputs and, scaled, their weights.
    """
    program = _residual_program(tuple(networks), num_layers, width, num_inputs)
    keys = jax.random.split(jax.random.key(seed), num_seeds)
    return np.moveaxis(np.asarray(program(keys), np.float64), -1, 0)


@functools.cache
def _residual_program(networks, num_layers, width, num_inputs):
    def branch(network, x, w, v):
        z = get_activation(network.activation)(math.sqrt(network.weight_variance) * (x @ w))
        if network.output_variance is None:
            return z
        return math.sqrt(network.output_variance) * (z @ v)

    def one(key):
        input_key, key = jax.random.split(key)
        x = jax.random.normal(input_key, (num_inputs, width))

        def layer(streams, key):
            w, v = jax.random.normal(key, (2, width, width)) / math.sqrt(width)
            streams = [x + branch(n, x, w, v) for n, x in zip(networks, streams, strict=True)]
            return streams, jnp.stack([(x**2).mean() for x in streams])

        _, found = jax.lax.scan(layer, [x] * len(networks), jax.random.split(key, num_layers))
        return found

    return jax.jit(lambda keys: jax.lax.map(one, keys))


def predict_residual(network: Residual, num_layers: int) -> np.ndarray:
    """The same of infinitely wide layers (Yang & Schoenholz 2017), [num_layers]."""
    output = 1.0 if network.output_variance is None else network.output_variance
    return predict_residual_variance(
        num_layers,
        network.activation,
        weight_variance=network.weight_variance,
        output_variance=output,
    )[1:]


def summarize(values: np.ndarray, theory: np.ndarray) -> list[dict]:
    """Mean, standard error, 95 % interval (Student's t) over seeds, and z against theory.

    Args:
      values: [seeds, layers].
      theory: [layers].
    """
    n = len(values)
    mean = values.mean(0)
    error = values.std(0, ddof=1) / math.sqrt(n)
    reach = stats.t.ppf(0.975, n - 1) * error
    return [
        {
            "layer": i + 1,
            "n": n,
            "mean": float(mean[i]),
            "standard_error": float(error[i]),
            "low": float(mean[i] - reach[i]),
            "high": float(mean[i] + reach[i]),
            "theory": float(theory[i]),
            "z": float((mean[i] - theory[i]) / error[i]) if error[i] > 0 else 0.0,
        }
        for i in range(len(mean))
    ]
