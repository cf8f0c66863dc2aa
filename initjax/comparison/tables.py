"""A verdict as a table for a terminal, and the cells that the page's tables share with it."""

from collections.abc import Sequence

from initjax.comparison.decisions import count, opposite, points
from initjax.comparison.results import (
    NO_VERDICT,
    Contest,
    Estimate,
    Overall,
    Pair,
    Setting,
    Start,
    Verdict,
)
from initjax.support.tables import align, shorten
from initjax.support.text import printable

_MOST_SENTENCES = 6  # of more pairs, those with the leader or baseline are told


def reference_of(contest: Contest | Overall, verdict: Verdict) -> str:
    """The start that a table compares the others with: the baseline, or the first."""
    names = [start.start for start in contest.starts]
    return verdict.baseline if verdict.baseline in names else names[0]


def difference_from(
    pairs: Sequence[Pair], start: str, reference: str
) -> tuple[Estimate | None, float | None, str]:
    """(difference, adjusted p, verdict) of a start against another."""
    for pair in pairs:
        d, p = pair.difference, pair.p_adjusted if pair.verdict != NO_VERDICT else None
        if (pair.a, pair.b) == (start, reference):
            return d, p, pair.verdict
        if (pair.b, pair.a) == (start, reference):
            if d is not None:
                has_interval = d.low is not None
                low, high = (-d.high, -d.low) if has_interval else (None, None)
                d = Estimate(-d.value, low, high)
            return d, p, opposite(pair.verdict)
    return None, None, NO_VERDICT


def sentences(contest: Contest | Overall, verdict: Verdict) -> list[str]:
    """One a pair; of many pairs those with the reference."""
    pairs = contest.pairs
    if len(pairs) > _MOST_SENTENCES:
        reference = reference_of(contest, verdict)
        pairs = [pair for pair in pairs if reference in (pair.a, pair.b)]
    return [pair.sentence for pair in pairs]


def percent(found: Estimate | None) -> str:
    if found is None:
        return "-"
    return f"{100 * found.value:.2f}" + radius(found, 100, ".2f")


def number(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.value:.4f}" + radius(found, 1, ".4f")


def radius(found, scale, form) -> str:
    return "" if found.low is None else f" ± {scale * (found.high - found.low) / 2:{form}}"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:g}"


def probability(p: float | None) -> str:
    return "-" if p is None else f"{p:.2g}"


def _steps(start: Start) -> list[str]:
    return [
        f"{to.median:,.0f}" if to.median is not None else f"{to.reached} of {to.runs}"
        for to in start.steps
    ]


def columns(contest: Contest, verdict: Verdict, most_steps: int) -> tuple[list[str], list]:
    """(header, rows) of the ranked table; a row is (start, cells)."""
    reference = reference_of(contest, verdict)
    levels = [f"steps to {100 * to.accuracy:g} %" for to in contest.starts[0].steps][-most_steps:]
    lossy = any(start.loss for start in contest.starts)
    first = "baseline" if verdict.baseline else "first"
    # What decides comes first, where a narrow screen shows it.
    header = ["start", *["rate"] * contest.own_rates, "accuracy (%)"]
    header += [f"minus {first}", "p (Holm)", "verdict"] if contest.pairs else []
    header += ["sd", "seeds", "failed", *["loss"] * lossy, *levels]
    rows = []
    for start in contest.starts:
        cells = [start.start, *[_rate(start.learning_rate)] * contest.own_rates]
        cells += [percent(start.accuracy)]
        if contest.pairs:
            d, p, word = difference_from(contest.pairs, start.start, reference)
            shown = "-" if d is None else points(d.value) + radius(d, 100, ".2f")
            is_first = start.start == reference
            cells += ["", "", first] if is_first else [shown, probability(p), word]
        cells += ["-" if start.sd is None else f"{100 * start.sd:.2f}", str(len(start.seeds))]
        cells += [str(start.failed), *[number(start.loss)] * lossy, *_steps(start)[-most_steps:]]
        rows.append((start.start, cells))
    return header, rows


def table(verdict: Verdict) -> str:
    """All contests as text: ranked tables, sentences, and what to know of the runs."""
    blocks = []
    for setting in verdict.settings:
        for contest in setting.contests:
            header, rows = columns(contest, verdict, most_steps=1)
            rows = [[shorten(printable(cells[0]), 34), *cells[1:]] for _, cells in rows]
            left = [i for i, name in enumerate(header) if name in ("start", "verdict")]
            lines = [capitalize(title_of(setting, contest)), *align([header, *rows], left), ""]
            lines += [*sentences(contest, verdict), *margin_note(contest.pairs, verdict)]
            lines += contest.notes
            blocks.append([*lines, *_rate_lines(setting)] if contest.own_rates else lines)
        if setting.notes or not setting.contests:
            blocks.append([setting.name, *setting.notes])
    for overall in verdict.overall:
        names = f"Over {count(len(overall.settings), 'setting')}, {overall.title}:"
        blocks.append([names, *sentences(overall, verdict), *count_settings(overall)])
    if verdict.notes:
        blocks.append(list(verdict.notes))
    text = [line for block in blocks for line in (*filter(None, block), "")]
    text.append(_LEGEND + _ANYTIME * verdict.anytime)
    return "\n".join(printable(line) for line in text)


_LEGEND = (
    "Accuracy and loss: mean ± 95 % t interval over the seeds that finished. Differences: paired by"
    " seed, in points (hundredths of accuracy)."
)


_ANYTIME = (
    " Seeds were added after looks at the verdict: differences are with 95 % confidence sequences,"
    " and p is 1 / e-value, both valid at every look."
)


def capitalize(text: str) -> str:
    """The text with its first letter a capital."""
    return text[:1].upper() + text[1:]


def margin_note(pairs: Sequence[Pair], verdict: Verdict) -> list[str]:
    """What counts as no difference, of pairs that have a verdict."""
    margins = [100 * pair.margin for pair in pairs if pair.verdict != NO_VERDICT]
    if not margins:
        return []
    low, high = f"{min(margins):.2g}", f"{max(margins):.2g}"
    shown = low if low == high else f"{low} to {high}"
    whose = "the baseline's" if verdict.baseline else "a pair's"
    rule = "as asked" if verdict.margin else f"half of {whose} sd from seed to seed, at least 0.1"
    return [f"Margin for equivalence: {shown} points ({rule})."]


def title_of(setting: Setting, contest: Contest) -> str:
    """Such as "model=lenet, all at rate 0.1"."""
    same = ""
    if contest.own_rates and contest.learning_rate is not None:
        same = f"which is {contest.learning_rate:g} for all"
    return ", ".join(filter(None, (setting.name, contest.title, same)))


def _rate_lines(setting: Setting) -> list[str]:
    return [f"{curve.start}: best rate {curve.best:g}" + plateau(curve) for curve in setting.curves]


def plateau(curve) -> str:
    if curve.plateau is None:
        return ""
    low, high = curve.plateau
    if low == high:
        return "; no other rate of the grid is within one sd"
    return f"; {low:g} to {high:g} are within one sd"


def count_settings(overall: Overall) -> list[str]:
    lines = []
    for pair, counts in zip(overall.pairs, overall.counts, strict=True):
        shown = ", ".join(f"{verdict} in {n}" for verdict, n in sorted(counts.items()))
        lines.append(f"{pair.a} against {pair.b}, setting by setting: {shown or 'not compared'}.")
    return lines if len(lines) <= _MOST_SENTENCES else []
