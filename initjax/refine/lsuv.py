"""Layer-sequential unit-variance initialization."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from initjax.refine.calibration import inputs_of, split_batch
from initjax.refine.methods import register
from initjax.refine.network import Network
from initjax.refine.reports import Report, dead_layers, variance_report
from initjax.refine.statistics import channel_moments
from initjax.refine.sweep import sweep
from initjax.support.arguments import count, not_negative


@register
def lsuv(
    model: Any,
    params: Any,
    batch: Any,
    key: jax.Array,
    *,
    tolerance: float = 0.1,
    max_iterations: int = 10,
    held_out: Any = None,
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
    calibration, held_out = map(inputs_of, split_batch(batch, held_out))
    network = Network(model, key)

    def solve(path, z, layer):
        bias = jnp.ravel(layer.get("bias", jnp.zeros(z.shape[-1:]))).astype(z.dtype)
        linear = z - bias
        alive = channel_moments(z)[2].any()

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

    refined, details, left = sweep(network, params, calibration, solve)
    notes = [*dead_layers(network.statistics(params, calibration)), *left]
    open_layers = [path for path, (_, unmet) in details.items() if unmet and tolerance > 0]
    if open_layers:
        notes.append(
            f"after {max_iterations} iterations the variance is still not within {tolerance:g} of 1"
            f" in {', '.join(open_layers)}"
        )
    return refined, variance_report("lsuv", network, params, refined, calibration, held_out, notes)
