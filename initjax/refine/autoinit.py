"""AutoInit: weights scaled by what a signal's mean and variance are computed to be."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from initjax.network.paths import get_layer, named_leaves, set_layer
from initjax.refine import propagation
from initjax.refine.calibration import inputs_of, split_batch
from initjax.refine.methods import register
from initjax.refine.network import Network
from initjax.refine.propagation import Kernel
from initjax.refine.reports import Report, dead_layers, variance_report
from initjax.support.errors import UserError


@register
def autoinit(
    model: Any, params: Any, batch: Any, key: jax.Array, *, held_out: Any = None
) -> tuple[Any, Report]:
    """Analytic signal-preserving scales (Bingham & Miikkulainen 2023, arXiv:2109.08958).

    The mean mu and variance v of the signal are followed through the program of the model, layer by
    layer; the weights of a layer whose inputs have them are scaled so that what it puts out has
    mean 0 and variance 1:

        W <- W / rms(W) / sqrt(fan_in (v + mu^2)).

    After ReLU this is He's rule, without an activation LeCun's. Activations are followed exactly
    (by quadrature, whatever they are made of); sums over independent signals, and what layers put
    out, count as normal. The values in a pooling window count as independent, and zeros that a
    convolution pads with do not count. Normalization layers, shortcuts, padding, concatenation and
    dropout are followed too. Of the data, only the mean and variance of all inputs is used. A layer
    that is used several times is scaled at its first use. Where the signal went through an
    operation for which the method defines nothing, such as the products of attention or a loop, the
    layers that follow keep their weights, and the report names them.

    Args:
      model: as in `consistency`.
      params: its parameters, from any initializer, of which the directions are kept. Biases are
        kept too, and add to the variance.
      batch: as in `consistency`.
      key: a PRNG key, for dropout.
      held_out: as in `consistency`.

    Returns:
      (params, report), the report's objective being the measured mean_l |Var(z_l) - 1|.

    Raises:
      UserError (a ValueError): a model without layers; a signal that is not finite.

    >>> from initjax.models import create_model
    >>> model = create_model("mlp(depth=2, width=64)", kernel_init="normal")
    >>> x = jax.random.normal(jax.random.key(0), (512, 8, 8, 1))
    >>> params = model.init(jax.random.key(1), x)["params"]
    >>> params, report = autoinit(model, params, x, jax.random.key(2))
    >>> round(float(params["Dense_1"]["kernel"].var()) * 64, 2)  # after ReLU
    2.0
    """
    calibration, held_out = map(inputs_of, split_batch(batch, held_out))
    network = Network(model, key)
    wide = calibration.astype(jnp.promote_types(calibration.dtype, jnp.float32))
    scales, rms, unknown = _scales(
        network, params, calibration, float(wide.mean()), float(wide.var())
    )
    changes = {path: (scale / rms[path], 0.0) for path, scale in scales.items() if rms[path] > 0}
    refined = params
    for path, (scale, _) in changes.items():
        layer = get_layer(refined, path)
        kernel = (layer["kernel"] * scale).astype(layer["kernel"].dtype)
        refined = set_layer(refined, path, {**layer, "kernel": kernel})
    notes = [*dead_layers(network.statistics(params, calibration))]
    if unknown:
        notes.append(
            "autoinit defines nothing for what comes before, or is made of the weights of,"
            f" {', '.join(unknown)}, which were left as they are; lsuv measures it"
        )
    return refined, variance_report(
        "autoinit", network, params, refined, calibration, held_out, notes
    )


def _scales(network, params, inputs, mean, variance):
    """By path the sd that AutoInit gives a layer's weights, and the rms that they have; and the
    layers of which it does not know what they are given."""
    rms, known = {}, {}
    for name, leaf in named_leaves(params):
        if name.split("/")[-1] == "kernel" and leaf.ndim >= 2:
            layer = name.rpartition("/")[0]
            known[name] = Kernel(layer)
            rms[layer] = math.sqrt(float(jnp.mean(jnp.square(leaf.astype(jnp.float32)))))
        else:
            known[name] = leaf
    if not rms:
        raise UserError(f"{type(network.model).__name__} has no layer with a kernel.")
    scales: dict[str, float] = {}
    unknown: dict[str, None] = {}

    def layer(kernel, fan_in, moment):
        if moment is None:
            if kernel.path not in scales:
                unknown[kernel.path] = None
            return 0.0
        if moment == 0 or rms[kernel.path] == 0:
            return 0.0  # dead: nothing comes out, whatever the scale
        if kernel.path not in scales:
            scales[kernel.path] = 1 / math.sqrt(fan_in * moment)
        return fan_in * scales[kernel.path] ** 2 * moment

    propagation.propagate(
        network.apply, known, propagation.normal(mean, variance), layer, params, inputs
    )
    return scales, rms, list(unknown)
