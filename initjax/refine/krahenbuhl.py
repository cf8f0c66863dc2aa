"""Data-dependent initialization by channels, with equal rates (Krahenbuhl et al. 2016)."""

from typing import Any

import jax
import jax.numpy as jnp

from initjax.network.paths import get_layer, set_layer
from initjax.refine.calibration import inputs_of, split_batch
from initjax.refine.divergences import Law, solve_moment
from initjax.refine.methods import register
from initjax.refine.network import Network
from initjax.refine.reports import Report, dead_layers, scalar_report, without_bias
from initjax.refine.sweep import sweep
from initjax.support.arguments import count, finite, not_negative


@register
def krahenbuhl(
    model: Any,
    params: Any,
    batch: Any,
    key: jax.Array,
    *,
    bias: float = 0.0,
    iterations: int = 10,
    damping: float = 0.25,
    held_out: Any = None,
) -> tuple[Any, Report]:
    """Data-dependent initialization (Krähenbühl et al. 2016, arXiv:1511.06856).

    First every channel i of every layer is normalized, in one forward pass, each layer given the
    corrected ones before it:

        W_i <- W_i / s_i,    b_i <- (b_i - mu_i) / s_i + beta,

    mu_i and s_i being the mean and standard deviation of its pre-activations. Then all layers are
    made to learn equally fast: with C_l = rms(gradient) / rms(W_l), C the geometric mean of the
    C_l, and r_l = (C_l / C)^(alpha / 2), repeated `iterations` times,

        W_l <- r_l W_l,    b_l <- (r_1 ... r_l) b_l.

    A layer that learns too fast gets larger weights and, since the r_l multiply to 1 and so leave
    the function of a plain network of homogeneous activations as it is, smaller gradients.
    The loss is the source's: a random linear function of the outputs, another one for each input,
    so that no labels are needed.

    Args:
      model: as in `consistency`.
      params: its parameters, from any initializer.
      batch: as in `consistency`.
      key: a PRNG key, for the random loss, and dropout.
      bias: beta.
      iterations: how often the layers' rates are equalized; 0 leaves it out.
      damping: alpha, in (0, 1].
      held_out: as in `consistency`.

    Returns:
      (params, report), the report's objective being the standard deviation over layers of log C_l.

    Raises:
      UserError (a ValueError): an argument out of its range; a model without layers.

    >>> from initjax.models import create_model
    >>> model = create_model("mlp(depth=3, width=32)", kernel_init="normal")
    >>> x = jax.random.normal(jax.random.key(0), (512, 8, 8, 1))
    >>> params = model.init(jax.random.key(1), x)["params"]
    >>> params, report = krahenbuhl(model, params, x, jax.random.key(2))
    >>> report.worse
    False
    """
    bias = finite(bias, "bias")
    iterations = count(iterations, "iterations", 0)
    damping = not_negative(damping, "damping")
    calibration, held_out = map(inputs_of, split_batch(batch, held_out))
    network = Network(model, key)

    def solve(path, z, layer):
        law = Law(jnp.full(z.shape[-1], bias, z.dtype), jnp.ones(z.shape[-1], z.dtype))
        return *solve_moment(z, law, "bias" in layer), None

    statistics = network.statistics(params, calibration)
    paths = [path for path, layer in statistics.items() if not layer.dead]
    refined, _, left = sweep(network, params, calibration, solve)
    rates = _rates(network, paths, jax.random.fold_in(key, 1))
    for _ in range(iterations):
        refined = _equalize(refined, rates(refined, calibration), paths, damping)

    notes = [*dead_layers(statistics), *without_bias(params, statistics), *left]
    logs = [jnp.log(rates(p, held_out)) for p in (params, refined)]
    return refined, scalar_report(
        network,
        "krahenbuhl",
        "spread of the layers' learning rates (sd of log rms(gradient) / rms(weights))",
        (params, refined),
        (calibration, held_out),
        [log.std() if paths else 0.0 for log in logs],
        notes,
    )


def _rates(network, paths, key):
    """A compiled (params, inputs) -> rms(gradient) / rms(W) of every layer."""

    @jax.jit
    def rates(params, inputs):
        def loss(params):
            outputs = network.apply(params, inputs)
            return (outputs * jax.random.normal(key, outputs.shape, outputs.dtype)).mean()

        gradients = jax.grad(loss)(params)
        ratios = [
            jnp.sqrt(jnp.mean(gradient**2) / jnp.mean(kernel**2))
            for path in paths
            for gradient, kernel in [
                [get_layer(tree, path)["kernel"] for tree in (gradients, params)]
            ]
        ]
        return jnp.array(ratios)

    return rates


def _equalize(params, rates, paths, damping):
    """One step towards equal rates; a layer without gradient is left out."""
    logs = jnp.log(rates)
    known = jnp.isfinite(logs)
    mean = jnp.where(known, logs, 0).sum() / jnp.maximum(known.sum(), 1)
    factors = jnp.exp(jnp.where(known, (logs - mean) * damping / 2, 0))
    for path, factor, product in zip(paths, factors, jnp.cumprod(factors), strict=True):
        layer = dict(get_layer(params, path))
        layer["kernel"] = layer["kernel"] * factor.astype(layer["kernel"].dtype)
        if "bias" in layer:
            layer["bias"] = layer["bias"] * product.astype(layer["bias"].dtype)
        params = set_layer(params, path, layer)
    return params
