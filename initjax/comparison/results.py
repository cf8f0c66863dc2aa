"""What a comparison finds, as typed values; `Verdict.to_json` writes all of them.

Accuracies and their differences are in [0, 1], as in the rows; words and tables give them in points
(1 point = 0.01). None stands for what so few runs cannot say.
"""

import dataclasses
from typing import Any

SCHEMA = 1

BETTER, WORSE, EQUIVALENT, CANNOT_TELL = "better", "worse", "equivalent", "cannot tell"
BETTER_WITHIN, WORSE_WITHIN = "better but within the margin", "worse but within the margin"
NO_VERDICT = "no verdict"  # of fewer than three seeds


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean and its interval, which a single value does not have."""

    value: float
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class StepsTo:
    """How soon a start's runs reach an accuracy.

    Attributes:
      accuracy: the level.
      reached: how many runs did.
      runs: of how many.
      median: steps, by Kaplan-Meier; None: half of them did not.
    """

    accuracy: float
    reached: int
    runs: int
    median: float | None


@dataclasses.dataclass(frozen=True)
class Start:
    """One start's runs at one setting and rate.

    Attributes:
      start: its name.
      learning_rate: None: not told.
      seeds: of all its runs, failed ones too.
      failed: how many failed.
      failed_interval: 95 % interval of the probability to fail (Clopper-Pearson).
      failures: the reasons.
      accuracy: mean of the runs that did not fail, with its 95 % t interval.
      sd: from seed to seed.
      loss: likewise.
      area: mean of log loss over the run, likewise.
      steps: to several accuracies.
      seconds: mean.
      score: mean accuracy, failed runs counting 0; starts are ordered by it.
    """

    start: str
    learning_rate: float | None
    seeds: tuple[int, ...]
    failed: int
    failed_interval: tuple[float, float]
    failures: tuple[str, ...]
    accuracy: Estimate | None
    sd: float | None
    loss: Estimate | None
    area: Estimate | None
    steps: tuple[StepsTo, ...]
    seconds: float | None
    score: float


@dataclasses.dataclass(frozen=True)
class Difference:
    """Mean paired difference a - b of a secondary quantity; p is not adjusted for several pairs."""

    seeds: int
    mean: Estimate
    p: float | None


@dataclasses.dataclass(frozen=True)
class FailureDifference:
    """Seeds at which only one of two starts failed, and McNemar's exact p (and Holm's).

    Where `Pair.anytime`, p is 1 / `statistics.failure_e_value`.
    """

    only_a: int
    only_b: int
    both: int
    p: float
    p_adjusted: float


@dataclasses.dataclass(frozen=True)
class StepsDifference:
    """Which of two starts reaches an accuracy sooner; runs that do not reach it come last.

    Attributes:
      accuracy: the level.
      a_sooner: probability over seeds, ties counting 1/2.
      p: sign-flip of the ranks; not adjusted.
    """

    accuracy: float
    a_sooner: float
    p: float | None


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two starts, seed by seed; all differences are a - b, of seeds at which neither failed.

    Attributes:
      a, b: the starts.
      seeds: the seeds at which neither failed.
      difference: mean accuracy difference, with its 95 % t interval.
      sd: of the differences.
      p: of the sign-flip test.
      p_adjusted: p after Holm, over the pairs of one contest.
      dz: mean / sd.
      g: the same with Hedges' correction.
      improvement: P(A > B) over seeds; a failed run loses, ties count 1/2.
      bootstrap: 95 % interval by bootstrap-t, of 20 seeds and more.
      margin: within which a difference is of no practical interest.
      equivalence: the 90 % interval of two one-sided tests.
      p_equivalence: their p.
      verdict: of a against b, one of this module's constants.
      seeds_needed: of "cannot tell", how many seeds would; None also where 10,000 would not.
      seeds_needed_if: what is then assumed: "the difference is as seen", "there is no difference".
      failures: None where neither failed anywhere, or for means over settings.
      p_ranks: sign-flip of the ranks of accuracy with failures last; None as `failures`.
      loss: final loss.
      area: mean log loss over the run.
      steps: to several accuracies.
      anytime: p is 1 / the largest e-value on the way (at most 1), and the intervals are 95 %
        confidence sequences: all hold however the number of seeds was chosen.
      sentence: the verdict in words.
    """

    a: str
    b: str
    seeds: tuple[int, ...]
    difference: Estimate | None
    sd: float | None
    p: float | None
    p_adjusted: float | None
    dz: float | None
    g: float | None
    improvement: float | None
    bootstrap: tuple[float, float] | None
    margin: float
    equivalence: tuple[float, float] | None
    p_equivalence: float | None
    verdict: str
    seeds_needed: int | None = None
    seeds_needed_if: str = ""
    failures: FailureDifference | None = None
    p_ranks: float | None = None
    loss: Difference | None = None
    area: Difference | None = None
    steps: tuple[StepsDifference, ...] = ()
    anytime: bool = False
    sentence: str = ""


