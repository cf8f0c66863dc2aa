"""From finished runs to a verdict that noise cannot fake.

Each pair of starts is compared seed by seed. "better" needs p < .05 by the exact sign-flip test
after Holm's adjustment over the pairs of a contest; "equivalent" needs the 90 % interval inside
the margin; "cannot tell" comes with the number of seeds that would. Runs that failed are counted
apart and enter no interval. The rules, with what goes wrong otherwise: `statistics` and `rates`.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from initjax.comparison import rates, statistics
from initjax.comparison.decisions import (
    ALPHA,
    LEAST_SEEDS,
    classify,
    count,
    describe,
    opposite,
    seeds_to_tell,
)
from initjax.comparison.results import (
    CANNOT_TELL,
    NO_VERDICT,
    Contest,
    Difference,
    FailureDifference,
    Overall,
    Pair,
    Setting,
    Start,
    StartOverall,
    StepsDifference,
    StepsTo,
    Verdict,
)
from initjax.comparison.rows import Run, unique
from initjax.support.errors import UserError

LEAST_MARGIN = 0.001
_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97)
_LEVELS += (0.98, 0.99, 0.995, 0.999)

_Table = Mapping[str, Mapping[int, Run]]  # start -> seed -> run


def judge(
    runs: Iterable[Run],
    *,
    baseline: str = "",
    margin: float | None = None,
    accuracies: Sequence[float] | None = None,
    anytime: bool = False,
    notes: Sequence[str] = (),
) -> Verdict:
    """The verdict on some finished runs.

    Args:
      runs: of at least one start; the order changes nothing.
      baseline: a start that the others are compared with; empty: all pairs.
      margin: accuracy difference without practical interest; None: half the sd of accuracy from
        seed to seed (the baseline's; without one, that of both starts of a pair), at least 0.001.
      accuracies: levels to which steps are counted; None: the three highest of a fixed scale that
        half of the runs of the best start reach.
      anytime: whether seeds were added after a look at the verdict. It is then by e-values and
        confidence sequences, which are valid at every look; by t and sign-flip tests after each
        seed from 3 to 50 equal starts differ in 31 % of comparisons.
      notes: how the runs came about, for the reader.

    Raises:
      UserError (a ValueError): the runs contradict each other or hold nothing to compare.
    """
    runs = sorted(unique(runs), key=_order)
    starts = tuple(sorted({run.start for run in runs}))
    if not runs:
        raise UserError("There are no runs to judge.")
    if margin is not None and not 0 < margin < 1:
        raise UserError(f"margin={margin:g} is not in (0, 1); 0.005 is half a point of accuracy.")
    if baseline and baseline not in starts:
        raise UserError(f"baseline={baseline!r} is not one of the starts: {', '.join(starts)}.")
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.setting, []).append(run)
    if len(starts) > 1 and all(len({r.start for r in group}) == 1 for group in groups.values()):
        differing = _differing(groups)
        raise UserError(
            f"No two starts share a setting: {', '.join(differing)} differ."
            "\nLeave out columns that measure; compare runs that agree in the others."
        )
    names = _differing(groups)
    judge_one = _Judge(baseline, margin, accuracies, anytime)
    settings = tuple(
        judge_one.setting(group, dict(key), _name(key, names)) for key, group in groups.items()
    )
    return Verdict(
        settings=settings,
        overall=judge_one.overall(settings, list(groups.values())),
        starts=starts,
        baseline=baseline,
        margin=margin,
        alpha=ALPHA,
        moves=tuple(sorted({run.moves for run in runs} - {""})),
        anytime=anytime,
        notes=tuple(notes),
    )


def _order(run: Run):
    rate = -1.0 if run.learning_rate is None else run.learning_rate
    return run.setting, run.start, rate, run.phase, run.seed


def _differing(settings: Iterable[tuple]) -> list[str]:
    """Names whose values are not the same in all settings."""
    settings = [dict(setting) for setting in settings]
    names = sorted({name for setting in settings for name in setting})
    return [name for name in names if len({setting.get(name) for setting in settings}) > 1]


def _name(setting: tuple, names: Sequence[str]) -> str:
    values = dict(setting)
    return ", ".join(
        f"{name}={values[name]}" if name in values else f"{name} not given" for name in names
    )


@dataclasses.dataclass(frozen=True)
class _Judge:
    """What all comparisons of one verdict share."""

    baseline: str
    margin: float | None
    accuracies: Sequence[float] | None
    anytime: bool = False

    def setting(self, runs: Sequence[Run], values: dict[str, str], name: str) -> Setting:
        curves = rates.create_curves(runs)
        notes = rates.create_notes(runs, curves)
        own, own_notes = _own_tables(runs, curves)
        contests = []
        if own:
            contests.append(self.contest(own, own_rates=True))
        for rate in sorted({run.learning_rate for run in runs}, key=lambda r: r or 0):
            table = _table(run for run in runs if run.learning_rate == rate and run.phase == "test")
            if set(table) == set(own) and {r.learning_rate for r in _all(own)} == {rate}:
                continue  # each start's own rate is this one
            if curves and curves[0].phase == "tuning" and set(table) < {c.start for c in curves}:
                continue  # the own rate of some, which is no shared one
            if len(table) > 1 or (table and not own and len({r.start for r in runs}) == 1):
                contests.append(self.contest(table, own_rates=False))
        if not contests:
            notes.append("No two starts have test runs to compare, so there is no verdict.")
        return Setting(name, values, tuple(contests), curves, (*notes, *own_notes))

    def contest(self, table: _Table, own_rates: bool) -> Contest:
        levels = self.accuracies if self.accuracies is not None else _levels(table)
        starts = sorted(
            (_summarize(start, list(by_seed.values()), levels) for start, by_seed in table.items()),
            key=lambda start: (-start.score, start.start),
        )
        names = [start.start for start in starts]
        pairs = self.decide([self.pair(table, a, b, levels) for a, b in self.pairs_of(names)])
        shared = {start.learning_rate for start in starts}
        return Contest(
            own_rates=own_rates,
            learning_rate=shared.pop() if len(shared) == 1 else None,
            starts=tuple(starts),
            pairs=tuple(pairs),
            test_noise=_test_noise(table[names[0]].values(), starts[0]),
            notes=tuple(self.notes(table, pairs)),
        )

    def pairs_of(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Pairs, the start that is ahead first; or each with the baseline."""
        if self.baseline:
            if self.baseline not in names:
                return []
            return [(name, self.baseline) for name in names if name != self.baseline]
        return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]

    def pair(self, table: _Table, a: str, b: str, levels: Sequence[float]) -> Pair:
        """All but what depends on the other pairs."""
        both = sorted(table[a].keys() & table[b].keys())
        runs_a, runs_b = ([table[start][seed] for seed in both] for start in (a, b))
        accuracy_a, accuracy_b = (
            np.array([-np.inf if run.failure else run.accuracy for run in side])
            for side in (runs_a, runs_b)
        )
        done = np.isfinite(accuracy_a) & np.isfinite(accuracy_b)
        seeds = [seed for seed, ok in zip(both, done, strict=True) if ok]
        pair = self.measure(a, b, seeds, accuracy_a[done], accuracy_b[done])
        finished = [(x, y) for x, y, ok in zip(runs_a, runs_b, done, strict=True) if ok]
        extra = {
            "loss": _difference([(x.loss, y.loss) for x, y in finished]),
            "area": _difference([(_area(x), _area(y)) for x, y in finished]),
            "steps": tuple(_steps_difference(runs_a, runs_b, level) for level in levels),
        }
        if both:
            extra["improvement"] = statistics.improvement(accuracy_a, accuracy_b)
        if not done.all():
            failed_a, failed_b = np.isinf(accuracy_a), np.isinf(accuracy_b)
            only_a, only_b = int((failed_a & ~failed_b).sum()), int((failed_b & ~failed_a).sum())
            p = statistics.mcnemar_p(only_a, only_b)
            if self.anytime:
                p = min(1.0, 1 / statistics.failure_e_value(only_a, only_b))
            extra["failures"] = FailureDifference(
                only_a, only_b, int((failed_a & failed_b).sum()), p, p
            )
            if len(both) > 1:
                ranks = statistics.rank_differences(accuracy_a, accuracy_b)
                extra["p_ranks"] = float(statistics.sign_flip_p(ranks))
        return dataclasses.replace(pair, **extra)

    def measure(self, a: str, b: str, seeds: Sequence[int], x: np.ndarray, y: np.ndarray) -> Pair:
        """Difference, tests and effect sizes of two rows of accuracies."""
        if not self.anytime:  # which goes by the order in which the seeds came
            # In an order that does not depend on the seeds' numbers, nor on which start is first: a
            # sum's last bit would, and with it a digit of a sentence.
            order = np.lexsort((x - y, abs(x - y), x + y))
            x, y = x[order], y[order]
        n, d = len(seeds), x - y
        margin = self.margin or _default_margin([y] if b == self.baseline else [x, y])
        dz = g = p = sd = low = high = p_equivalence = bootstrap = None
        if n >= 2:
            sd, p = float(d.std(ddof=1)), float(statistics.sign_flip_p(d))
            low, high, p_equivalence = statistics.equivalence(d, margin, ALPHA)
        difference = rates.estimate(d)
        if n >= 2 and self.anytime:
            p, p_equivalence, low, high = statistics.anytime_p(d), None, None, None
            if math.isfinite(radius := statistics.sequence_radius(n, ALPHA)):
                low, high = (difference.value + sign * radius * sd for sign in (-1, 1))
            difference = dataclasses.replace(difference, low=low, high=high)
        if n >= LEAST_SEEDS:
            dz, g = statistics.effect_size(d)
        if n >= statistics.LEAST_BOOTSTRAP and not self.anytime:
            bootstrap = statistics.bootstrap_t_interval(d)
        return Pair(
            a=a,
            b=b,
            seeds=tuple(seeds),
            difference=difference,
            sd=sd,
            p=p,
            p_adjusted=p,
            dz=dz,
            g=g,
            improvement=statistics.improvement(x, y) if n else None,
            bootstrap=bootstrap,
            margin=margin,
            equivalence=None if low is None else (low, high),
            p_equivalence=p_equivalence,
            verdict=NO_VERDICT,
            anytime=self.anytime,
        )

    def decide(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The pairs with adjusted p, verdicts and sentences."""
        adjusted = statistics.holm([1.0 if pair.p is None else pair.p for pair in pairs])
        failures = statistics.holm([pair.failures.p if pair.failures else 1.0 for pair in pairs])
        decided = []
        for pair, p, p_failures in zip(pairs, adjusted, failures, strict=True):
            if pair.p is not None:
                pair = dataclasses.replace(pair, p_adjusted=float(p))
            if pair.failures:
                counted = dataclasses.replace(pair.failures, p_adjusted=float(p_failures))
                pair = dataclasses.replace(pair, failures=counted)
            if len(pair.seeds) >= LEAST_SEEDS:
                low, high = pair.equivalence or (-math.inf, math.inf)
                found = classify(pair.difference.value, p, low, high, pair.margin)
                needed = seeds_to_tell(pair, len(pairs)) if found == CANNOT_TELL else (None, "")
                pair = dataclasses.replace(
                    pair, verdict=found, seeds_needed=needed[0], seeds_needed_if=needed[1]
                )
            decided.append(dataclasses.replace(pair, sentence=describe(pair, len(pairs))))
        return decided

    def notes(self, table: _Table, pairs: Sequence[Pair]) -> list[str]:
        notes = []
        seeds = {seed for by_seed in table.values() for seed in by_seed}
        for start, by_seed in sorted(table.items()):
            missing = sorted(seeds - by_seed.keys())
            if missing and not self.anytime:  # there, a start that is decided stops
                notes.append(
                    f"{start} has no run of {count(len(missing), 'seed', listed=missing)};"
                    " its pairs go without."
                )
        if self.baseline and self.baseline not in table:
            notes.append(f"The baseline {self.baseline} has no runs here: nothing is compared.")
        if pairs and not self.anytime:
            most = max(len(pair.seeds) for pair in pairs)
            needed = statistics.least_seeds(ALPHA / len(pairs))
            if most < needed:
                notes.append(
                    f"With {count(most, 'seed')} and {count(len(pairs), 'pair')} no difference,"
                    " however large, can be told from chance: the smallest p is"
                    f" {min(1, statistics.smallest_p(most) * len(pairs)):.3g}"
                    f"{' after Holm' if len(pairs) > 1 else ''}."
                    f" It takes at least {needed} seeds."
                )
        return notes

    def overall(
        self, settings: Sequence[Setting], runs: Sequence[Sequence[Run]]
    ) -> tuple[Overall, ...]:
        """Own rates together; shared rates together, each rate apart where settings have many."""
        found = []
        groups: dict[str, list[tuple[Setting, Contest, Sequence[Run]]]] = {}
        shared = [[c for c in setting.contests if not c.own_rates] for setting in settings]
        alone = all(len(contests) <= 1 for contests in shared)
        for setting, group in zip(settings, runs, strict=True):
            for contest in setting.contests:
                title = contest.title
                if not contest.own_rates and alone:
                    title = "all at one rate within each setting"
                groups.setdefault(title, []).append((setting, contest, group))
        for title, parts in groups.items():
            if len(parts) > 1:
                found.append(self._overall(title, parts))
        return tuple(found)

    def _overall(self, title, parts) -> Overall:
        names = sorted(
            set.intersection(*({s.start for s in contest.starts} for _, contest, _ in parts))
        )
        accuracy = {
            (start, i): {
                run.seed: 0.0 if run.failure else run.accuracy
                for run in _runs_of(contest, start, runs)
            }
            for i, (_, contest, runs) in enumerate(parts)
            for start in names
        }
        failed = {
            start: {
                run.seed
                for _, contest, runs in parts
                for run in _runs_of(contest, start, runs)
                if run.failure
            }
            for start in names
        }
        means = {
            start: statistics.interquartile_mean(
                [a for i in range(len(parts)) for a in accuracy[start, i].values()]
            )
            for start in names
        }
        areas = _profile_areas(names, [contest for _, contest, _ in parts])
        starts = [StartOverall(start, means[start], areas.get(start)) for start in names]
        starts.sort(key=lambda start: (-start.interquartile_mean, start.start))
        pairs = []
        for a, b in self.pairs_of([start.start for start in starts]):
            sides = [accuracy[start, i] for start in (a, b) for i in range(len(parts))]
            seeds = sorted(set.intersection(*(set(side) for side in sides)) - failed[a] - failed[b])
            x, y = (
                np.mean([[accuracy[start, i][s] for s in seeds] for i in range(len(parts))], 0)
                for start in (a, b)
            )
            pairs.append(self.measure(a, b, seeds, x, y))
        decided = self.decide(pairs)
        return Overall(
            title=title,
            settings=tuple(setting.name for setting, _, _ in parts),
            starts=tuple(starts),
            pairs=tuple(decided),
            counts=tuple(_count_verdicts(p, [contest for _, contest, _ in parts]) for p in decided),
        )


def _table(runs: Iterable[Run]) -> dict[str, dict[int, Run]]:
    table: dict[str, dict[int, Run]] = {}
    for run in runs:
        table.setdefault(run.start, {})[run.seed] = run
    return table


def _all(table: _Table) -> list[Run]:
    return [run for by_seed in table.values() for run in by_seed.values()]


def _own_tables(runs, curves) -> tuple[dict[str, dict[int, Run]], list[str]]:
    """The test runs of each start at its own rate, and what was left out."""
    test = [run for run in runs if run.phase == "test"]
    best = {curve.start: curve.best for curve in curves if curve.phase == "tuning"}
    if not best:
        given: dict[str, set] = {}
        for run in test:
            given.setdefault(run.start, set()).add(run.learning_rate)
        each_one = all(len(values) == 1 for values in given.values())
        if each_one and len({rate for values in given.values() for rate in values}) > 1:
            return _table(test), [
                "Each start ran at a rate of its own; how these were chosen is not in the rows."
            ]
        return {}, []
    notes = []
    tuned_on = {run.seed for run in runs if run.phase == "tuning"}
    own = [run for run in test if best.get(run.start) == run.learning_rate]
    fresh = [run for run in own if run.seed not in tuned_on]
    used = sorted({run.seed for run in own} & tuned_on)
    if used:
        notes.append(
            f"{count(len(used), 'seed', listed=used)} also chose the rates, and so are left out of"
            " the verdict at own rates."
        )
    for start in sorted(best.keys() - {run.start for run in fresh}):
        notes.append(
            f"{start} has no test runs with fresh seeds at its best rate {best[start]:g}: run them."
        )
    return _table(fresh), notes


def _runs_of(contest: Contest, start: str, runs: Sequence[Run]) -> list[Run]:
    """The runs of a setting that a contest judged."""
    found = next(s for s in contest.starts if s.start == start)
    return [
        run
        for run in runs
        if run.start == start
        and run.phase == "test"
        and run.learning_rate == found.learning_rate
        and run.seed in found.seeds
    ]


def _summarize(start: str, runs: Sequence[Run], levels: Sequence[float]) -> Start:
    done = [run for run in runs if not run.failure]
    accuracy = [run.accuracy for run in done]
    seconds = [run.seconds for run in runs if run.seconds is not None]
    failed = len(runs) - len(done)
    return Start(
        start=start,
        learning_rate=runs[0].learning_rate,
        seeds=tuple(sorted(run.seed for run in runs)),
        failed=failed,
        failed_interval=statistics.clopper_pearson(failed, len(runs)),
        failures=tuple(f"seed {run.seed}: {run.failure}" for run in runs if run.failure),
        accuracy=rates.estimate(accuracy),
        sd=float(np.std(accuracy, ddof=1)) if len(done) > 1 else None,
        loss=rates.estimate([run.loss for run in done if run.loss is not None]),
        area=rates.estimate([area for run in done if (area := _area(run)) is not None]),
        steps=tuple(_steps_to(runs, level) for level in levels),
        seconds=float(np.mean(seconds)) if seconds else None,
        score=rates.score(runs),
    )


def _area(run: Run) -> float | None:
    """Mean log loss over the run, of the test loss or else of the training loss."""
    loss = run.eval_loss or run.train_loss
    return statistics.mean_log_loss(run.step, loss) if loss and np.isfinite(loss).all() else None


def _levels(table: _Table) -> tuple[float, ...]:
    """The three highest accuracies of the scale that half of the best start's runs reach."""
    peaks = [
        [np.nanmax(run.eval_accuracy) for run in by_seed.values() if _has_curve(run)]
        for by_seed in table.values()
    ]
    top = max((float(np.median(values)) for values in peaks if values), default=0.0)
    return tuple(level for level in _LEVELS if level <= top)[-3:]


def _has_curve(run: Run) -> bool:
    return not run.failure and bool(np.isfinite(run.eval_accuracy).any())


def _time(run: Run, level: float) -> float:
    """Steps to an accuracy; inf: not reached, or the run failed."""
    if not _has_curve(run):
        return math.inf
    return statistics.first_step(run.step, run.eval_accuracy, level)


def _steps_to(runs: Sequence[Run], level: float) -> StepsTo:
    times = np.array([_time(run, level) for run in runs])
    # A run that failed would never have: it is watched as long as the longest.
    budget = max((run.step[-1] for run in runs if run.step), default=0.0)
    ends = [budget if run.failure or not run.step else run.step[-1] for run in runs]
    reached = np.isfinite(times)
    median = statistics.kaplan_meier_median(np.where(reached, times, ends), reached)
    return StepsTo(level, int(reached.sum()), len(runs), median if median < math.inf else None)


def _steps_difference(a: Sequence[Run], b: Sequence[Run], level: float) -> StepsDifference:
    times_a, times_b = ([_time(run, level) for run in side] for side in (a, b))
    if not times_a:
        return StepsDifference(level, 0.5, None)
    ranks = statistics.rank_differences(times_a, times_b)
    p = float(statistics.sign_flip_p(ranks)) if len(ranks) > 1 else None
    return StepsDifference(level, statistics.improvement(times_b, times_a), p)


def _difference(pairs: Sequence[tuple[float | None, float | None]]) -> Difference | None:
    d = [x - y for x, y in pairs if x is not None and y is not None]
    if not d:
        return None
    p = float(statistics.sign_flip_p(d)) if len(d) > 1 else None
    return Difference(len(d), rates.estimate(d), p)


def _default_margin(sides: Sequence[np.ndarray]) -> float:
    """Half the sd from seed to seed, of several starts the root mean square of theirs."""
    if len(sides[0]) < 2:
        return LEAST_MARGIN
    return max(float(np.sqrt(np.mean([np.var(x, ddof=1) for x in sides]))) / 2, LEAST_MARGIN)


def _test_noise(runs: Iterable[Run], leader: Start) -> float | None:
    """sqrt(p (1 - p) / n) of n test images, if it is known how many."""
    images = {run.test_images for run in runs}
    n = images.pop() if len(images) == 1 else None
    if n is None or leader.accuracy is None:
        return None
    return math.sqrt(leader.accuracy.value * (1 - leader.accuracy.value) / n)


def _profile_areas(names: Sequence[str], contests: Sequence[Contest]) -> dict[str, float]:
    """Areas of the profiles of steps to the highest accuracy that the median of a start reaches."""
    columns = []
    for contest in contests:
        by_start = {start.start: start.steps for start in contest.starts}
        for i in reversed(range(len(contest.starts[0].steps))):
            times = [by_start[name][i].median or math.inf for name in names]
            if min(times, default=math.inf) < math.inf:
                columns.append(times)
                break
    if len(columns) < len(contests):
        return {}
    areas = statistics.profile_area(np.transpose(columns))
    return {name: float(area) for name, area in zip(names, areas, strict=True)}


def _count_verdicts(pair: Pair, contests: Sequence[Contest]) -> dict[str, int]:
    """In how many contests which verdict holds of the pair, turned as the pair is."""
    counts: dict[str, int] = {}
    for contest in contests:
        for other in contest.pairs:
            if {other.a, other.b} == {pair.a, pair.b}:
                word = other.verdict if other.a == pair.a else opposite(other.verdict)
                counts[word] = counts.get(word, 0) + 1
    return counts
