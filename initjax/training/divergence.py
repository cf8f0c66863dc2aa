"""What a run says where its numbers are none any more: the step, the layer, the likely cause."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from initjax.support.errors import UserError
from initjax.training.config import Config


def check_loss(
    split: str, loss: float, state: Any, config: Config, steps: range, last: int
) -> None:
    """Raises a UserError for a loss that is no number, before anything of it is saved.

    Args:
      split: of which the loss is.
      loss: the mean.
      state: the `TrainState` after the last of the steps.
      config: the run's settings.
      steps: those that came since the loss was a number.
      last: step of the run.
    """
    if not math.isfinite(loss):
        layer = _not_finite(state) or _largest(state)
        # The training loss of the first step is that of the initial weights.
        start = steps if split == "training" and steps[0] == 1 else ()
        raise UserError(
            f"The {split} loss is {loss} at step {steps[-1]} of {last}, where {layer}; what was"
            f" saved before is kept.\n{_cure(config, start)}"
        )


def check_state(state: Any, config: Config, step: int, last: int) -> None:
    """Raises a UserError for a `TrainState` on the host that is not finite: it is not saved."""
    if layer := _not_finite(state):
        raise UserError(
            f"At step {step} of {last} {layer}; this is not saved, what was saved before is kept."
            f"\n{_cure(config)}"
        )


def _leaves(tree) -> list[tuple[str, np.ndarray]]:
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    names = (jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves)
    return [(n, np.asarray(x, np.float32)) for n, (_, x) in zip(names, leaves, strict=True)]


def _not_finite(state) -> str:
    """Which arrays are not: of parameters, before those of what is made of them; or nothing."""
    for part in (state.params, state.batch_stats, state.opt_state):
        bad = [name for name, x in _leaves(part) if not np.isfinite(x).all()]
        if bad:
            others = f" and {len(bad) - 1} more arrays are" if bad[1:] else " is"
            return f"{bad[0]}{others} not finite"
    return ""


def _largest(state) -> str:
    name, x = max(_leaves(state.params), key=lambda leaf: np.abs(leaf[1]).max(initial=0))
    return f"the largest parameter, {np.abs(x).max():.3g}, is in {name}"


def _cure(config: Config, start: Sequence[int] = ()) -> str:
    """What to try, where it began in these steps of the start, or later."""
    flag = next(n for n in ("refine", "init_from", "init") if getattr(config, n))
    if len(start) == 1:
        return f"The initial weights do this: try another --{flag} than {getattr(config, flag)}."
    rate, decay = config.learning_rate, config.weight_decay
    # w -> (1 - rate * decay) w overshoots by itself.
    if rate * decay > 1 and decay > 1:
        return f"Try a lower --weight_decay than {decay:g}: times --learning_rate it is above 1."
    other = f", more --warmup_steps, or another --{flag}" if start else ", or more --warmup_steps"
    return f"Try a lower --learning_rate than {rate:g}{other}."
