"""A verdict as one HTML page without external parts: the answer, tables, pictures, meanings."""

from collections.abc import Mapping, Sequence

from initjax.comparison import pictures
from initjax.comparison.decisions import count, describe_many, points
from initjax.comparison.results import (
    NO_VERDICT,
    Contest,
    Difference,
    Overall,
    Pair,
    Setting,
    Verdict,
)
from initjax.comparison.rows import Run
from initjax.comparison.tables import (
    capitalize,
    columns,
    count_settings,
    margin_note,
    percent,
    plateau,
    probability,
    radius,
    reference_of,
    sentences,
    title_of,
)
from initjax.support.pages import escape, page

_MOST_ANSWERS = 4  # in the box on top
_MOST_PICTURED = 12  # settings with pictures: each takes a second and 300 kB

_STYLE = """
td, th { text-align: right; }
td:first-child, th:first-child, .text { text-align: left; }
td:first-child { white-space: normal; min-width: 11em; max-width: 24em; }
td.start { position: relative; padding-left: 1.2em; }
.dot { position: absolute; left: 0; top: .72em; width: .7em; height: .7em; border-radius: 50%; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr));
  gap: 1em 2em; margin: 1em 0; }
img { width: 100%; max-width: 680px; height: auto; }
"""


def html_page(verdict: Verdict, runs: Sequence[Run], about: Mapping[str, str]) -> str:
    """A page without external parts: the answer, tables, pictures, and what the numbers mean."""
    title = f"Comparison of {count(len(verdict.starts), 'start')}: {', '.join(verdict.starts[:4])}"
    title += ", ..." if len(verdict.starts) > 4 else ""
    parts = _answer(verdict)
    for overall in verdict.overall:
        parts += _overall(overall, verdict)
    for i, setting in enumerate(verdict.settings):
        parts += _setting(setting, verdict, runs, pictured=i < _MOST_PICTURED)
    if len(verdict.settings) > _MOST_PICTURED:
        parts.append(f"<p class='soft'>Pictures are of the first {_MOST_PICTURED} settings.</p>")
    if verdict.notes:
        parts += ["<h2>How the runs came about</h2>", _list(verdict.notes)]
    parts += _meaning(verdict)
    return page(title, _STYLE, parts, dict(about))


def _answer(verdict: Verdict) -> list[str]:
    """The box on top: what holds over all settings, or at the contests of the only one."""
    over = [(f"Over {count(len(o.settings), 'setting')}, {o.title}", o) for o in verdict.overall]
    each = [
        (title_of(setting, contest), contest)
        for setting in verdict.settings
        for contest in setting.contests
    ]
    parts = ["<div class='answer'>"]
    for i, (title, contest) in enumerate((over or each)[:_MOST_ANSWERS]):
        head = f"{capitalize(title)}: " if title else ""
        said = sentences(contest, verdict)
        if len(said) != 1:
            said = [describe_many(contest.pairs, reference_of(contest, verdict)), *said]
        parts.append(f"<p class='first'>{escape(head + said[0])}</p>")
        if i == 0:
            parts += [f"<p>{escape(text)}</p>" for text in said[1:]]
    if not each:
        parts.append("<p class='first'>There are no test runs to judge.</p>")
    return [*parts, "</div>"]


def _grid(header: Sequence[str], rows: Sequence[tuple[str | None, Sequence[str]]], verdict) -> str:
    """A table; a row's first cell has the color of the start that it is of."""
    lines = ["<div class='wide'><table><tr>"]
    texts = [i for i, name in enumerate(header) if name in ("verdict", "reasons", "b", "best rate")]
    kind = [" class='text'" if i in texts else "" for i in range(len(header))]
    lines += [f"<th{k}>{escape(name)}</th>" for k, name in zip(kind, header, strict=True)]
    lines.append("</tr>")
    for start, cells in rows:
        dot = ""
        if start in verdict.starts:
            color = pictures.color_of(start, verdict.starts)
            dot = f"<span class='dot' style='background:{color}'></span>"
        inner = [f"<td{k}>{escape(cell)}</td>" for k, cell in zip(kind, cells, strict=True)]
        if dot:
            inner[0] = inner[0].replace("<td>", f"<td class='start'>{dot}", 1)
        lines.append(f"<tr>{''.join(inner)}</tr>")
    return "".join([*lines, "</table></div>"])


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>" if items else ""


