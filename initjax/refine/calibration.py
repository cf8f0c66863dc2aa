"""Calibration data and the part of it that is held out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from initjax.support.errors import UserError


def split_batch(batch, held_out=None) -> tuple[Any, Any]:
    """(calibration, held-out): what is given, or the first three quarters and the rest of `batch`.

    Args:
      batch: inputs [n, ...]; a pair (inputs, labels); or any tree of arrays [n, ...].
      held_out: of the same form, or None.
    """
    batch = jax.tree.map(_array, batch)
    sizes = {np.shape(x)[0] if np.ndim(x) else 0 for x in jax.tree.leaves(batch)}
    if len(sizes) != 1 or max(sizes) < 4:
        raise UserError(
            f"batch has arrays of {sorted(sizes)} samples; it needs 4 or more, the same in each"
            " (256 or more are advisable)."
        )
    if held_out is not None:
        return batch, jax.tree.map(_array, held_out)
    number = max(sizes) - max(sizes) // 4
    return jax.tree.map(lambda x: x[:number], batch), jax.tree.map(lambda x: x[number:], batch)


def _array(x):
    return x if isinstance(x, jax.Array) else jnp.asarray(x)


def inputs_of(batch) -> jax.Array:
    """The inputs of a batch with or without labels."""
    return batch[0] if isinstance(batch, (tuple, list)) else batch
