"""Which runs a comparison is made of: starts x settings x learning rates x seeds.

Every setting is a text, and may be several of them, separated by commas outside of brackets and
quotes: `create_grid({"init": "nspl,he_normal", "model": "lenet", "learning_rate": "0.03,0.1"})`.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from initjax.comparison import decisions
from initjax.comparison.decisions import count
from initjax.comparison.population import Job
from initjax.comparison.rows import Run, start_of
from initjax.data.folder import is_folder
from initjax.support.errors import UserError
from initjax.support.naming import parse, split_names
from initjax.training.config import Config

STARTS = ("init", "dense_init", "bias_init", "init_from", "refine")
# Texts that are calls.
_NAMES = ("init", "dense_init", "bias_init", "refine", "model", "parametrization")
# Of one comparison there is one; `boundaries` and the rules are lists by themselves, and seeds are
# given as such.
_SINGLE = ("data_dir", "download", "workdir", "preset", "seed", "boundaries", "nesterov")
_SINGLE += ("stream", "eval_every", "learning_rate_rules", "record_statistics")
SEVERAL = tuple(f.name for f in dataclasses.fields(Config) if f.name not in _SINGLE)
_TYPES = {field.name: field.type for field in dataclasses.fields(Config)}
_KINDS = {int: "a whole number", float: "a number"}
_NOT_SHARED = (*STARTS, "seed", "learning_rate", "data_dir", "download", "workdir")
MOST_RUNS = 100_000


@dataclasses.dataclass(frozen=True)
class Grid:
    """The runs of a comparison.

    Attributes:
      cells: a job for each start and setting, at the first rate and seed.
      rates: learning rates, rising.
      seeds: rising.
    """

    cells: tuple[Job, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]

    @property
    def starts(self) -> tuple[str, ...]:
        """The names of the starts, in the order in which they were given."""
        return tuple(dict.fromkeys(name_of(cell) for cell in self.cells))

    @property
    def number(self) -> int:
        """How many runs."""
        return len(self.cells) * len(self.rates) * len(self.seeds)

    def jobs(self) -> list[Job]:
        """All of them, those of a seed together: what is done first is a comparison already."""
        return [
            job_at(cell, rate, seed)
            for seed, rate, cell in itertools.product(self.seeds, self.rates, self.cells)
        ]

    def folder_name(self) -> str:
        """Of what is shared, so that starts, seeds and rates can be added to a comparison."""
        shared = [json.loads(cell.config.to_json()) for cell in self.cells]
        texts = {json.dumps({k: v for k, v in s.items() if k not in _NOT_SHARED}) for s in shared}
        digest = hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()[:8]
        return f"comparison-{digest}"


def job_at(cell: Job, rate: float, seed: int, phase: str = "test") -> Job:
    """A cell's job at a learning rate and a seed."""
    config = dataclasses.replace(cell.config, learning_rate=rate, seed=seed)
    return dataclasses.replace(cell, config=config, phase=phase)


def name_of(job: Job) -> str:
    """The name of a job's start."""
    return job.key[0]


def setting_of(job: Job) -> tuple[tuple[str, str], ...]:
    """A job's setting, as its row has it."""
    return job.key[1]


def read_seeds(text: str) -> tuple[int, ...]:
    """The seeds that `--seeds=10` (0 to 9) or `--seeds=0,3,7` names, rising.

    >>> read_seeds("3"), read_seeds("7,0")
    ((0, 1, 2), (0, 7))

    Raises:
      UserError (a ValueError): anything else, or a seed twice.
    """
    values = [_number("seeds", part, int) for part in split_names(text)]
    if len(values) == 1:
        if not 1 <= values[0] <= MOST_RUNS:
            raise UserError(f"--seeds={text} must be how many, 1 to {MOST_RUNS}, or a list: 0,3,7.")
        return tuple(range(values[0]))
    _check_distinct("seeds", values)
    if wrong := [value for value in values if not 0 <= value < 2**32]:
        raise UserError(f"--seeds: {wrong[0]} must be in [0, 2^32).")
    return tuple(sorted(values))


