"""The studies of the sources' claims: runs what is missing, and writes the tables from the rows.

    TFDS_DATA_DIR=DIR python experiments/study.py nspl [--parts=laws,alpha]
    python experiments/study.py                       # the tables of all studies, from their rows

`experiments/NAME/study.toml` lists the parts of a study, each a question and the flags of
`launch.py` that answer it, with the commands that must come before, if any. The rows of a part are
`experiments/NAME/results/PART/rows.jsonl`, one line a finished run; it goes on where it stopped.
The tables go into `experiments/NAME/README.md`, and what follows for each claim in
`experiments/claims.toml` into `experiments/README.md`. Data sets are read from DIR, as
tensorflow-datasets writes them.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence

from initjax.comparison import rows, tables
from initjax.comparison.results import Contest, Setting, Verdict
from initjax.comparison.statistics import t_interval
from initjax.comparison.verdict import judge
from initjax.support import command
from initjax.support.errors import UserError
from initjax.support.files import write_whole

HERE = pathlib.Path(__file__).resolve().parent
BEGIN, END = "<!-- results: written by experiments/study.py -->", "<!-- end of results -->"
_MOST_TABLES = 4  # of a part with more settings, one table has a line a setting
_RATES = {"own": True, "shared": False}
_ANSWERS = {
    "better": "agree",
    "better but within the margin": "agree, by less than matters",
    "equivalent": "disagree: no difference that matters",
    "worse but within the margin": "disagree",
    "worse": "disagree",
}
_NO_DIFFERENCE = {
    "better": "disagree",
    "better but within the margin": "agree",
    "equivalent": "agree",
    "worse but within the margin": "agree",
    "worse": "disagree",
}


def parts_of(study: str) -> dict[str, dict]:
    """Name -> question and flags of each part of a study."""
    path = HERE / study / "study.toml"
    if not path.is_file():
        names = ", ".join(sorted(p.parent.name for p in HERE.glob("*/study.toml")))
        raise UserError(f"There is no study {study!r}; there are {names}.")
    return {part["name"]: part for part in tomllib.loads(path.read_text())["part"]}


def run(study: str, names: list[str]) -> None:
    """Runs the parts one after the other; each is one `launch.py`."""
    parts = parts_of(study)
    if unknown := [name for name in names if name not in parts]:
        raise UserError(f"{study} has no part {unknown[0]!r}; it has {', '.join(parts)}.")
    for name in names or parts:
        folder = HERE / study / "results" / name
        folder.mkdir(parents=True, exist_ok=True)
        print(f"\n{study}, {name}: {parts[name]['asks']}", flush=True)
        workdir = folder.relative_to(HERE.parent)
        last = ["launch.py", *parts[name]["flags"], f"--workdir={workdir}"]
        for command_line in [*parts[name].get("before", ()), last]:
            done = subprocess.run([sys.executable, *command_line], cwd=HERE.parent)
            if done.returncode:
                raise SystemExit(done.returncode)


def judged(study: str, part: dict) -> tuple[Verdict | None, dict]:
    """(the verdict on the rows of a part, if there are any; what it was run by)."""
    folder = HERE / study / "results" / part["name"]
    if not (folder / "rows.jsonl").is_file() or not (folder / "rows.jsonl").stat().st_size:
        return None, {}
    about = folder / "comparison.json"
    known = json.loads(about.read_text())["about"] if about.is_file() else {}
    return judge(rows.read(folder), baseline=part.get("baseline", "")), known


def _table(header, lines) -> list[str]:
    shown = ["| " + " | ".join(map(str, line)) + " |" for line in (header, *lines)]
    return [shown[0], "|---" * len(header) + "|", *shown[1:]]


def contest_table(setting: Setting, contest: Contest, verdict: Verdict) -> list[str]:
    """One contest, as a table and sentences."""
    title = tables.capitalize(tables.title_of(setting, contest))
    header, lines = tables.columns(contest, verdict, most_steps=2)
    found = [cells for _, cells in lines]
    sentences = [f"- {text}" for text in tables.sentences(contest, verdict)]
    notes = [f"- {text}" for text in (*tables.margin_note(contest.pairs, verdict), *contest.notes)]
    return [f"**{title}**", "", *_table(header, found), "", *sentences, *notes, ""]


def settings_table(verdict: Verdict, own: bool) -> list[str]:
    """A line a setting, a column a start; what is worse than the first by Holm's p is marked."""
    lines = []
    for setting in verdict.settings:
        for contest in setting.contests:
            if contest.own_rates != own:
                continue
            reference = tables.reference_of(contest, verdict)
            cells = {}
            for start in contest.starts:
                word = tables.difference_from(contest.pairs, start.start, reference)[2]
                mark = {"worse": " (worse)", "better": " (better)"}.get(word, "")
                failed = f", {start.failed} failed" if start.failed else ""
                first = "**" * (start.start == reference)
                cells[start.start] = f"{first}{tables.percent(start.accuracy)}{first}{mark}{failed}"
            seeds = max(len(start.seeds) for start in contest.starts)
            title = tables.title_of(setting, contest)
            lines.append([title, *(cells.get(name, "-") for name in verdict.starts), seeds])
    if not lines:
        return []
    header = ["setting", *verdict.starts, "seeds"]
    words = "the baseline" if verdict.baseline else "the first, in bold"
    return [*_table(header, lines), "", f"Worse, better: than {words}, p < .05 after Holm.", ""]


