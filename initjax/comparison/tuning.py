"""Each start's own learning rate, chosen fairly.

The same grid of rates and the same tuning seeds for every start, judged on images that are held out
of the training set; where a start's best rate is at the edge of the grid, the grid grows for all
of them. The test set, and other seeds, come afterwards.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

from initjax.comparison.decisions import count
from initjax.comparison.grid import job_at, name_of, setting_of
from initjax.comparison.population import Job
from initjax.comparison.rates import create_curves
from initjax.comparison.results import RateCurve
from initjax.comparison.rows import Run

NUM_SEEDS = 3
LEAST_RATES = 5
MOST_STEPS = 3  # by which a grid grows at either end
_FIRST_SEED = 10_000  # far from those that a comparison's --seeds=N will ever reach

Runner = Callable[[Sequence[Job]], list[Run]]


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What tuning gave.

    Attributes:
      runs: of phase "tuning".
      jobs: (cell, rate) pairs to test: each cell at its own best rate, and at the best shared one.
      notes: what was done, in sentences.
    """

    runs: tuple[Run, ...]
    jobs: tuple[tuple[Job, float], ...]
    notes: tuple[str, ...]


def tuning_seeds(test_seeds: Sequence[int]) -> tuple[int, ...]:
    """Seeds to choose rates by, none of them one of the test's.

    >>> tuning_seeds([0, 1, 10_001])
    (10000, 10002, 10003)
    """
    taken = set(test_seeds)
    free = (seed for seed in range(_FIRST_SEED, 2**32) if seed not in taken)
    return tuple(next(free) for _ in range(NUM_SEEDS))


def rates_around(rate: float) -> tuple[float, ...]:
    """Five rates, half a decade apart, the given one in the middle.

    >>> rates_around(0.1)
    (0.01, 0.032, 0.1, 0.32, 1.0)
    """
    half = LEAST_RATES // 2
    return tuple(_rounded(rate * 10 ** (k / 2)) for k in range(-half, LEAST_RATES - half))


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")


def tune(cells: Sequence[Job], rates: Sequence[float], seeds: Sequence[int], run: Runner) -> Tuned:
    """Chooses rates on held-out training images.

    Args:
      cells: a job for each start and setting.
      rates: the grid to begin with, rising.
      seeds: that choose, and test nothing.
      run: runs jobs, none of them twice.
    """
    settings = tuple(dict.fromkeys(map(setting_of, cells)))
    # New rates are as far from the ends as those given are from each other.
    ratio = (rates[-1] / rates[0]) ** (1 / (len(rates) - 1)) if len(rates) > 1 else math.sqrt(10)
    grids = dict.fromkeys(settings, tuple(rates))
    steps = dict.fromkeys([(key, end) for key in settings for end in (0, -1)], 0)
    while True:
        jobs = [
            job_at(cell, rate, seed, "tuning")
            for seed in seeds
            for cell in cells
            for rate in grids[setting_of(cell)]
        ]
        runs = run(jobs)
        by_setting = {key: [r for r in runs if r.setting == key] for key in settings}
        curves = {key: create_curves(by_setting[key]) for key in settings}
        grown = False
        for key, grid in grids.items():
            for end in (0, -1):
                if any(c.best == grid[end] for c in curves[key]) and steps[key, end] < MOST_STEPS:
                    grids[key] = _grow(grids[key], end, ratio)
                    steps[key, end] += 1
                    grown = True
        if not grown:
            break
    chosen = []
    for cell in cells:
        found = curves[setting_of(cell)]
        own = next(curve.best for curve in found if curve.start == name_of(cell))
        chosen += [(cell, rate) for rate in sorted({own, _best_shared(found)})]
    return Tuned(tuple(runs), tuple(chosen), tuple(_notes(rates, seeds, grids, curves)))


def _grow(grid: tuple[float, ...], end: int, ratio: float) -> tuple[float, ...]:
    """The grid with one rate more at an end."""
    return (_rounded(grid[0] / ratio), *grid) if end == 0 else (*grid, _rounded(grid[-1] * ratio))


def _best_shared(curves: Sequence[RateCurve]) -> float:
    """The rate of the highest mean score over the starts."""
    totals: dict[float, float] = {}
    for curve in curves:
        for point in curve.points:
            totals[point.learning_rate] = totals.get(point.learning_rate, 0.0) + point.score
    return max(totals, key=lambda rate: (totals[rate], -rate))


def _notes(rates, seeds, grids, curves) -> list[str]:
    several = len(grids) > 1
    notes = [
        f"Rates were chosen from {', '.join(f'{rate:g}' for rate in rates)}, the same for each"
        f" start, by the mean accuracy over {count(len(seeds), 'seed', listed=seeds)} on images"
        " held out of the training set; the test is of other seeds, on the test set, at each"
        " start's own best rate and at the best shared one."
    ]
    if len(rates) < LEAST_RATES:
        notes.append(
            f"{count(len(rates), 'rate')} to begin with {'is' if len(rates) == 1 else 'are'} few:"
            f" {LEAST_RATES} and more tell a peak from a slope."
        )
    for key, grid in grids.items():
        where = f" ({', '.join(f'{k}={v}' for k, v in key if k in _differing(grids))})"
        if added := [rate for rate in grid if rate not in rates]:
            notes.append(
                f"The grid grew by {', '.join(f'{rate:g}' for rate in added)} for all starts,"
                f" because the best rate of one was at its edge{where * several}."
            )
        if any(curve.at_edge for curve in curves[key]):
            notes.append(
                f"It was not grown further than {MOST_STEPS} steps at an end{where * several}."
            )
    return notes


def _differing(keys) -> set[str]:
    keys = [dict(key) for key in keys]
    return {name for key in keys for name in key if len({k.get(name) for k in keys}) > 1}
