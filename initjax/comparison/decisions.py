"""The rules of a verdict and its words: which holds, and how many seeds would tell."""

import dataclasses
from collections.abc import Sequence

from initjax.comparison import statistics
from initjax.comparison.results import (
    BETTER,
    BETTER_WITHIN,
    CANNOT_TELL,
    EQUIVALENT,
    NO_VERDICT,
    WORSE,
    WORSE_WITHIN,
    FailureDifference,
    Pair,
)

ALPHA = 0.05
LEAST_SEEDS = 3  # for a verdict


def classify(mean: float, p: float, low: float, high: float, margin: float) -> str:
    """The verdict, from p (adjusted) and the 90 % interval."""
    differs, is_within = p < ALPHA, -margin < low and high < margin
    if differs and is_within:
        return BETTER_WITHIN if mean > 0 else WORSE_WITHIN
    if differs:
        return BETTER if mean > 0 else WORSE
    return EQUIVALENT if is_within else CANNOT_TELL


def seeds_to_tell(pair: Pair, num_pairs: int) -> tuple[int | None, str]:
    """How many seeds would tell with power .8, and under which assumption; (None, "") if too many.

    The smaller number of that which finds the difference as it is seen (at alpha / pairs), and of
    that which shows equivalence if there is none; both from the upper 80 % limit of sd.
    """
    n = len(pair.seeds)
    sd = statistics.sd_upper_limit(pair.sd, n)
    alpha = ALPHA / num_pairs
    ratios = [min(x / sd, 50.0) if sd else 50.0 for x in (abs(pair.difference.value), pair.margin)]
    seen = statistics.seeds_for_difference(ratios[0], alpha)
    none = statistics.seeds_for_equivalence(ratios[1])
    options = []
    if seen is not None:
        needed = max(seen, statistics.least_seeds(alpha), n + 1)
        options.append((needed, "the difference is as seen"))
    if none is not None:
        options.append((max(none, n + 1), "there is no difference"))
    return min(options, default=(None, ""))


def describe(pair: Pair, num_pairs: int) -> str:
    """The verdict on a pair in one sentence, or two where runs failed."""
    n = len(pair.seeds)
    if not n:
        return f"{pair.a} and {pair.b} share no seed at which both finished.{_failed(pair)}"
    gap = f"{points(pair.difference.value)} points"
    if n == 1:
        return (
            f"{pair.a} and {pair.b}: one seed, {gap} apart; a single seed tells nothing."
            f"{_failed(pair)}"
        )
    low, high = pair.difference.low, pair.difference.high
    kind = "95 % confidence sequence" if pair.anytime else "95 % interval"
    shown = f"{kind} {points(low)} to {points(high)}, " if low is not None else ""
    interval = f"{gap} ({shown}{n} seeds"
    tested = f"{interval}, p {pair.p_adjusted:.2g}{' after Holm' if num_pairs > 1 else ''})"
    margin = f"{100 * pair.margin:.2g} points"
    if pair.verdict == NO_VERDICT:
        text = f"{pair.a} and {pair.b}: {interval}); no verdict from {n} seeds."
    elif pair.verdict in (BETTER, WORSE):
        text = f"{pair.a} is {pair.verdict} than {pair.b}: {tested}."
    elif pair.verdict in (BETTER_WITHIN, WORSE_WITHIN):
        word = pair.verdict.split()[0]
        text = f"{pair.a} is {word} than {pair.b}, but within the margin of {margin}: {tested}."
    elif pair.verdict == EQUIVALENT:
        kind = "95 % confidence sequence" if pair.anytime else "90 % interval"
        inside = f"{kind} {points(pair.equivalence[0])} to {points(pair.equivalence[1])}"
        text = f"{pair.a} and {pair.b} are equivalent within {margin}: {gap} ({inside}, {n} seeds)."
    else:
        would = "more than 10,000 seeds would"
        if pair.seeds_needed:
            would = f"about {pair.seeds_needed:,} seeds would, if {pair.seeds_needed_if}"
        would += f" (margin {margin})"
        text = f"Cannot tell {pair.a} from {pair.b}: {tested}; {would}."
    return text + _failed(pair)


