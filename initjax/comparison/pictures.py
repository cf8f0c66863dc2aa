"""Pictures of a comparison: figures for a page, in the ink of a light or a dark one."""

import base64
import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure  # not pyplot: no global state, and no screen is needed

from initjax.comparison.results import Contest, RateCurve
from initjax.comparison.rows import Run
from initjax.comparison.statistics import t_interval
from initjax.support.pictures import COLORS
from initjax.support.tables import shorten
from initjax.support.text import drawable, printable

_DASHES = ("-", "--", ":", "-.")
_INKS = {"light": "#222222", "dark": "#dddddd"}
_MOST_IN_LEGEND = 8
_MOST_DIFFERENCES = 5

_PLAIN = ticker.FuncFormatter(lambda value, _: f"{value:g}")

Runs = Mapping[str, Sequence[Run]]  # start -> its runs
Draw = Callable[[], Figure | None]


def color_of(start: str, starts: Sequence[str]) -> str:
    """The color of a start in all pictures and tables."""
    return COLORS[list(starts).index(start) % len(COLORS)]


def _style(start, starts) -> dict[str, str]:
    turn = list(starts).index(start) // len(COLORS) % len(_DASHES)
    return {"color": color_of(start, starts), "linestyle": _DASHES[turn]}


def render(draw: Draw) -> dict[str, str] | None:
    """The figure that `draw` makes as data URIs of PNGs, {"light": ..., "dark": ...}."""
    images = {}
    for theme, ink in _INKS.items():
        names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
        with matplotlib.rc_context(
            dict.fromkeys(names, ink) | {"font.size": 11, "legend.framealpha": 0.0}
        ):
            figure = draw()
            if figure is None:
                return None
            stream = io.BytesIO()
            with warnings.catch_warnings():
                # A name in letters that the font lacks shows boxes; the tables have it.
                warnings.filterwarnings("ignore", message="Glyph")
                figure.savefig(stream, dpi=130, format="png", transparent=True)
        images[theme] = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    return images


def _create(**labels):
    figure = Figure(figsize=(5.2, 3.5), layout="constrained")
    axis = figure.subplots()
    axis.set(**labels)
    axis.grid(alpha=0.25)
    if axis.get_xscale() == "linear":
        # Long numbers of steps have room, and no step is a fraction.
        axis.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=labels["xlabel"] == "step"))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure, axis


def label(start: str) -> str:
    """A name as Matplotlib shows it: short, without formulas, and never hidden."""
    return drawable(shorten(printable(start), 26))


def _legend(axis, number):
    if 1 < number <= _MOST_IN_LEGEND:
        axis.legend(fontsize="small")


