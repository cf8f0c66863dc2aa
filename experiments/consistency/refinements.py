"""Variants of the consistency refinement that its study compares, by `--refine=`."""

import jax

from initjax import refine


def on_images(
    model, params, batch, key: jax.Array, *, number: int, held_out=None
) -> tuple[dict, refine.Report]:
    """`initjax.refine.consistency` from the first `number` calibration images alone.

    Args:
      model, params, batch, key, held_out: as there.
      number: of images; three quarters of them make the start, the others measure it.
    """
    few = tuple(part[:number] for part in batch)
    return refine.consistency(model, params, few, key, held_out=held_out)
