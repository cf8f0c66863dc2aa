"""Correcting every layer in one forward pass."""

from collections.abc import Callable
from typing import Any

import jax

from initjax.network.paths import get_layer
from initjax.refine.network import Network
from initjax.refine.reports import normalized_layers
from initjax.refine.statistics import Statistics, as_statistics, moments
from initjax.support.errors import UserError


def sweep(
    network: Network, params, inputs, solve: Callable
) -> tuple[Any, dict[str, Any], tuple[str, ...]]:
    """Corrects every layer in one forward pass, each given the corrected layers before it.

    Args:
      network: the model.
      params: its parameters.
      inputs: the calibration inputs.
      solve: (path, z [rows, C], the layer's parameters) -> (scale, shift, anything to return).
        It is traced; a layer without a bias must be given the shift 0.

    Returns:
      The refined parameters; what `solve` returned third, by path; notes. A layer that is used
      several times is solved for at its first call. One whose weights the model normalizes, so that
      no scale of them changes what it puts out, is left as it is, and noted.
    """
    refined, details, expected = _run(network, params, inputs, solve, frozenset())
    found = network.statistics(refined, inputs)
    if all(_agree(expected[path], layer) for path, layer in found.items()):
        return refined, details, ()
    fixed = network.unscalable(params, inputs)
    if not fixed:
        return refined, details, ()
    refined, details, _ = _run(network, params, inputs, solve, fixed)
    return refined, details, normalized_layers(fixed)


def _run(network, params, inputs, solve, fixed):
    """(refined parameters, details, statistics that the layers should now have)."""

    @jax.jit
    def run(params, inputs):
        changes, details = {}, {}

        def edit(path, z, call_number):
            if path in fixed:
                return z
            if path not in changes:
                scale, shift, details[path] = solve(path, z, get_layer(params, path))
                changes[path] = (scale, shift)
            scale, shift = changes[path]
            return scale * z + shift

        found = network.record(params, inputs, edit)
        return (
            network.change_layers(params, changes),
            details,
            {path: moments(z) for path, z in found.items()},
        )

    try:
        refined, details, expected = run(params, inputs)
    except jax.errors.UnexpectedTracerError:
        raise UserError(
            f"{type(network.model).__name__} has layers inside nn.remat or nn.jit, where they"
            " cannot be corrected.\nRefine the same parameters with the model built without it."
        ) from None
    return refined, details, as_statistics(jax.device_get(expected))


def _agree(expected: Statistics, found: Statistics) -> bool:
    """Whether two variances are the same but for rounding; those of layers in bfloat16 are not."""
    return abs(found.variance - expected.variance) <= 0.05 * expected.variance
