"""Learning rates: each start's accuracy against the rate, and the rate that is its own.

An initializer changes the scale on which a rate acts, so that one rate for all decides which start
wins. Rates are chosen on runs of phase "tuning" and tested with seeds that chose nothing: taking
the best of 9 rates on the very seeds that test it finds a difference between equal starts 12 % of
the time.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from initjax.comparison import statistics
from initjax.comparison.results import Estimate, RateCurve, RatePoint
from initjax.comparison.rows import Run


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean with its 95 % t interval, as far as the number of values allows."""
    if len(values) == 0:
        return None
    mean, low, high = (float(x) for x in statistics.t_interval(values))
    return Estimate(mean, low, high) if len(values) > 1 else Estimate(mean, None, None)


def score(runs: Sequence[Run]) -> float:
    """Mean accuracy, failed runs counting 0."""
    return float(np.mean([0.0 if run.failure else run.accuracy for run in runs]))


def create_curves(runs: Sequence[Run]) -> tuple[RateCurve, ...]:
    """The curve of each start that ran at several rates, of tuning runs if there are any."""
    tuning = [run for run in runs if run.phase == "tuning"]
    curves = []
    for start in sorted({run.start for run in runs}):
        by_rate: dict[float, list[Run]] = {}
        for run in tuning or runs:
            if run.start == start and run.learning_rate is not None:
                by_rate.setdefault(run.learning_rate, []).append(run)
        if len(by_rate) > 1 or (tuning and by_rate):
            curves.append(_curve(start, by_rate, "tuning" if tuning else "test"))
    return tuple(curves)


def _curve(start: str, by_rate: Mapping[float, list[Run]], phase: str) -> RateCurve:
    points = []
    for rate, runs in sorted(by_rate.items()):
        done = [run.accuracy for run in runs if not run.failure]
        points.append(
            RatePoint(rate, len(runs), len(runs) - len(done), estimate(done), score(runs))
        )
    best = max(points, key=lambda point: (point.score, -point.learning_rate)).learning_rate
    rates = [point.learning_rate for point in points]
    scores = [point.score for point in points]
    return RateCurve(
        start=start,
        phase=phase,
        points=tuple(points),
        best=best,
        at_edge=len(rates) > 1 and best in (rates[0], rates[-1]),
        plateau=_plateau(by_rate, best),
        expected_best=tuple(statistics.expected_best(scores, b + 1) for b in range(len(scores))),
    )


def _plateau(by_rate: Mapping[float, list[Run]], best: float) -> tuple[float, float] | None:
    """Lowest and highest rate of those around the best that lie within one sd of it."""
    accuracy = {
        rate: {run.seed: run.accuracy for run in runs if not run.failure}
        for rate, runs in by_rate.items()
    }
    rates = sorted(by_rate)

    def is_near(rate):
        seeds = sorted(accuracy[rate].keys() & accuracy[best].keys())
        if len(seeds) < 2 or len(accuracy[rate]) < len(by_rate[rate]):
            return False
        d = np.array([accuracy[best][seed] - accuracy[rate][seed] for seed in seeds])
        return d.mean() <= d.std(ddof=1)

    if len(accuracy[best]) < 2:
        return None
    low = high = rates.index(best)
    while low > 0 and is_near(rates[low - 1]):
        low -= 1
    while high + 1 < len(rates) and is_near(rates[high + 1]):
        high += 1
    return rates[low], rates[high]


def create_notes(runs: Sequence[Run], curves: Sequence[RateCurve]) -> list[str]:
    """Whether the tuning was fair, and whether its grid was wide enough."""
    notes = []
    tuning = [run for run in runs if run.phase == "tuning"]
    budgets = {
        curve.start: {(r.learning_rate, r.seed) for r in tuning if r.start == curve.start}
        for curve in curves
        if curve.phase == "tuning"
    }
    untuned = sorted({run.start for run in runs} - budgets.keys()) if budgets else []
    if untuned:
        notes.append(f"Not tuned: {', '.join(untuned)}.")
    if len({frozenset(budget) for budget in budgets.values()}) > 1:
        shown = ", ".join(f"{start} {len(budget)}" for start, budget in budgets.items())
        notes.append(
            f"Tuning was not the same for all (runs: {shown}): the start with more rates or seeds"
            " to choose from has an advantage."
        )
    edges = [f"{curve.start} ({curve.best:g})" for curve in curves if curve.at_edge]
    if edges:
        notes.append(
            f"The best rate is at the edge of the grid for {', '.join(edges)}: a rate outside may"
            " be higher still. Extend the grid for all starts."
        )
    if curves and not budgets:
        notes.append(
            "The rates were varied on the runs that test: the curves against the rate describe,"
            " and no start's best rate is chosen from them. Tune on other seeds for a verdict at"
            " own rates."
        )
    return notes