def gap_table(runs: Sequence[rows.Run], verdict: Verdict) -> list[str]:
    """Training less test accuracy at the end of each start's runs."""
    lines = []
    for setting in verdict.settings:
        for start in verdict.starts:
            gaps = [
                100 * (run.train_accuracy[-1] - run.accuracy)
                for run in runs
                if run.start == start
                and dict(run.setting) == setting.values
                and not run.failure
                and run.phase == "test"
            ]
            if len(gaps) > 1:
                mean, low, high = map(float, t_interval(gaps))
                words = f"{mean:.2f} ± {(high - low) / 2:.2f}"
                lines.append([setting.name or "all", start, words, len(gaps)])
    return [*_table(["setting", "start", "training less test accuracy (points)", "n"], lines), ""]


def _quoted(word: str) -> str:
    return f'"{word}"' if set(word) & set("(' ") else word


def part_lines(study: str, part: dict) -> list[str]:
    """The section of a part in the study's README."""
    lines = [f"### {part['name']}", "", part["asks"], ""]
    commands = [*part.get("before", ()), ["launch.py", *part["flags"]]]
    lines += ["```", *(" ".join(["python", *map(_quoted, words)]) for words in commands), "```", ""]
    verdict, about = judged(study, part)
    if verdict is None:
        return [*lines, "Not run yet.", ""]
    contests = [(s, c) for s in verdict.settings for c in s.contests]
    if len(verdict.settings) > _MOST_TABLES:
        for own in (True, False):
            lines += settings_table(verdict, own)
    else:
        for setting, contest in contests:
            lines += contest_table(setting, contest, verdict)
            if contest.own_rates:
                lines += [
                    f"- {c.start}: best rate {c.best:g}{tables.plateau(c)}" for c in setting.curves
                ]
                lines.append("")
    if part.get("gap"):
        lines += gap_table(rows.read(HERE / study / "results" / part["name"]), verdict)
    for overall in verdict.overall:
        lines += [f"**Over {len(overall.settings)} settings, {overall.title}**", ""]
        lines += [f"- {text}" for text in tables.sentences(overall, verdict)]
        lines += [f"- {text}" for text in tables.count_settings(overall)]
        lines.append("")
    shown = ("date", "host", "device", "python", "jax", "jaxlib", "flax", "optax", "commit", "runs")
    facts = [f"{name} {about[name]}" for name in shown if about.get(name)]
    lines += [", ".join(facts) + "." if facts else "Still under way: not all runs are done.", ""]
    return lines


def _replace(path: pathlib.Path, lines: list[str]) -> None:
    """Puts lines between the marks of a file."""
    head, begin, rest = path.read_text().partition(BEGIN)
    if not begin or END not in rest:
        raise UserError(f"{path} lacks the lines {BEGIN} and {END}.")
    body = "\n".join(lines).strip()
    write_whole(path, f"{head}{BEGIN}\n\n{body}\n\n{END}{rest.partition(END)[2]}")


def write_tables() -> None:
    """All READMEs, and the table of claims."""
    for path in sorted(HERE.glob("*/study.toml")):
        study = path.parent.name
        sections = [part_lines(study, part) for part in parts_of(study).values()]
        _replace(path.parent / "README.md", [line for section in sections for line in section])
    _replace(HERE / "README.md", claim_lines())