def create_grid(texts: Mapping[str, Any], seeds: Sequence[int] | None = None) -> Grid:
    """The runs that settings, several of each, make.

    Args:
      texts: field of `Config` -> a text, for the fields in `SEVERAL`; other fields as values.
      seeds: None: the one of the settings.

    Raises:
      UserError (a ValueError): a value that is none, a start or setting twice.
    """
    texts = dict(texts)
    if seeds is not None and "seed" in texts:
        raise UserError("--seed and --seeds say the same twice; give one of them.")
    values = {k: _values(k, v) if isinstance(v, str) else [v] for k, v in texts.items()}
    several = seeds is not None or any(len(v) > 1 for v in values.values())
    if several:
        for name in values.keys() & set(_NAMES):
            values[name] = [_one_spelling(name, value) for value in values[name]]
            _check_distinct(name, values[name])
    if (number := _product(len(v) for v in values.values())) > MOST_RUNS:
        raise UserError(f"These flags ask for {number:,} runs; at most {MOST_RUNS:,} are one grid.")
    # Starts vary last, so that the runs that are compared follow each other.
    names = sorted(values, key=lambda name: STARTS.index(name) if name in STARTS else -1)
    rates = sorted(values.pop("learning_rate", [None]), key=lambda rate: rate or 0.0)
    names = [name for name in names if name != "learning_rate"]
    configs = []
    for chosen in itertools.product(*(values[name] for name in names)):
        explicit = dict(zip(names, chosen, strict=True))
        for rate in rates:  # each of them, so that a wrong one is told
            given = {} if rate is None else {"learning_rate": rate}
            config = Config.create(**explicit, **given)
            if rate == rates[0]:
                configs.append(config)
    if several:
        _check_starts(configs)
    if all(config.parametrization.value is None for config in configs):
        for name in values.keys() & {"base_width", "base_depth"}:
            raise UserError(f"--{name} needs a --parametrization, such as mup.")
    rates = tuple(configs[0].learning_rate if rate is None else rate for rate in rates)
    return Grid(
        cells=tuple(Job(config) for config in configs),
        rates=rates,
        seeds=tuple(seeds) if seeds is not None else (configs[0].seed,),
    )


def _product(numbers: Iterable[int]) -> int:
    return functools.reduce(lambda a, b: a * b, numbers, 1)


def _values(name: str, text: str) -> list[Any]:
    """The values of a flag."""
    if name not in SEVERAL:
        return [text]
    parts = split_names(text)
    if len(parts) == 1 or (name == "dataset" and is_folder(text)):
        return [text if _TYPES[name] is str else _number(name, text, _TYPES[name])]
    if _TYPES[name] is not str:
        values = [_number(name, part, _TYPES[name]) for part in parts]
    else:
        values = parts
    _check_distinct(name, values)
    return values


def _one_spelling(name: str, text: str) -> str:
    """The text without choice of spaces and zeros, so that a start has one name in all rows."""
    return str(parse(text, name)) if isinstance(text, str) and text.strip() else text


def _number(name: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"--{name}={text} is not {_KINDS[kind]}.") from None


def _check_distinct(name: str, values: Sequence[Any]) -> None:
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise UserError(f"--{name} has {twice[0]!r} twice.")


def _check_starts(configs: Sequence[Config]) -> None:
    """Two names of one start would be compared with themselves: all differences are 0."""
    seen: list[tuple[tuple, str]] = []
    for config in configs:
        dense = config.dense_init.value or config.init.value
        what = (config.init.value, dense, config.bias_init.value)
        what += (config.init_from.value, str(config.refine))
        name = start_of(vars(config))
        for other, other_name in seen:
            if what == other and name != other_name:
                raise UserError(
                    f"{other_name} and {name} are the same start under two names; leave one out."
                )
        seen.append((what, name))