def _failed(pair: Pair) -> str:
    found = pair.failures
    if not found:
        return ""
    counts = f"{pair.a} failed at {found.only_a + found.both}, {pair.b} at"
    counts += f" {found.only_b + found.both} of {len(pair.seeds) + _lost(found)} seeds"
    p = f"{'' if pair.anytime else 'McNemar '}p {found.p_adjusted:.2g}"
    return f" This is of the runs that finished: {counts} ({p})."


def _lost(found: FailureDifference) -> int:
    return found.only_a + found.only_b + found.both


_OPPOSITE = {
    BETTER: WORSE,
    WORSE: BETTER,
    BETTER_WITHIN: WORSE_WITHIN,
    WORSE_WITHIN: BETTER_WITHIN,
}


def opposite(verdict: str) -> str:
    """The verdict on (b, a) from that on (a, b)."""
    return _OPPOSITE.get(verdict, verdict)


_PHRASES = {
    BETTER: "is better than",
    BETTER_WITHIN: "is better, but within the margin, than",
    EQUIVALENT: "is equivalent to",
    CANNOT_TELL: "cannot be told from",
    WORSE_WITHIN: "is worse, but within the margin, than",
    WORSE: "is worse than",
    NO_VERDICT: "has too few seeds for a verdict against",
}


def describe_many(pairs: Sequence[Pair], reference: str) -> str:
    """The verdicts of a start against all others in one sentence, such as of a leader."""
    others: dict[str, list[str]] = {verdict: [] for verdict in _PHRASES}
    for pair in pairs:
        if pair.a == reference:
            others[pair.verdict].append(pair.b)
        elif pair.b == reference:
            others[opposite(pair.verdict)].append(pair.a)
    said = [f"{_PHRASES[word]} {_join(names)}" for word, names in others.items() if names]
    return f"{reference} {'; '.join(said) or 'has nothing to be compared with'}."


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def points(accuracy: float) -> str:
    """A difference of accuracies in points, signed.

    >>> points(0.0042)
    '+0.42'
    """
    return f"{round(100 * accuracy, 2) + 0.0:+.2f}"  # no -0.00


def count(number: int, noun: str, listed: Sequence[int] = ()) -> str:
    """Such as "3 seeds"; or, of what is listed, "seeds 0, 1, 2"."""
    text = f"{noun}{'' if number == 1 else 's'}"
    if not listed:
        return f"{number} {text}"
    shown = ", ".join(map(str, listed[:8])) + (", ..." if len(listed) > 8 else "")
    return f"{text} {shown}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What so many seeds can tell, before anything runs.

    Attributes:
      seeds, starts, pairs: how many.
      smallest_p: that the sign-flip test can give, after Holm.
      least_seeds: with which any difference can be told at all.
      visible: difference, in sd of the paired differences, that is found with power .8; None: none.
      sentence: all of this.
    """

    seeds: int
    starts: int
    pairs: int
    smallest_p: float
    least_seeds: int
    visible: float | None
    sentence: str


def plan(seeds: int, starts: int, baseline: bool = False) -> Plan:
    """What a comparison of so many starts over so many seeds can tell.

    Args:
      seeds: of each start.
      starts: how many.
      baseline: whether one of them is the baseline of the others, else all pairs are compared.
    """
    pairs = starts - 1 if baseline else starts * (starts - 1) // 2
    if pairs < 1:
        return Plan(seeds, starts, 0, 1.0, 0, None, "One start: there is nothing to compare.")
    alpha = ALPHA / pairs
    smallest = min(1.0, statistics.smallest_p(seeds) * pairs)
    least = max(statistics.least_seeds(alpha), LEAST_SEEDS)
    head = f"{count(seeds, 'seed')}, {count(starts, 'start')}, {count(pairs, 'pair')}: the"
    head += f" smallest p is {smallest:.2g}{' after Holm' if pairs > 1 else ''}"
    if seeds < least:
        text = f"{head}, so no difference, however large, can be told; take at least {least} seeds."
        return Plan(seeds, starts, pairs, smallest, least, None, text)
    visible = statistics.visible_effect(seeds, alpha)
    text = (
        f"{head}; a difference of {visible:.2g} sd (of paired differences) is found with power .8."
    )
    return Plan(seeds, starts, pairs, smallest, least, visible, text)