def claim_lines() -> list[str]:
    """The table of claims, and how many of them hold."""
    claims = tomllib.loads((HERE / "claims.toml").read_text())["claim"]
    found = [(claim, *answer_of(claim)) for claim in claims]
    header = ["source", "claim", "the source's figure", "found here", "verdict", "by"]
    lines = [
        [claim["source"], claim["claim"], claim.get("figure", "none"), words, answer, claim["by"]]
        for claim, words, answer in found
    ]
    counts = collections.Counter(re.split("[,:;(]", answer)[0].strip() for *_, answer in found)
    told = ", ".join(f"{answer}: {n}" for answer, n in counts.most_common())
    return [*_table(header, lines), "", f"{len(found)} claims. {told}."]


def answer_of(claim: dict) -> tuple[str, str]:
    """(what was found, agree / disagree / cannot tell) of a claim.

    One with `found` says it itself, from a result that another file holds. One with `part` is
    answered from rows: "`first` is better than `second`" (or, where it `expects` that, equivalent),
    in the setting of which the values in `setting` are part, or over all of them; or "the accuracy
    of `first` is `value`".
    """
    if "found" in claim:
        return claim["found"], claim["answer"]
    study, _, name = claim["part"].partition("/")
    verdict, about = judged(study, parts_of(study)[name])
    if verdict is None:
        return "not run yet", "not run"
    words, answer = _answer(verdict, claim)
    under_way = not about and answer != "not run"
    return words, f"{answer} (under way)" if under_way else answer


def _answer(verdict: Verdict, claim: dict) -> tuple[str, str]:
    contests = list(_contests(verdict, claim))
    if not contests:
        return "not run yet", "not run"
    if "value" in claim:
        return _value_answer(contests[0], claim)
    pair = next(
        (
            p
            for contest in contests
            for p in contest.pairs
            if {p.a, p.b} == {claim["first"], claim["second"]}
        ),
        None,
    )
    if pair is None:
        return "not run yet", "not run"
    sign = 1 if pair.a == claim["first"] else -1
    if claim.get("measure", "accuracy") == "accuracy":
        word = tables.difference_from(contests[0].pairs, claim["first"], claim["second"])[2]
        answers = _NO_DIFFERENCE if claim.get("expects") == "equivalent" else _ANSWERS
        if word not in answers and pair.failures and pair.failures.p_adjusted < 0.05:
            # Accuracies are those of runs that finished, but how many did is an answer too.
            first_fails = sign * (pair.failures.only_a - pair.failures.only_b) > 0
            answer = "agree" if answers is _ANSWERS and not first_fails else "disagree"
            often = "more" if first_fails else "less"
            return pair.sentence, f"{answer}: it fails {often} often"
        return pair.sentence, answers.get(word, "cannot tell")
    difference = getattr(pair, claim["measure"])
    if difference is None or difference.p is None:
        return "too few seeds", "cannot tell"
    mean = sign * difference.mean.value
    low, high = sorted((sign * difference.mean.low, sign * difference.mean.high))
    words = (
        f"{claim['measure']} of {claim['first']} less that of {claim['second']}: {mean:+.3f}"
        f" (95 % interval {low:+.3f} to {high:+.3f}, {difference.seeds} seeds,"
        f" p {difference.p:.2g})"
    )
    if difference.p >= 0.05:
        return words, "cannot tell"
    return words, "agree" if mean < 0 else "disagree"


def _contests(verdict: Verdict, claim: dict):
    """The contests that a claim is about: over all settings, or of those that it names."""
    own = _RATES[claim.get("rates", "shared")]
    wanted = claim.get("setting")
    if wanted is None and len(verdict.settings) > 1:
        yield from (o for o in verdict.overall if ("own" in o.title) == own)
        return
    for setting in verdict.settings:
        if all(setting.values.get(k) == str(v) for k, v in (wanted or {}).items()):
            found = sorted(setting.contests, key=lambda c: c.own_rates != own)
            yield from found[:1]


def _value_answer(contest, claim) -> tuple[str, str]:
    start = next((s for s in contest.starts if s.start == claim["first"]), None)
    if start is None or start.accuracy is None or start.accuracy.low is None:
        return "not run yet", "not run"
    found = start.accuracy
    words = f"{tables.percent(found)} % (n = {len(start.seeds)})"
    holds = found.low <= claim["value"] <= found.high
    return words, "agree" if holds else "disagree"


def main() -> None:
    parser = command.Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", nargs="?", help="whose missing runs are done; none: only tables")
    parser.add_argument("--parts", default="", help="some of them, separated by commas")
    args = parser.parse_args()
    if args.study:
        run(args.study, [name for name in args.parts.split(",") if name])
    write_tables()


if __name__ == "__main__":
    command.run(main)