def _common(runs: Sequence[Run], quantity: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(steps, values of shape (runs, steps)) at the steps that all of the runs have."""
    runs = [run for run in runs if getattr(run, quantity)]
    if not runs:
        return None
    steps = sorted(set.intersection(*(set(run.step) for run in runs)))
    if not steps:
        return None
    values = [dict(zip(run.step, getattr(run, quantity), strict=True)) for run in runs]
    return np.array(steps), np.array([[v[step] for step in steps] for v in values])


def plot_curves(runs: Runs, starts: Sequence[str], quantity: str) -> Figure | None:
    """A quantity against the step: each seed thin, the median, and the middle 95 % of the seeds."""
    drawn = 0
    is_loss = quantity.endswith("loss")
    scale = 1 if is_loss else 100
    figure, axis = _create(xlabel="step", ylabel="test loss" if is_loss else "test accuracy (%)")
    for start, own in runs.items():
        style = _style(start, starts)
        for run in own:
            values = scale * np.array(getattr(run, quantity), float)
            if len(values):
                failed = {"linestyle": ":", "alpha": 0.9} if run.failure else {"alpha": 0.35}
                axis.plot(run.step, values, linewidth=0.7, **(style | failed))
        finished = _common([run for run in own if not run.failure], quantity)
        if finished is None:
            continue
        drawn += 1
        steps, values = finished
        low, middle, high = np.quantile(scale * values, [0.025, 0.5, 0.975], axis=0)
        marker = "." if len(steps) < 12 else ""
        axis.plot(steps, middle, linewidth=2, label=label(start), marker=marker, **style)
        axis.fill_between(steps, low, high, alpha=0.18, color=style["color"], linewidth=0)
    if not drawn:
        return None
    if is_loss:
        axis.set_yscale("log")
        low, high = axis.get_ylim()
        subs = (1.0, 2.0, 3.0, 5.0) if high < 100 * low else (1.0,)
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=subs))
        axis.yaxis.set_major_formatter(_PLAIN)
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    _legend(axis, drawn)
    return figure


def plot_differences(
    runs: Runs, starts: Sequence[str], reference: str, margin: float | None
) -> Figure | None:
    """Paired accuracy differences from a start against the step: mean and 95 % t interval."""
    figure, axis = _create(xlabel="step", ylabel=f"points above {shorten(label(reference), 20)}")
    drawn, limits = 0, []
    of_reference = {run.seed: run for run in runs[reference] if not run.failure}
    for start in [start for start in runs if start != reference][:_MOST_DIFFERENCES]:
        own = {run.seed: run for run in runs[start] if not run.failure}
        seeds = sorted(own.keys() & of_reference.keys())
        sides = [_common([side[s] for s in seeds], "eval_accuracy") for side in (own, of_reference)]
        if None in [side if side is None else 0 for side in sides]:
            continue
        steps, places, others = np.intersect1d(sides[0][0], sides[1][0], return_indices=True)
        if not len(steps) or len(sides[0][1]) != len(sides[1][1]):
            continue
        d = 100 * (sides[0][1][:, places] - sides[1][1][:, others])
        mean, low, high = t_interval(d.T)
        drawn += 1
        style = _style(start, starts)
        marker = "." if len(steps) < 12 else ""
        axis.plot(steps, mean, linewidth=2, label=label(start), marker=marker, **style)
        second_half = steps >= steps[-1] / 2
        limits.append(np.abs(mean[second_half]).max())
        if len(d) > 1:
            axis.fill_between(steps, low, high, alpha=0.2, color=style["color"], linewidth=0)
            bounds = np.abs([low[second_half], high[second_half]])
            # Of two seeds the intervals are so wide that nothing else would be seen.
            limits.append(min(bounds.max(), 4 * limits[-1]))
    if not drawn:
        return None
    axis.axhline(0, color="gray", linewidth=1)
    if margin is not None:
        axis.axhspan(-100 * margin, 100 * margin, color="gray", alpha=0.15, linewidth=0)
        limits.append(100 * margin)
    if max(limits) > 0:
        axis.set_ylim(-1.25 * max(limits), 1.25 * max(limits))
    _legend(axis, drawn + 1)
    return figure


def plot_finals(runs: Runs, starts: Sequence[str]) -> Figure:
    """Each run's final accuracy as a point, the mean and its 95 % t interval; failures apart."""
    figure, axis = _create(xlabel="final test accuracy (%)")
    figure.set_figheight(max(1.2 + 0.55 * len(runs), 2.2))
    shown = []
    for row, (start, own) in enumerate(runs.items()):
        color = color_of(start, starts)
        values = 100 * np.array([run.accuracy for run in own if not run.failure])
        failed = sum(bool(run.failure) for run in own)
        shown.append(label(start) + (f"\n({failed} of {len(own)} failed)" if failed else ""))
        if not len(values):
            continue
        # Spread a little, so that equal ones are seen.
        heights = row + 0.22 * np.linspace(-1, 1, len(values)) * (len(values) > 1)
        axis.plot(values, heights, "o", markersize=4.5, alpha=0.75, color=color)
        if len(values) > 1:
            mean, low, high = t_interval(values)
            axis.plot([low, high], [row, row], color=color, linewidth=2)
            axis.plot([mean], [row], "|", markersize=18, markeredgewidth=2.5, color=color)
    axis.set_yticks(range(len(shown)), shown)
    axis.set_ylim(len(shown) - 0.4, -0.6)
    values = [run.accuracy for own in runs.values() for run in own if not run.failure]
    if len(values) > 1 and np.ptp(values) > 0:  # of two seeds an interval can be far too wide
        margin = 100 * 0.35 * float(np.ptp(values))
        axis.set_xlim(100 * min(values) - margin, 100 * max(values) + margin)
    return figure


def plot_rates(
    curves: Sequence[RateCurve], runs: Sequence[Run], starts: Sequence[str]
) -> Figure | None:
    """Accuracy against the learning rate: each run, the means, and each start's best."""
    if not curves or max(len(curve.points) for curve in curves) < 2:
        return None
    phase = curves[0].phase
    where = "validation" if phase == "tuning" else "test"
    figure, axis = _create(xlabel="learning rate", ylabel=f"{where} accuracy (%)", xscale="log")
    low = math.inf
    for curve in curves:
        style = _style(curve.start, starts)
        own = [run for run in runs if run.start == curve.start and run.phase == phase]
        done = [
            (r.learning_rate, 100 * r.accuracy) for r in own if r.learning_rate and not r.failure
        ]
        if done:
            axis.plot(*zip(*done, strict=True), "o", markersize=3, alpha=0.5, color=style["color"])
            low = min(low, *(accuracy for _, accuracy in done))
        means = [(p.learning_rate, 100 * p.accuracy.value) for p in curve.points if p.accuracy]
        if means:
            axis.plot(*zip(*means, strict=True), linewidth=2, label=label(curve.start), **style)
        best = next((y for x, y in means if x == curve.best), None)
        if best is not None:
            axis.plot(
                [curve.best], [best], "o", markersize=11, color=style["color"], fillstyle="none"
            )
    if low == math.inf:
        return None
    rates = sorted({point.learning_rate for curve in curves for point in curve.points})
    if len(rates) <= 8:
        axis.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())
    failed = [(curve.start, p.learning_rate) for curve in curves for p in curve.points if p.failed]
    for start, rate in failed:
        axis.plot([rate], [low], "x", markersize=8, color=color_of(start, starts))
    if failed:
        axis.plot([], [], "x", color="gray", label="with failed runs")
    _legend(axis, len(curves) + bool(failed))
    return figure


def runs_of(contest: Contest, runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs that a contest judged, by start, in its order."""
    found: dict[str, list[Run]] = {}
    for start in contest.starts:
        found[start.start] = [
            run
            for run in runs
            if (run.start, run.phase) == (start.start, "test")
            and run.learning_rate == start.learning_rate
            and run.seed in start.seeds
        ]
    return found