def find_baseline(baseline: str, starts: Sequence[str]) -> str:
    """The start that `--baseline` names; empty: none.

    Raises:
      UserError (a ValueError): it is none of the starts, told before anything runs.
    """
    with contextlib.suppress(UserError):
        if baseline not in starts and _one_spelling("baseline", baseline) in starts:
            return _one_spelling("baseline", baseline)
    if baseline and baseline not in starts:
        raise UserError(f"--baseline={baseline!r} is not one of the starts: {'; '.join(starts)}.")
    return baseline


def read_done(folder: pathlib.Path | None) -> dict[tuple, Run]:
    """The finished runs in a comparison's folder, by key; a line cut off by a kill is none."""
    done = {}
    path = None if folder is None else folder / "rows.jsonl"
    if path and path.exists():
        for line in path.read_text(errors="replace").splitlines():
            try:
                run = Run.from_json(line)
            except UserError:
                continue
            done[run.key] = run
    return done


def describe_plan(
    grid: Grid,
    done: Mapping[tuple, Run],
    *,
    baseline: str = "",
    tuning: int = 0,
    most_seeds: int = 0,
) -> list[str]:
    """What will run and what it can tell, in lines, before anything runs.

    Args:
      grid: the runs.
      done: finished runs, by key.
      baseline: the start that others are compared with, if any.
      tuning: how many runs choose the rates (at least); 0: none do.
      most_seeds: up to which seeds are added until all is decided; 0: none are.
    """
    settings = len({setting_of(cell) for cell in grid.cells})
    parts = [count(len(grid.starts), "start"), count(settings, "setting")]
    parts += [count(len(grid.rates), "learning rate"), count(len(grid.seeds), "seed")]
    total, finished = grid.number, [done[job.key] for job in grid.jobs() if job.key in done]
    if tuning:
        parts[2:] = [f"{parts[2]} to choose from", f"{parts[3]} of the test"]
        total = tuning + len(grid.cells) * len(grid.seeds)
        cells = {(name_of(cell), setting_of(cell)) for cell in grid.cells}
        of_grid = [run for run in done.values() if (run.start, run.setting) in cells]
        finished = [run for run in of_grid if run.phase == "tuning"]
        if finished:  # of the test, whose rates are not known yet, one a start and seed
            tested = {(*run.key[:2], run.seed): run for run in of_grid if run.phase == "test"}
            finished += [run for run in tested.values() if run.seed in grid.seeds]
    lines = [f"Comparison of {', '.join(grid.starts)}" + f"; baseline {baseline}" * bool(baseline)]
    lines.append(
        f"{' x '.join(parts)}: {'at least ' if tuning or most_seeds else ''}{count(total, 'run')},"
        f" {len(finished)} of them done; {count(len({c.group for c in grid.cells}), 'program')}"
    )
    plan = decisions.plan(len(grid.seeds), len(grid.starts), bool(baseline))
    if not plan.pairs:
        lines.append(plan.sentence)
    elif most_seeds:
        lines.append(
            f"Seeds are added, from {len(grid.seeds)} up to {most_seeds}, until"
            f" {count(plan.pairs, 'pair')} of starts {'is' if plan.pairs == 1 else 'are'} decided."
        )
    else:
        lines.append(plan.sentence)
        if plan.least_seeds <= len(grid.seeds):
            lines.append(f'"Better" needs {plan.least_seeds} seeds or more.')
    if len(grid.rates) > 1 and not tuning:
        lines.append("The verdict is at each rate apart; --tune adds one at each start's own rate.")
    left = max(total - len(finished), 0)
    lines.append(f"Time: {_time(finished or list(done.values()), left)}")
    return lines


def _time(finished: Sequence[Run], left: int) -> str:
    seconds = [run.seconds for run in finished if run.seconds]
    if not left:
        return "nothing is left to run."
    if not seconds:
        return "unknown until the first evaluation."
    expected = show_seconds(left * sum(seconds) / len(seconds))
    return f"about {expected}, as the runs done took, and compiling."


def show_seconds(seconds: float) -> str:
    """Such as "40 s", "12 min" or "3.1 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
