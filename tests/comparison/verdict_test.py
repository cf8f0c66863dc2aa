"""Verdicts: rarely wrong without a difference, and unmoved by what should not move them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from initjax.comparison import Run, judge, plan
from initjax.comparison.results import (
    BETTER,
    BETTER_WITHIN,
    CANNOT_TELL,
    EQUIVALENT,
    NO_VERDICT,
    WORSE,
    WORSE_WITHIN,
)
from initjax.support.errors import UserError

# The worked example of the statistics' tests, in points.
D = 0.01 * np.array([0.4, 0.1, 0.5, 0.3, -0.1, 0.6, 0.2, 0.4, 0.3, 0.3])

_MIRRORED = {
    BETTER: WORSE,
    WORSE: BETTER,
    BETTER_WITHIN: WORSE_WITHIN,
    WORSE_WITHIN: BETTER_WITHIN,
}


def _runs(accuracies, **fields):
    """Runs of {start: accuracies by seed}; None is a failure."""
    return [
        Run(start, seed, accuracy=a, failure="" if a is not None else "loss is nan", **fields)
        for start, values in accuracies.items()
        for seed, a in enumerate(values)
    ]


def _pairs(runs, **options):
    (setting,) = judge(runs, **options).settings
    (contest,) = setting.contests
    return contest.pairs


def _example(**options):
    b = np.linspace(0.5, 0.52, 10)
    (pair,) = _pairs(_runs({"a": b + D, "b": b}), **options)
    return pair


def test_the_worked_example_as_a_pair():
    pair = _example(margin=0.005)
    d = pair.difference
    assert (d.value, d.low, d.high) == pytest.approx((0.003, 0.00156929, 0.00443071), abs=1e-8)
    assert pair.sd == pytest.approx(0.002)
    assert pair.p == pair.p_adjusted == 0.005859375
    assert (pair.dz, pair.g) == pytest.approx((1.5, 1.370812), abs=1e-6)
    assert pair.equivalence == pytest.approx((0.00184064, 0.00415936), abs=1e-8)
    assert pair.p_equivalence == pytest.approx(0.00575399, abs=1e-7)
    assert pair.improvement == 0.9
    assert pair.verdict == BETTER_WITHIN
    assert pair.sentence == (
        "a is better than b, but within the margin of 0.5 points: +0.30 points (95 % interval"
        " +0.16 to +0.44, 10 seeds, p 0.0059)."
    )


def test_the_default_margin_is_half_the_baselines_sd():
    expected = np.std(np.linspace(0.5, 0.52, 10), ddof=1) / 2
    assert _example(baseline="b").margin == pytest.approx(expected)
    (pair,) = _pairs(_runs({"a": [0.5] * 5, "b": [0.5] * 5}))
    assert pair.margin == 0.001


@pytest.mark.parametrize(
    "shift, sd, baseline, verdict",
    [
        (0.02, 0.002, "b", BETTER),
        (0.02, 0.002, "a", WORSE),
        (0.0, 0.001, "b", EQUIVALENT),
        (0.003, 0.001, "b", BETTER_WITHIN),
        (0.003, 0.001, "a", WORSE_WITHIN),
        (0.001, 0.02, "b", CANNOT_TELL),
    ],
)
def test_each_verdict(shift, sd, baseline, verdict):
    noise = np.linspace(-1, 1, 10) / np.std(np.linspace(-1, 1, 10), ddof=1)
    runs = _runs({"a": 0.5 + shift + sd * noise, "b": [0.5] * 10})
    (pair,) = _pairs(runs, baseline=baseline, margin=0.005)
    assert pair.verdict == verdict
    assert (pair.seeds_needed is not None) == (verdict == CANNOT_TELL)
    assert ("seeds would" in pair.sentence) == (verdict == CANNOT_TELL)


def test_cannot_tell_says_how_many_seeds_would():
    noise = 0.01 * np.linspace(-1, 1, 5)
    (small,) = _pairs(_runs({"a": 0.5 + noise, "b": [0.5] * 5}), margin=0.005)
    assert small.verdict == CANNOT_TELL and "if there is no difference" in small.sentence
    (large,) = _pairs(_runs({"a": 0.6 + noise, "b": [0.5] * 5}), margin=0.001)
    assert large.verdict == CANNOT_TELL  # five seeds never reach p < .05
    assert large.seeds_needed == 6 and "if the difference is as seen" in large.sentence
    (wide,) = _pairs(_runs({"a": 0.5 + 40 * noise, "b": [0.5] * 5}), margin=0.001)
    assert wide.seeds_needed is None and "more than 10,000 seeds would" in wide.sentence


@pytest.mark.slow
@pytest.mark.parametrize("starts", [2, 3])
def test_equal_starts_are_rarely_called_better(starts):
    rng = np.random.default_rng(starts)
    claims = 0
    for _ in range(200):
        shared = rng.normal(0.9, 0.002, 10)
        names = "abc"[:starts]
        pairs = _pairs(_runs({name: shared + rng.normal(0, 0.002, 10) for name in names}))
        claims += any(
            pair.verdict in (BETTER, WORSE, BETTER_WITHIN, WORSE_WITHIN) for pair in pairs
        )
    assert claims <= 16


@pytest.mark.slow
def test_printed_intervals_cover():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(250):
        (pair,) = _pairs(_runs(dict(zip("ab", rng.normal(0.5, 0.01, (2, 5)), strict=True))))
        covered.append(pair.difference.low <= 0 <= pair.difference.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)


_tables = st.integers(3, 8).flatmap(
    lambda n: st.lists(
        st.lists(st.integers(0, 1000).map(lambda x: x / 1000), min_size=n, max_size=n),
        min_size=3,
        max_size=3,
    )
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True)
@given(_tables, st.randoms())
def test_order_of_rows_and_numbers_of_seeds_change_nothing(table, random):
    runs = _runs(dict(zip("abc", table, strict=True)))
    expected = judge(runs)
    assert judge(random.sample(runs, len(runs))) == expected
    renamed = {seed: new for new, seed in enumerate(random.sample(range(8), 8))}
    pairs = _pairs([dataclasses.replace(run, seed=renamed[run.seed]) for run in runs])
    for pair, other in zip(pairs, expected.settings[0].contests[0].pairs, strict=True):
        assert pair.sentence == other.sentence
        assert pair.p_adjusted == other.p_adjusted
        assert pair.difference.low == pytest.approx(other.difference.low)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True)
@given(_tables)
def test_names_of_starts_and_direction_change_only_signs(table):
    runs = _runs(dict(zip("abc", table, strict=True)))
    (first,) = [p for p in _pairs(runs, baseline="b", margin=0.01) if p.a == "a"]
    (second,) = [p for p in _pairs(runs, baseline="a", margin=0.01) if p.a == "b"]
    d, e = first.difference, second.difference
    assert (d.value, d.low, d.high) == pytest.approx((-e.value, -e.high, -e.low))
    assert (first.p, first.p_equivalence) == pytest.approx((second.p, second.p_equivalence))
    assert first.dz == pytest.approx(-second.dz)
    assert first.improvement == pytest.approx(1 - second.improvement)
    assert first.equivalence == pytest.approx(tuple(-x for x in reversed(second.equivalence)))
    if first.p_adjusted == second.p_adjusted:  # it depends on the third start too
        assert second.verdict == _MIRRORED.get(first.verdict, first.verdict)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True)
@given(_tables)
def test_one_more_start_lowers_no_adjusted_p(table):
    values = dict(zip("abc", table, strict=True))
    (alone,) = _pairs(_runs({"a": values["a"], "b": values["b"]}))
    (beside,) = [p for p in _pairs(_runs(values)) if {p.a, p.b} == {"a", "b"}]
    assert beside.p == alone.p and beside.p_adjusted >= alone.p_adjusted


def test_a_failing_replica_changes_no_interval_of_the_survivors():
    rng = np.random.default_rng(1)
    values = {name: rng.normal(0.9, 0.01, 8).tolist() for name in "abc"}
    before = judge(_runs(values))
    values["a"].append(None)
    values["b"].append(0.9)
    values["c"].append(0.9)
    after = judge(_runs(values))

    def intervals(verdict, starts):
        (contest,) = verdict.settings[0].contests
        return {p.a + p.b: p.difference for p in contest.pairs if starts & {p.a, p.b}}, {
            s.start: s.accuracy for s in contest.starts if s.start in starts
        }

    pairs, starts = intervals(before, {"a"})
    pairs_after, starts_after = intervals(after, {"a"})
    assert starts == starts_after
    assert {frozenset(k): abs(d.value) for k, d in pairs.items()} == {
        frozenset(k): abs(d.value) for k, d in pairs_after.items()
    }
    (start,) = [s for s in after.settings[0].contests[0].starts if s.start == "a"]
    assert (start.failed, start.failures) == (1, ("seed 8: loss is nan",))
    assert start.failed_interval == pytest.approx((0.0028, 0.4825), abs=1e-4)


def test_failures_are_counted_apart():
    a, b = [0.9, 0.91, 0.92, None, None, None], [0.8, 0.81, 0.82, 0.83, 0.84, None]
    (pair,) = _pairs(_runs({"a": a, "b": b}), baseline="b")
    assert pair.seeds == (0, 1, 2) and pair.difference.value == pytest.approx(0.1)
    found = pair.failures
    assert (found.only_a, found.only_b, found.both, found.p) == (2, 0, 1, 0.5)
    assert pair.improvement == (3 + 0.5) / 6
    assert pair.p_ranks is not None
    assert "a failed at 3, b at 1 of 6 seeds" in pair.sentence
    (contest,) = judge(_runs({"a": a, "b": b})).settings[0].contests
    assert [s.start for s in contest.starts] == ["b", "a"]  # a failed run counts 0


def test_starts_that_never_finish():
    (pair,) = _pairs(_runs({"a": [None] * 4, "b": [0.5] * 4}))
    assert pair.difference is None and pair.verdict == NO_VERDICT
    assert "share no seed at which both finished" in pair.sentence
    assert pair.failures.only_b == 4


def test_two_seeds_have_intervals_and_no_verdict():
    pairs = _pairs(_runs({"a": [0.9, 0.91], "b": [0.1, 0.12], "c": [0.1, 0.1]}))
    for pair in pairs:
        assert pair.verdict == NO_VERDICT and pair.difference.low is not None
        assert "no verdict from 2 seeds" in pair.sentence and "better" not in pair.sentence


def test_one_seed_has_no_interval_and_no_better():
    verdict = judge(_runs({"a": [0.9], "b": [0.1]}))
    (contest,) = verdict.settings[0].contests
    (pair,) = contest.pairs
    assert pair.difference.low is None and pair.p is None and pair.verdict == NO_VERDICT
    assert all(start.accuracy.low is None for start in contest.starts)
    assert "better" not in pair.sentence + " ".join(contest.notes)


def test_too_few_seeds_for_any_difference_are_told():
    values = {name: np.linspace(0.1, 0.2, 6) + i / 10 for i, name in enumerate("abc")}
    (contest,) = judge(_runs(values)).settings[0].contests
    assert contest.notes == (
        "With 6 seeds and 3 pairs no difference, however large, can be told from chance: the"
        " smallest p is 0.0938 after Holm. It takes at least 7 seeds.",
    )
    assert {pair.verdict for pair in contest.pairs} == {CANNOT_TELL}


def test_a_plan_says_the_same_beforehand():
    assert plan(6, 3).least_seeds == 7 and "take at least 7 seeds" in plan(6, 3).sentence
    assert plan(6, 3, baseline=True).pairs == 2
    found = plan(10, 3)
    assert (found.pairs, found.smallest_p) == (3, 3 * 2 / 2**10)
    assert found.visible == pytest.approx(1.23, abs=0.01)
    assert plan(10, 5).visible > found.visible > plan(20, 3).visible
    assert plan(1, 2).visible is None and plan(3, 1).pairs == 0


def test_against_a_baseline_there_are_fewer_pairs():
    values = {name: np.linspace(0.1, 0.2, 6) for name in "abcd"}
    pairs = _pairs(_runs(values), baseline="c")
    assert [(p.a, p.b) for p in pairs] == [("a", "c"), ("b", "c"), ("d", "c")]


def test_missing_seeds_are_dropped_and_said():
    runs = _runs({"a": [0.5, 0.6, 0.7, 0.8], "b": [0.4, 0.5, 0.6, 0.7]})
    runs = [run for run in runs if (run.start, run.seed) != ("b", 2)]
    (contest,) = judge(runs).settings[0].contests
    assert contest.pairs[0].seeds == (0, 1, 3)
    assert "b has no run of seed 2; its pairs go without." in contest.notes


def test_twenty_seeds_have_a_bootstrap_beside_the_t_interval():
    rng = np.random.default_rng(2)
    (pair,) = _pairs(_runs({"a": rng.normal(0.9, 0.01, 20), "b": rng.normal(0.9, 0.01, 20)}))
    low, high = pair.bootstrap
    assert low < pair.difference.value < high
    assert low == pytest.approx(pair.difference.low, abs=0.002)
    assert _example().bootstrap is None


def _with_curves(start, seed, reaches, final=0.9, **fields):
    curve = [0.9 if step >= reaches else 0.1 for step in (10, 20, 30)]
    return Run(start, seed, accuracy=final, loss=1 - final, step=(10, 20, 30), eval_accuracy=curve,
               eval_loss=[2, 1, 1 - final], **fields)  # fmt: skip


def test_steps_area_and_loss():
    runs = [_with_curves("a", s, 10 if s else 20, 0.95) for s in range(5)]
    runs += [_with_curves("b", s, 30 if s < 2 else 99) for s in range(5)]
    (contest,) = judge(runs, accuracies=[0.5]).settings[0].contests
    a, b = contest.starts
    assert (a.steps[0].median, a.steps[0].reached) == (10, 5)
    assert (b.steps[0].median, b.steps[0].reached, b.steps[0].runs) == (None, 2, 5)
    (pair,) = contest.pairs
    assert pair.steps[0].a_sooner == 1 and pair.steps[0].p == 2 / 2**5
    assert pair.loss.mean.value == pytest.approx(-0.05)
    assert pair.area.mean.value < 0 and pair.area.seeds == 5


def test_levels_are_those_that_the_best_start_reaches():
    (contest,) = judge([_with_curves("a", s, 10) for s in range(3)]).settings[0].contests
    assert [to.accuracy for to in contest.starts[0].steps] == [0.8, 0.85, 0.9]
    (contest,) = judge(_runs({"a": [0.5] * 3})).settings[0].contests
    assert contest.starts[0].steps == () and contest.pairs == ()


def test_noise_of_the_test_set():
    (contest,) = judge(_runs({"a": [0.93] * 3}, test_images=10_000)).settings[0].contests
    assert contest.test_noise == pytest.approx(0.00255, abs=5e-6)


def _tuned(best):
    """Runs of phase "tuning" of starts whose best rates are given, over a grid of half-decades."""
    rng = np.random.default_rng(3)
    runs = []
    for start, own in best.items():
        for rate in (0.01, 0.03, 0.1, 0.3, 1.0):
            for seed in range(3):
                accuracy = 0.9 - 0.02 * np.log(rate / own) ** 2 + rng.normal(0, 0.001)
                runs.append(
                    Run(start, seed, (), rate, phase="tuning", accuracy=float(abs(accuracy)))
                )
    return runs


def _test_runs(rates, seeds=range(10, 20), seed=4):
    rng = np.random.default_rng(seed)
    return [
        Run(start, s, learning_rate=rate, accuracy=float(rng.normal(0.9, 0.002)))
        for start, rate in rates.items()
        for s in seeds
    ]


def test_own_rates_are_chosen_by_tuning_and_tested_on_fresh_seeds():
    tuning = _tuned({"a": 0.1, "b": 0.3})
    shared = [r for r in _test_runs({"a": 0.1, "b": 0.1}, seed=5) if r.start == "b"]
    runs = tuning + _test_runs({"a": 0.1, "b": 0.3}, range(2, 12)) + _runs_moved(shared, -8)
    (setting,) = judge(runs).settings
    own, at_one = setting.contests
    assert own.own_rates and {s.start: s.learning_rate for s in own.starts} == {"a": 0.1, "b": 0.3}
    assert own.pairs[0].seeds == tuple(range(3, 12))
    assert any(note.startswith("seed 2 also chose the rates") for note in setting.notes)
    assert not at_one.own_rates and at_one.learning_rate == 0.1
    a, b = setting.curves
    assert (a.best, b.best, a.at_edge) == (0.1, 0.3, False)
    assert a.plateau == (0.1, 0.1) and a.phase == "tuning"
    assert len(a.expected_best) == 5 and a.expected_best[4] > a.expected_best[0]


def _runs_moved(runs, shift):
    return [dataclasses.replace(run, seed=run.seed + shift) for run in runs]


def test_the_own_rate_may_be_the_same_for_all():
    runs = _tuned({"a": 0.1, "b": 0.1}) + _test_runs({"a": 0.1, "b": 0.1})
    (contest,) = judge(runs).settings[0].contests
    assert contest.own_rates and contest.learning_rate == 0.1


def test_what_is_unfair_or_unfinished_in_tuning_is_said():
    runs = _tuned({"a": 1.0, "b": 0.1})
    runs = [r for r in runs if (r.start, r.learning_rate) != ("b", 0.01)]
    (setting,) = judge(runs + _test_runs({"b": 0.1, "c": 0.1})).settings
    notes = " ".join(setting.notes)
    assert "Not tuned: c." in notes
    assert "Tuning was not the same for all (runs: a 15, b 12)" in notes
    assert "edge of the grid for a (1)" in notes
    assert "a has no test runs with fresh seeds at its best rate 1" in notes


def test_a_plateau_is_as_wide_as_the_noise():
    noise = {0.03: 0.001, 0.1: 0.0, 0.3: -0.001, 1.0: 0.5}
    runs = [
        Run("a", s, learning_rate=rate, phase="tuning", accuracy=0.9 - loss + 0.002 * (s - 1))
        for rate, loss in noise.items()
        for s in range(3)
    ]
    runs = [
        dataclasses.replace(r, accuracy=r.accuracy + 0.01 * (r.learning_rate == 0.3) * (r.seed - 1))
        for r in runs
    ]
    (curve,) = judge(runs).settings[0].curves
    assert curve.best == 0.3 and curve.plateau == (0.03, 0.3)


def test_a_failure_while_tuning_counts_0():
    runs = [
        Run("a", s, learning_rate=rate, phase="tuning", accuracy=0.9 if rate == 0.3 else 0.8,
            failure="diverged" if (rate, s) == (0.3, 0) else "")
        for rate in (0.1, 0.3) for s in range(3)
    ]  # fmt: skip
    (curve,) = judge(runs).settings[0].curves
    assert curve.best == 0.1 and curve.points[1].failed == 1


def test_no_rate_is_chosen_on_the_seeds_that_test_it():
    runs = _test_runs({"a": 0.1, "b": 0.1}) + _test_runs({"a": 0.3, "b": 0.3}, seed=6)
    (setting,) = judge(runs).settings
    assert [c.own_rates for c in setting.contests] == [False, False]
    assert any("no start's best rate is chosen" in note for note in setting.notes)
    assert {curve.phase for curve in setting.curves} == {"test"}


def test_rates_that_were_chosen_elsewhere():
    (setting,) = judge(_test_runs({"a": 0.1, "b": 0.3})).settings
    (contest,) = setting.contests
    assert contest.own_rates and any("how these were chosen" in note for note in setting.notes)


def test_tuning_alone_has_no_verdict():
    (setting,) = judge(_tuned({"a": 0.1, "b": 0.3})).settings
    assert setting.contests == () and any("no verdict" in note for note in setting.notes)


def test_settings_are_judged_apart_and_together():
    rng = np.random.default_rng(7)
    runs = []
    for model, gap in (("lenet", 0.02), ("mlp", 0.02), ("vgg", 0.0)):
        for seed in range(10):
            for start, shift in (("a", gap), ("b", 0.0)):
                accuracy = float(rng.normal(0.8 + shift, 0.002))
                fields = {"setting": {"model": model, "data": "digits"}}
                runs.append(
                    _with_curves(start, seed, 10 if start == "a" else 20, accuracy, **fields)
                )
    verdict = judge(runs)
    assert [setting.name for setting in verdict.settings] == [
        "model=lenet",
        "model=mlp",
        "model=vgg",
    ]
    (overall,) = verdict.overall
    (pair,) = overall.pairs
    assert pair.verdict == BETTER and pair.difference.value == pytest.approx(0.04 / 3, abs=0.001)
    assert sum(overall.counts[0].values()) == 3 and overall.counts[0][BETTER] == 2
    assert [s.start for s in overall.starts] == ["a", "b"]
    assert overall.starts[0].profile == 1 and overall.starts[1].profile == pytest.approx(2 / 3)


def test_what_cannot_be_judged_is_told():
    runs = _runs({"a": [0.5] * 3, "b": [0.5] * 3})
    with pytest.raises(UserError, match="no runs"):
        judge([])
    with pytest.raises(UserError, match="baseline='c' is not one of the starts: a, b"):
        judge(runs, baseline="c")
    with pytest.raises(UserError, match=r"margin=2 is not in \(0, 1\)"):
        judge(runs, margin=2.0)
    with pytest.raises(UserError, match="a, seed 0 is there twice with different values"):
        judge([*runs, Run("a", 0, accuracy=0.6)])
    measured = [dataclasses.replace(r, setting={"time": r.start + str(r.seed)}) for r in runs]
    with pytest.raises(UserError, match="No two starts share a setting: time differ"):
        judge(measured)


def test_a_baseline_that_one_setting_lacks():
    runs = _runs({"a": [0.5] * 3, "b": [0.5] * 3}, setting={"model": "x"})
    runs += _runs({"b": [0.5] * 3, "c": [0.5] * 3}, setting={"model": "y"})
    x, y = judge(runs, baseline="a").settings
    assert len(x.contests[0].pairs) == 1 and y.contests[0].pairs == ()
    assert any("The baseline a has no runs here" in note for note in y.contests[0].notes)
