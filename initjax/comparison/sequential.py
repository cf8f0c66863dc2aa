"""Seeds are added until each pair of starts is decided, in a way that looking does not spoil.

After every batch of seeds the verdict is by the t e-process, with Holm's adjustment (e-Holm), and
by its confidence sequence (see `statistics.t_e_value`): a start goes on while one of its pairs is
undecided.
"""

from collections.abc import Callable, Sequence

from initjax.comparison.decisions import ALPHA, count
from initjax.comparison.grid import job_at, name_of, setting_of
from initjax.comparison.population import Job
from initjax.comparison.results import CANNOT_TELL, EQUIVALENT, NO_VERDICT, Contest, Pair, Verdict
from initjax.comparison.rows import Run
from initjax.comparison.tables import capitalize, title_of
from initjax.comparison.tuning import Runner

LEAST_SEEDS = 5  # with fewer the confidence sequence is infinite

Judge = Callable[[Sequence[Run]], Verdict]


def run_until_decided(
    tested: Sequence[tuple[Job, float]],
    seeds: Sequence[int],
    most: int,
    batch: int,
    run: Runner,
    judge: Judge,
) -> tuple[list[Run], list[str]]:
    """Runs seeds until all pairs are decided, or there are `most`.

    Args:
      tested: (cell, learning rate) of what is compared.
      seeds: to begin with.
      most: how many seeds there may be.
      batch: how many are added at once, such as one a device.
      run: runs jobs, none of them twice.
      judge: the anytime-valid verdict on the test runs.

    Returns:
      (the test runs, sentences on where each pair stopped and why).
    """
    seeds, going, runs = list(seeds), list(tested), []
    new = seeds
    while True:
        runs += run([job_at(cell, rate, seed) for seed in new for cell, rate in going])
        verdict = judge(runs)
        open_cells = _undecided(verdict)
        going = [
            (cell, rate)
            for cell, rate in tested
            if (setting_of(cell), rate, name_of(cell)) in open_cells
        ]
        if not going or len(seeds) >= most:
            return runs, _notes(verdict, most)
        fresh = (seed for seed in range(2**32) if seed > max(seeds))
        new = [next(fresh) for _ in range(min(batch, most - len(seeds)))]
        seeds += new


def _is_decided(pair: Pair) -> bool:
    """By accuracy, or because one of the starts fails more."""
    return pair.verdict not in (CANNOT_TELL, NO_VERDICT) or _fails_more(pair)


def _fails_more(pair: Pair) -> bool:
    return pair.failures is not None and pair.failures.p_adjusted < ALPHA


def _undecided(verdict: Verdict) -> set[tuple]:
    """(setting, rate, start) of the starts that are in a pair without a decision."""
    found = set()
    for setting in verdict.settings:
        key = tuple(sorted(setting.values.items()))
        for contest in setting.contests:
            rates = {start.start: start.learning_rate for start in contest.starts}
            for pair in contest.pairs:
                if not _is_decided(pair):
                    found |= {(key, rates[start], start) for start in (pair.a, pair.b)}
    return found


def _notes(verdict: Verdict, most: int) -> list[str]:
    notes = []
    for setting in verdict.settings:
        for contest in setting.contests:
            head = capitalize(title_of(setting, contest))
            notes += [f"{head}: {text}" if head else text for text in _stops(contest, most)]
    return notes


def _stops(contest: Contest, most: int) -> list[str]:
    lines = []
    for pair in contest.pairs:
        n = count(len(pair.seeds), "seed")
        if pair.verdict in (CANNOT_TELL, NO_VERDICT) and _fails_more(pair):
            more = pair.a if pair.failures.only_a > pair.failures.only_b else pair.b
            why = f"decided by failures: {more} fails more, e-value {1 / pair.failures.p:.3g}"
        elif not _is_decided(pair):
            why = f"not decided at {most} seeds, the most that were allowed"
        elif pair.verdict == EQUIVALENT:
            why = f"decided at {n}: the confidence sequence lies within the margin"
        else:
            why = f"decided at {n}: e-value {1 / pair.p:.3g}"
        lines.append(f"{pair.a} against {pair.b} was {why}.")
    return lines
