"""Layer-sequential unit-variance and data-dependent initialization."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from initjax.arguments import count, finite, not_negative
from initjax.refine import network as networks
from initjax.refine.divergences import Law, solve_moment
from initjax.refine.network import Network
from initjax.refine.reports import Report


def unit_variance_gap(statistics) -> float:
    """mean_l |Var(z_l) - 1|, the variance being that of all of a layer's values."""
    return float(np.mean([abs(layer.variance - 1) for layer in statistics.values()]))


def variance_report(method, network, params, refined, calibration, held_out, notes) -> Report:
    """The report of a method that wants pre-activations of unit variance."""
    before, after = (network.statistics(p, held_out) for p in (params, refined))
    return Report(
        method=method,
        objective="mean |variance - 1| of the layers",
        before=unit_variance_gap(before),
        after=unit_variance_gap(after),
        num_calibration=len(calibration),
        num_held_out=len(held_out),
        layers=networks.layer_reports(
            before,
            after,
            {path: abs(layer.variance - 1) for path, layer in before.items()},
            {path: abs(layer.variance - 1) for path, layer in after.items()},
        ),
        notes=tuple(notes),
    )


def lsuv(
    model,
    params,
    batch,
    key: jax.Array,
    *,
    tolerance: float = 0.1,
    max_iterations: int = 10,
    held_out=None,
) -> tuple[Any, Report]:
    """Layer-sequential unit-variance initialization (Mishkin & Matas 2016, arXiv:1511.06422).

    In the order in which layers compute, and until |Var(z) - 1| < tolerance or for
    `max_iterations`,

        W <- W / sqrt(Var(z)),

    Var(z) being the variance of all values that the layer puts out. One number a layer: directions
    of weights are kept, and so are biases, without which one iteration is enough. The source starts
    from orthonormal weights: `--init=orthogonal`. All layers are corrected in one forward pass.

    Args:
      model: as in `consistency`.
      params: its parameters, from any initializer.
      batch: as in `consistency`.
      key: a PRNG key, for dropout.
      tolerance: the source's, 0.1; 0 always does `max_iterations`.
      max_iterations: the most iterations a layer.
      held_out: as in `consistency`.

    Returns:
      (params, report), the report's objective being mean_l |Var(z_l) - 1|.

    Raises:
      UserError (a ValueError): an argument out of its range; a model without layers.

    >>> from initjax.models import create_model
    >>> model = create_model("mlp(depth=3, width=32)", kernel_init="orthogonal")
    >>> x = jax.random.normal(jax.random.key(0), (512, 8, 8, 1))
    >>> params = model.init(jax.random.key(1), x)["params"]
    >>> params, report = lsuv(model, params, x, jax.random.key(2))
    >>> [round(layer.after.variance) for layer in report.layers]
    [1, 1, 1, 1]
    """
    tolerance = not_negative(tolerance, "tolerance")
    max_iterations = count(max_iterations, "max_iterations")
    calibration, held_out = map(networks.inputs_of, networks.split_batch(batch, held_out))
    network = Network(model, key)

    def solve(path, z, layer):
        bias = layer.get("bias", jnp.zeros(()))
        bias = jnp.broadcast_to(bias, z.shape[-1:]).astype(z.dtype)
        linear = z - bias
        alive = networks.channel_moments(z)[2].any()

        def variance(scale):
            return (scale * linear + bias).var()

        def unfinished(carry):
            iteration, _, v = carry
            return alive & (iteration < max_iterations) & (jnp.abs(v - 1) >= tolerance)

        def iterate(carry):
            iteration, scale, v = carry
            scale = scale / jnp.sqrt(v)
            return iteration + 1, scale, variance(scale)

        one = jnp.ones((), z.dtype)
        iterations, scale, v = lax.while_loop(
            unfinished, iterate, (jnp.int32(0), one, variance(one))
        )
        return scale, bias * (1 - scale), (iterations, alive & (jnp.abs(v - 1) >= tolerance))

    refined, details = networks.sweep(network, params, calibration, solve)
    notes = list(networks.dead_layers(network.statistics(params, calibration)))
    open_layers = [path for path, (_, unmet) in details.items() if unmet and tolerance > 0]
    if open_layers:
        notes.append(
            f"after {max_iterations} iterations the variance is still not within {tolerance:g} of 1"
            f" in {', '.join(open_layers)}"
        )
    return refined, variance_report("lsuv", network, params, refined, calibration, held_out, notes)


def krahenbuhl(
    model,
    params,
    batch,
    key: jax.Array,
    *,
    bias: float = 0.0,
    iterations: int = 10,
    damping: float = 0.25,
    held_out=None,
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
    calibration, held_out = map(networks.inputs_of, networks.split_batch(batch, held_out))
    network = Network(model, key)

    def solve(path, z, layer):
        law = Law(jnp.full(z.shape[-1], bias, z.dtype), jnp.ones(z.shape[-1], z.dtype))
        return *solve_moment(z, law, "bias" in layer), None

    statistics = network.statistics(params, calibration)
    paths = [path for path, layer in statistics.items() if not layer.dead]
    refined = networks.sweep(network, params, calibration, solve)[0]
    rates = _rates(network, paths, jax.random.fold_in(key, 1))
    for _ in range(iterations):
        refined = _equalize(refined, rates(refined, calibration), paths, damping)

    notes = [*networks.dead_layers(statistics), *networks.without_bias(params, statistics)]
    logs = [jnp.log(rates(p, held_out)) for p in (params, refined)]
    return refined, networks.scalar_report(
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
                [networks.get_layer(tree, path)["kernel"] for tree in (gradients, params)]
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
        layer = dict(networks.get_layer(params, path))
        layer["kernel"] = layer["kernel"] * factor.astype(layer["kernel"].dtype)
        if "bias" in layer:
            layer["bias"] = layer["bias"] * product.astype(layer["bias"].dtype)
        params = networks.set_layer(params, path, layer)
    return params
