"""Correcting every layer in one forward pass."""

from collections.abc import Callable
from typing import Any

import jax

from initjax.network.paths import change_layers, get_layer
from initjax.refine.network import Network
from initjax.refine.statistics import rows
from initjax.support.errors import UserError


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