def _overall(overall: Overall, verdict: Verdict) -> list[str]:
    header = ["start", "interquartile mean (%)"]
    profiled = any(start.profile is not None for start in overall.starts)
    header += ["profile area"] * profiled
    rows = []
    for start in overall.starts:
        cells = [start.start, f"{100 * start.interquartile_mean:.2f}"]
        cells += ["-" if start.profile is None else f"{start.profile:.2f}"] * profiled
        rows.append((start.start, cells))
    caption = (
        "Interquartile mean: of the middle half of all runs' accuracies, failed runs counting 0."
        " Differences above: of each seed's mean over the settings, which count alike; they say"
        " nothing of other settings."
    )
    if profiled:
        caption += (
            " Profile area: 1 for the start that reaches the highest accuracy soonest everywhere,"
            " 0 for one that always takes over 4 times as long."
        )
    return [
        f"<h2>{escape(f'Over {len(overall.settings)} settings, {overall.title}')}</h2>",
        _grid(header, rows, verdict),
        f"<p class='soft'>{caption}</p>",
        _list([*margin_note(overall.pairs, verdict), *count_settings(overall)]),
        _pairs(overall.pairs, verdict),
    ]


def _setting(setting: Setting, verdict: Verdict, runs: Sequence[Run], pictured: bool) -> list[str]:
    parts = []
    own = [run for run in runs if dict(run.setting) == setting.values]
    if len(verdict.settings) > 1:
        parts.append(f"<h2>{escape(setting.name)}</h2>")
    if setting.notes:
        parts.append(_list(setting.notes))
    for i, contest in enumerate(setting.contests):
        heading = contest.title or "Starts by accuracy"
        parts.append(f"<h3>{escape(capitalize(heading))}</h3>")
        header, rows = columns(contest, verdict, most_steps=3)
        parts.append(_grid(header, rows, verdict))
        parts.append(f"<p class='soft'>{escape(_explain(contest, verdict))}</p>")
        # The box on top has those of the first.
        said = sentences(contest, verdict) if i or verdict.settings[1:] else []
        parts.append(_list([*said, *margin_note(contest.pairs, verdict), *contest.notes]))
        if pictured and i == 0:
            parts += _pictures(setting, contest, verdict, own)
        parts += _failures(contest, verdict)
        parts.append(_pairs(contest.pairs, verdict))
    parts += _rates(setting, verdict, own, pictured)
    shared = ", ".join(f"{name}={value}" for name, value in setting.values.items())
    if shared:
        parts.append(f"<p class='soft'>Setting: {escape(shared)}</p>")
    return parts


def _explain(contest: Contest, verdict: Verdict) -> str:
    text = (
        "Ordered by mean accuracy, a failed run counting 0. Accuracy and loss: mean ± 95 % t"
        " interval over the seeds that finished; sd: from seed to seed."
    )
    if contest.starts[0].steps:
        text += " Steps: median over all runs, those that never get there included."
    if contest.pairs:
        text += f" Difference: in points from {reference_of(contest, verdict)}, paired by seed."
    if not contest.own_rates and contest.learning_rate is not None:
        text += (
            " One rate for all: a start that another rate suits may lose here and win at its own."
        )
    return text


def _pictures(setting: Setting, contest: Contest, verdict: Verdict, runs) -> list[str]:
    shown = pictures.runs_of(contest, runs)
    starts = verdict.starts
    reference = reference_of(contest, verdict)
    judged = [pair for pair in contest.pairs if pair.verdict != NO_VERDICT]
    margins = {pair.margin for pair in judged if reference in (pair.a, pair.b)}
    margin = margins.pop() if len(margins) == 1 else None
    band = "" if margin is None else f" Grey: the margin, ±{100 * margin:.2g} points."
    lines = "Thin: every seed (dotted: failed). Thick: median; band: the middle 95 % of the seeds."
    figures = (
        ("Accuracy", lines, lambda: pictures.plot_curves(shown, starts, "eval_accuracy")),
        ("Loss", lines, lambda: pictures.plot_curves(shown, starts, "eval_loss")),
        (
            f"Difference from {reference}",
            "Mean over paired seeds with its 95 % t interval; the axis suits the second half of the"
            f" run.{band}",
            lambda: pictures.plot_differences(shown, starts, reference, margin),
        ),
        (
            "Final accuracy of every run",
            "A point a run; bar: mean with its 95 % t interval.",
            lambda: pictures.plot_finals(shown, starts),
        ),
    )
    return ["<div class='pictures'>", *(_figure(*figure) for figure in figures), "</div>"]


