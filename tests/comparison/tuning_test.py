"""Rates chosen fairly, and seeds added validly, on runs that are made up in no time."""

import collections
import math

import jax
import numpy as np
import pytest

from initjax.comparison import grid as grids
from initjax.comparison.decisions import ALPHA
from initjax.comparison.results import BETTER, EQUIVALENT
from initjax.comparison.sequential import run_until_decided
from initjax.comparison.study import Study
from initjax.comparison.tuning import rates_around, tune, tuning_seeds
from initjax.comparison.verdict import judge
from initjax.support.errors import UserError

BEST = {"nspl": 0.1, "he_normal": 0.03, "zeros": 0.1}


class World:
    """Runs jobs: accuracy falls with the distance of log rate from the start's best."""

    def __init__(self, best=BEST, sd=0.001, gap=0.0, failing=()):
        self.best, self.sd, self.gap, self.failing = best, sd, gap, failing
        self.jobs = []

    def __call__(self, jobs):
        self.jobs += jobs
        return [self.run(job) for job in jobs]

    def run(self, job):
        start = grids.name_of(job)
        if start in self.failing:
            return job.row(failure="loss is nan at step 1")
        seed = [job.config.seed, *start.encode()]
        noise = self.sd * np.random.default_rng(seed).standard_normal()
        distance = math.log(job.config.learning_rate / self.best[start])
        accuracy = 0.7 - 0.005 * distance**2 + noise + self.gap * (start == "nspl")
        return job.row(accuracy=min(max(accuracy, 0.0), 1.0))


def create(init="nspl,he_normal", seeds=range(7), **texts):
    return grids.create_grid({"model": "mlp(width=8)", "init": init, **texts}, seeds)


def test_each_start_is_tuned_alike_and_tested_afresh():
    world, grid = World(), create()
    study = Study.create(grid, tune=True, baseline="he_normal")
    runs, verdict = study.run(world)
    tuning = [job for job in world.jobs if job.phase == "tuning"]
    test = [job for job in world.jobs if job.phase == "test"]
    assert len({job.key for job in world.jobs}) == len(world.jobs)  # none twice
    budgets = collections.defaultdict(set)
    for job in tuning:
        budgets[grids.name_of(job)].add((job.config.learning_rate, job.config.seed))
    assert budgets["nspl"] == budgets["he_normal"] and len(budgets["nspl"]) == 5 * 3
    assert {job.config.seed for job in tuning}.isdisjoint(range(7))
    assert {job.config.seed for job in test} == set(range(7))
    own = {
        start.start: start.learning_rate
        for contest in verdict.settings[0].contests
        if contest.own_rates
        for start in contest.starts
    }
    assert own == {"nspl": 0.1, "he_normal": 0.032}
    (shared,) = [c for c in verdict.settings[0].contests if not c.own_rates]
    assert shared.learning_rate in (0.032, 0.1) and len(shared.starts) == 2
    assert {(grids.name_of(j), j.config.learning_rate) for j in test} == {
        *own.items(), *((start, shared.learning_rate) for start in own)
    }  # fmt: skip
    curves = {curve.start: curve for curve in verdict.settings[0].curves}
    assert {c.phase for c in curves.values()} == {"tuning"}
    assert curves["nspl"].best == 0.1 and len(curves["nspl"].points) == 5
    assert curves["nspl"].plateau is not None
    assert any("held out of the training set" in note for note in verdict.notes)
    assert len(runs) == len(world.jobs)


def test_the_grid_grows_for_all_where_one_is_best_at_its_edge():
    best = {"nspl": 1.0, "he_normal": 0.01}
    world, grid = World(best), create(learning_rate="0.01,0.03,0.1")
    tuned = tune(grid.cells, grid.rates, (90, 91, 92), world)
    rates = {
        start: sorted({j.config.learning_rate for j in world.jobs if grids.name_of(j) == start})
        for start in best
    }
    assert rates["nspl"] == rates["he_normal"]
    assert rates["nspl"] == [0.0032, 0.01, 0.03, 0.1, 0.32, 1.0, 3.2]
    chosen = {(grids.name_of(cell), rate) for cell, rate in tuned.jobs}
    assert {("nspl", 1.0), ("he_normal", 0.01)} <= chosen
    assert any("grew by 0.0032, 0.32, 1, 3.2 for all" in note for note in tuned.notes)
    assert any("3 rates to begin with are few" in note for note in tuned.notes)


def test_the_grid_grows_no_further_than_is_said():
    world, grid = World({"nspl": 3000.0}), create("nspl", learning_rate="0.01,0.1,1")
    tuned = tune(grid.cells, grid.rates, (90, 91, 92), world)
    assert {cell_rate[1] for cell_rate in tuned.jobs} == {1000.0}
    assert any("not grown further than 3 steps" in note for note in tuned.notes)


