"""Runs as other libraries take them: a frame of pandas, and the scores of rliable."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from initjax.comparison.rows import CURVES, Run
from initjax.support.errors import UserError


def to_frame(runs: Sequence[Run], curves: bool = False) -> Any:
    """A `pandas.DataFrame` of runs; `pip install pandas`.

    Args:
      runs: as `read` and `compare(...).rows` give them.
      curves: a row an evaluation, with step and the curves, rather than a row a run.

    Returns:
      Columns start, seed, phase, learning_rate, accuracy, loss, failure, seconds; one a setting.
    """
    import pandas as pd

    names = ("start", "seed", "phase", "learning_rate", "accuracy", "loss", "failure", "seconds")
    rows = []
    for run in runs:
        row = {name: getattr(run, name) for name in names} | dict(run.setting)
        if not curves:
            rows.append(row)
            continue
        shown = {name: getattr(run, name) for name in CURVES if getattr(run, name)}
        for i, step in enumerate(run.step):
            rows.append(row | {"step": step} | {name: values[i] for name, values in shown.items()})
    return pd.DataFrame(rows)


def to_scores(runs: Sequence[Run], failed: float = 0.0) -> dict[str, np.ndarray]:
    """Scores as rliable takes them: start -> accuracies [seeds, settings].

    rliable (Agarwal et al. 2021, arXiv:2108.13264) then gives interquartile means, performance
    profiles and probabilities of improvement over many settings.

    Args:
      runs: of the phase "test", at one learning rate a start and setting.
      failed: the score of a run that failed.

    Raises:
      UserError (a ValueError): a start lacks a seed or a setting, or has it at two rates.
    """
    tested = [run for run in runs if run.phase == "test"]
    settings = sorted({run.setting for run in tested})
    seeds = sorted({run.seed for run in tested})
    scores = {}
    for start in dict.fromkeys(run.start for run in tested):
        found: dict[tuple, float] = {}
        for run in (run for run in tested if run.start == start):
            if (run.seed, run.setting) in found:
                raise UserError(f"{run} is there at two learning rates: choose one of them.")
            accuracy = failed if run.failure or run.accuracy is None else run.accuracy
            found[run.seed, run.setting] = accuracy
        if missing := [(n, s) for n in seeds for s in settings if (n, s) not in found]:
            seed, setting = missing[0]
            where = ", ".join(f"{name} {value}" for name, value in setting)
            raise UserError(
                f"{start} has no run of seed {seed}" + f" at {where}" * bool(where) + "."
            )
        scores[start] = np.array([[found[n, s] for s in settings] for n in seeds])
    return scores