@dataclasses.dataclass(frozen=True)
class Contest:
    """Starts that ran at one setting, all at one rate or each at its own.

    Attributes:
      own_rates: whether each start has the rate that is best for it.
      learning_rate: the shared one, if there is one.
      starts: in the order of their scores.
      pairs: all of them, or those with the baseline.
      test_noise: sd of the leader's accuracy that the choice of the test images alone gives.
      notes: what a reader must know of these runs.
    """

    own_rates: bool
    learning_rate: float | None
    starts: tuple[Start, ...]
    pairs: tuple[Pair, ...]
    test_noise: float | None
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Such as "each at its own rate"."""
        if self.own_rates:
            return "each start at its own rate"
        return "" if self.learning_rate is None else f"all at rate {self.learning_rate:g}"


@dataclasses.dataclass(frozen=True)
class RatePoint:
    """A start's runs at one rate; the accuracy is of those that did not fail."""

    learning_rate: float
    runs: int
    failed: int
    accuracy: Estimate | None
    score: float


@dataclasses.dataclass(frozen=True)
class RateCurve:
    """Accuracy of a start against the learning rate.

    Attributes:
      start: its name.
      phase: "tuning"; or "test", where the curve only describes.
      points: by rate.
      best: the rate of the highest mean accuracy, failed runs counting 0.
      at_edge: whether it is the first or last of the grid: a still better one may lie outside.
      plateau: lowest and highest rate around the best within one sd of the paired differences.
      expected_best: accuracy to expect of the best of 1, 2, ... rates tried (Dodge et al. 2019).
    """

    start: str
    phase: str
    points: tuple[RatePoint, ...]
    best: float
    at_edge: bool
    plateau: tuple[float, float] | None
    expected_best: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What was found at one setting.

    Attributes:
      name: how it differs from the other settings; empty of a single one.
      values: all of it.
      contests: at own rates first.
      curves: accuracy against rate, where there are several rates.
      notes: about all of it.
    """

    name: str
    values: dict[str, str]
    contests: tuple[Contest, ...]
    curves: tuple[RateCurve, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class StartOverall:
    """A start over several settings.

    Attributes:
      start: its name.
      interquartile_mean: of the accuracies of all its runs, failed ones counting 0.
      profile: area of its performance profile up to 4 times the fastest's steps, in [0, 1].
    """

    start: str
    interquartile_mean: float
    profile: float | None


@dataclasses.dataclass(frozen=True)
class Overall:
    """Several settings together, which count alike.

    Attributes:
      title: which contests these are.
      settings: their names.
      starts: by interquartile mean.
      pairs: of each seed's mean accuracy over the settings.
      counts: for each pair, in how many settings which verdict holds.
    """

    title: str
    settings: tuple[str, ...]
    starts: tuple[StartOverall, ...]
    pairs: tuple[Pair, ...]
    counts: tuple[dict[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """All that a comparison finds.

    Attributes:
      settings: each with its contests.
      overall: over the settings, where there are several.
      starts: all names, in a fixed order (pictures take their colors from it).
      baseline: the start that the others are compared with; empty: all pairs.
      margin: that was asked for; None: half the sd from seed to seed, at least 0.001.
      alpha: level of the tests.
      moves: what the seeds move; empty: the rows do not tell.
      anytime: whether seeds were added until all was decided; see `Pair`.
      notes: how the runs came about.
    """

    settings: tuple[Setting, ...]
    overall: tuple[Overall, ...]
    starts: tuple[str, ...]
    baseline: str
    margin: float | None
    alpha: float
    moves: tuple[str, ...]
    anytime: bool = False
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields of all these classes, nested, with the schema's number under "version"."""
        return {"version": SCHEMA, **dataclasses.asdict(self)}