def test_settings_are_tuned_apart():
    class BySize(World):
        def run(self, job):
            self.best = {"nspl": 0.1 if job.config.batch_size == 32 else 0.32}
            return super().run(job)

    grid = create("nspl", batch_size="32,64")
    tuned = tune(grid.cells, rates_around(0.1), (90, 91, 92), BySize())
    assert {(cell.config.batch_size, rate) for cell, rate in tuned.jobs} == {(32, 0.1), (64, 0.32)}


def test_shared_rates_without_tuning_have_a_verdict_each():
    _, verdict = Study.create(create(learning_rate="0.03,0.1,0.3")).run(World())
    contests = verdict.settings[0].contests
    assert [c.learning_rate for c in contests] == [0.03, 0.1, 0.3]
    assert not any(c.own_rates for c in contests)
    # The order of the two turns between the rates of which each is one's best.
    assert [c.starts[0].start for c in contests] == ["he_normal", "nspl", "nspl"]


def test_tuning_seeds_are_never_those_of_the_test():
    assert not set(tuning_seeds(range(20_000))) & set(range(20_000))
    assert len(set(tuning_seeds([10_001]))) == 3


@pytest.mark.parametrize("rate", [0.1, 3e-4])
def test_default_rates_are_half_decades(rate):
    rates = rates_around(rate)
    assert len(rates) == 5 and rates[2] == rate
    assert np.allclose(np.diff(np.log10(rates)), 0.5, atol=0.02)


EQUAL = dict.fromkeys(BEST, 0.1)


def test_a_large_difference_needs_few_seeds():
    world = World(EQUAL, sd=0.001, gap=0.01)
    runs, verdict = Study.create(create(seeds=range(5)), until_decided=50).run(world)
    (pair,) = verdict.settings[0].contests[0].pairs
    assert pair.anytime and pair.verdict == BETTER and len(pair.seeds) < 10
    assert 1 / pair.p >= 1 / ALPHA
    assert "confidence sequence" in pair.sentence
    assert any(f"decided at {len(pair.seeds)} seeds: e-value" in note for note in verdict.notes)
    assert len(runs) == 2 * len(pair.seeds)


def test_equal_starts_stop_when_equivalent():
    grid = create("nspl,zeros", range(5))
    study = Study.create(grid, until_decided=60, margin=0.002)
    _, verdict = study.run(World(EQUAL, sd=0.001))
    (pair,) = verdict.settings[0].contests[0].pairs
    assert pair.verdict == EQUIVALENT and 5 < len(pair.seeds) < 60
    assert any("within the margin" in note for note in verdict.notes)


def test_a_start_that_is_decided_stops_and_the_others_go_on():
    world = World(EQUAL, sd=0.001, gap=0.02)
    study = Study.create(create("nspl,he_normal,zeros", range(5)), until_decided=15, margin=1e-4)
    runs, verdict = study.run(world)
    number = collections.Counter(run.start for run in runs)
    assert number["nspl"] < number["he_normal"] == number["zeros"] == 15
    assert any("not decided at 15 seeds" in note for note in verdict.notes)
    assert not any("has no run of" in n for n in verdict.settings[0].contests[0].notes)


def test_a_start_that_always_fails_is_decided_by_its_failures():
    study = Study.create(create(seeds=range(5)), until_decided=40)
    runs, verdict = study.run(World(EQUAL, failing=["nspl"]))
    assert len(runs) <= 2 * (5 + jax.local_device_count())
    assert any("decided by failures: nspl fails more" in note for note in verdict.notes)


@pytest.mark.slow
def test_equal_starts_are_seldom_called_better_though_all_is_looked_at():
    """At most 5 % where a t test after each seed would find 25 %."""
    wrong = 0
    cells = [(cell, 0.1) for cell in create().cells]
    for shift in range(50):
        world = World(EQUAL, sd=0.01)

        def run(jobs, world=world, shift=shift):
            moved = [grids.job_at(j, 0.1, j.config.seed + 1000 * shift) for j in jobs]
            return [
                job.row(accuracy=row.accuracy) for job, row in zip(jobs, world(moved), strict=True)
            ]

        runs, _ = run_until_decided(
            cells, range(5), 30, 1, run, lambda runs: judge(runs, anytime=True, margin=1e-6)
        )
        (pair,) = judge(runs, anytime=True, margin=1e-6).settings[0].contests[0].pairs
        wrong += pair.p < ALPHA
    assert wrong <= 5  # the .95 quantile of a binomial of .05


@pytest.mark.parametrize(
    ("seeds", "options", "message"),
    [
        (range(7), {"until_decided": 6}, "--until_decided=6 must be 7 seeds or more"),
        (range(2), {"until_decided": 4}, "--until_decided=4 must be 5 seeds or more"),
        (range(7), {"margin": 2.0}, "--margin=2"),
        (range(7), {"baseline": "ones"}, "--baseline='ones'"),
    ],
)
def test_wrong_options(seeds, options, message):
    with pytest.raises(UserError, match=message):
        Study.create(create(seeds=seeds), **options)


def test_until_decided_needs_two_starts():
    with pytest.raises(UserError, match="two starts"):
        Study.create(create("nspl"), until_decided=20)
