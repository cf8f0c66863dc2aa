"""Unit scaling's matrix product, whose gradients have a scale of their own."""

import functools
import math
from typing import Any

import jax

from initjax.support.errors import UserError


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _scaled(x, forward: float, backward: float):
    """x times `forward`, whose gradient is multiplied by `backward` instead."""
    return x * forward


def _scaled_forward(x, forward, backward):
    return x * forward, None


def _scaled_backward(forward, backward, _, gradient):
    return (gradient * backward,)


_scaled.defvjp(_scaled_forward, _scaled_backward)


def unit_scaled_dot_general(
    x: jax.Array,
    w: jax.Array,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """`jax.lax.dot_general` of inputs and N(0, 1) weights, at unit scale forward and backward:

        y = x W / sqrt(fan_in),    dx = dy W^T / sqrt(fan_out),    dW = x^T dy / sqrt(batch).

    With x, W and dy of variance 1 all three have variance 1, so that low precision holds them
    (Blake, Orr & Luschi 2023, Unit scaling, arXiv:2303.11257). What the factors change of the true
    gradient is one positive number for all of dW, which Adam does not see; dx's goes to all layers
    before. Where x goes elsewhere too, as into a shortcut, the source takes one factor for y and
    dx: then scale by 1 / sqrt(fan_in) alone.

        nn.Dense(64, use_bias=False, kernel_init=initjax.unit_scaling(),
                 dot_general=initjax.unit_scaled_dot_general)

    Args:
      x: inputs [..., fan_in], of any number of axes.
      w: weights (fan_in, fan_out).
      dimension_numbers: as of `jax.lax.dot_general`, without batch axes.
      precision: as of `jax.lax.dot_general`.
      preferred_element_type: likewise.

    Raises:
      UserError (a ValueError): batch axes.
    """
    (_, contracted), (batch_axes, _) = dimension_numbers
    if len(batch_axes):
        raise UserError("unit_scaled_dot_general takes no batch axes, in which nothing is summed.")
    fan_in = math.prod(w.shape[axis] for axis in contracted)
    fan_out, batch = w.size // max(fan_in, 1), x.size // max(fan_in, 1)
    y = jax.lax.dot_general(
        _scaled(x, 1.0, max(fan_out, 1) ** -0.5),
        _scaled(w, 1.0, max(batch, 1) ** -0.5),
        dimension_numbers,
        precision,
        preferred_element_type,
    )
    return _scaled(y, max(fan_in, 1) ** -0.5, 1.0)