def _figure(heading, caption, draw) -> str:
    images = pictures.render(draw)
    if images is None:
        return ""
    return (
        "<figure><picture>"
        f"<source media='(prefers-color-scheme: dark)' srcset='{images['dark']}'>"
        f"<img alt='{escape(heading)}' src='{images['light']}'></picture>"
        f"<figcaption><b>{escape(heading)}.</b> {escape(caption)}</figcaption></figure>"
    )


def _failures(contest: Contest, verdict: Verdict) -> list[str]:
    if not any(start.failed for start in contest.starts):
        return []
    rows = []
    for start in contest.starts:
        low, high = start.failed_interval
        interval = f"{100 * low:.1f} to {100 * high:.1f}"
        reasons = "; ".join(start.failures[:4]) + ("; ..." if len(start.failures) > 4 else "")
        cells = [start.start, f"{start.failed} of {len(start.seeds)}", interval, reasons]
        rows.append((start.start, cells))
    return [
        "<h3>Failed runs</h3>",
        _grid(["start", "failed", "95 % interval (%)", "reasons"], rows, verdict),
        "<p class='soft'>Interval of the probability to fail: Clopper-Pearson. Failed runs enter no"
        " mean and no interval of accuracy or loss.</p>",
    ]


def _pairs(pairs: Sequence[Pair], verdict: Verdict) -> str:
    if not pairs:
        return ""
    failing = any(pair.failures for pair in pairs)
    lossy, areas = any(pair.loss for pair in pairs), any(pair.area for pair in pairs)
    booted = any(pair.bootstrap for pair in pairs)
    levels = [to.accuracy for to in max((pair.steps for pair in pairs), key=len)]
    anytime = verdict.anytime
    header = ["a", "b", "verdict", "seeds", "a - b (points)"]
    header += ["95 % confidence sequence" if anytime else "95 % interval"]
    header += ["bootstrap-t"] * booted + ["p", "p (Holm)", "g", "P(a > b)", "margin"]
    header += [] if anytime else ["90 % interval", "p (equivalence)"]
    header += ["loss", "p"] * lossy + ["mean log loss", "p"] * areas
    header += [text for x in levels for text in (f"a sooner at {100 * x:g} %", "p")]
    name = "p (Holm)" if anytime else "McNemar p (Holm)"
    header += ["only a / only b failed", name, "p (ranks)"] * failing
    rows = []
    for pair in pairs:
        d, found = pair.difference, pair.failures
        cells = [pair.a, pair.b, pair.verdict, str(len(pair.seeds))]
        cells += ["-" if d is None else points(d.value), _range(d and (d.low, d.high))]
        cells += [_range(pair.bootstrap)] * booted
        tested = pair.verdict != NO_VERDICT
        cells += [
            probability(pair.p if tested else None),
            probability(pair.p_adjusted if tested else None),
        ]
        cells += ["-" if pair.g is None else f"{pair.g:+.2f}"]
        cells += ["-" if pair.improvement is None else f"{pair.improvement:.2f}"]
        cells += [f"{100 * pair.margin:.2g}"]
        if not anytime:
            cells += [_range(pair.equivalence)]
            cells += [probability(pair.p_equivalence if tested else None)]
        cells += _secondary(pair.loss) * lossy + _secondary(pair.area) * areas
        for to in pair.steps:
            cells += [f"{to.a_sooner:.2f}", probability(to.p)]
        if failing:
            both = f"{found.only_a} / {found.only_b}" if found else "0 / 0"
            cells += [both, probability(found and found.p_adjusted), probability(pair.p_ranks)]
        cells += ["-"] * (len(header) - len(cells))
        rows.append((None, cells))
    test = "1 / the largest e-value on the way" if anytime else "exact sign-flip test"
    return (
        f"<details><summary>All numbers of {count(len(pairs), 'pair')}</summary>"
        f"{_grid(header, rows, verdict)}<p class='soft'>g: the mean difference in sd of the"
        f" differences, with Hedges' correction. p: {test}; only p (Holm) is adjusted"
        " for the number of pairs. P(a > b): over seeds, a failed run loses. Loss, mean log loss"
        " over the run and steps have no verdict: their p describe.</p></details>"
    )


def _range(limits) -> str:
    if limits is None or limits[0] is None:
        return "-"
    return f"{points(limits[0])} to {points(limits[1])}"


def _secondary(found: Difference | None) -> list[str]:
    if found is None:
        return ["-", "-"]
    return [f"{found.mean.value:+.4f}{radius(found.mean, 1, '.4f')}", probability(found.p)]


def _rates(setting: Setting, verdict: Verdict, runs, pictured: bool) -> list[str]:
    if not setting.curves:
        return []
    most = max(len(curve.expected_best) for curve in setting.curves)
    trials = sorted({1, 2, 3, 5, most} & set(range(1, most + 1)))
    header = ["start", "best rate", "accuracy (%)", *(f"best of {b} (%)" for b in trials)]
    rows = []
    for curve in setting.curves:
        point = next(p for p in curve.points if p.learning_rate == curve.best)
        edge = " (edge of the grid)" if curve.at_edge else ""
        expected = [
            f"{100 * curve.expected_best[b - 1]:.2f}" if b <= len(curve.expected_best) else "-"
            for b in trials
        ]
        best = f"{curve.best:g}{edge}{plateau(curve)}"
        rows.append((curve.start, [curve.start, best, percent(point.accuracy), *expected]))
    parts = ["<h3>Learning rates</h3>", _grid(header, rows, verdict)]
    parts.append(
        "<p class='soft'>Best of B: accuracy to expect of the best of B rates drawn from the grid,"
        " a failed run counting 0. One sd: of the paired differences from the best rate.</p>"
    )
    if pictured:
        caption = "A point a run, lines: means of the runs that finished, ring: each start's best."
        draw = lambda: pictures.plot_rates(setting.curves, runs, verdict.starts)  # noqa: E731
        figure = _figure("Accuracy against the learning rate", caption, draw)
        parts.append(f"<div class='pictures'>{figure}</div>")
    return parts


def _meaning(verdict: Verdict) -> list[str]:
    """What the numbers are about, and what they are not."""
    moves = "; ".join(verdict.moves)
    items = [
        f"A seed moves: {moves}."
        if moves
        else "What a seed moves is not in the rows. One that moves only the weights understates how"
        " much results vary.",
        "The results are about the models, data, numbers of steps and learning rates here, and"
        " generalize over seeds alone.",
    ]
    noises = [
        (contest.starts[0].accuracy.value, contest.test_noise)
        for setting in verdict.settings
        for contest in setting.contests
        if contest.test_noise
    ]
    about = "Intervals are about these test images."
    if noises:
        p, noise = noises[0]
        images = round(p * (1 - p) / noise**2)
        about += (
            f" Other {images:,} images would move an accuracy of {100 * p:.1f} % by about"
            f" {100 * noise:.2f} points (sqrt(p (1 - p) / n)), for all starts alike."
        )
    items.append(about)
    contests = [c for setting in verdict.settings for c in setting.contests]
    if any(pair.verdict != NO_VERDICT for contest in contests for pair in contest.pairs):
        asked = "half the sd from seed to seed, at least 0.1 points"
        if verdict.margin is not None:
            asked = f"{100 * verdict.margin:g} points, as asked"
        test, interval = "the exact sign-flip test of paired seeds", "90 % interval"
        if verdict.anytime:
            test, interval = "the t e-process (p = 1 / e-value)", "95 % confidence sequence"
            items.append(
                "Seeds were added after looks at the verdict, until each pair was decided or"
                " there were as many as allowed. All p and intervals of differences hold at every"
                " look."
            )
        items += [
            f"Better or worse: p < {verdict.alpha:g} by {test},"
            " after Holm's adjustment for the number of pairs in one table. The intervals are of"
            " each pair by itself.",
            f"Equivalent: the pair's {interval} lies within the margin ({asked}). This is not"
            " adjusted for the number of pairs.",
            "Cannot tell: neither. The number of seeds that would has power 0.8 and takes the upper"
            " 80 % limit of the sd, as an estimated sd is too small half of the time.",
        ]
    return ["<h2>What these numbers mean</h2>", _list(items)]
