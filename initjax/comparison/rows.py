"""Finished runs: what a comparison knows of each, and reading them from whatever holds them.

A file of rows is JSON lines, a JSON list, or csv. A row has at least `start` (what its weights
began from), `seed` and `accuracy` (in [0, 1]); it may have `loss`, `learning_rate`, `phase`
("test", or "tuning" for runs that only choose a rate), `failed` (true, or the reason), `seconds`,
`test_images` (how many the accuracy is of) and `moves` (what its seed moves). Curves are lists in
`step`, `eval_accuracy`, `eval_loss`, `train_accuracy` and `train_loss`; or, where `step` is a
number, every row is one evaluation and the last is the result. Whatever else a row has (model,
dataset, ...) is its setting: starts are compared where these agree.
"""

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from initjax.support.errors import UserError
from initjax.support.files import intact, strict_json
from initjax.support.text import shown

CURVES = ("eval_accuracy", "eval_loss", "train_accuracy", "train_loss")
PHASES = ("test", "tuning")
MOVES = "initial weights, order and augmentation of the images"  # by a seed of launch.py

# Of config.json: what says nothing about the result, or is told elsewhere in a row.
_NO_SETTING = ("data_dir", "download", "workdir", "eval_every", "seed", "learning_rate")
_NO_SETTING += ("record_statistics", "stream")
_STARTS = ("init", "refine", "dense_init", "bias_init", "init_from")


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
      start: the name of what the weights began from.
      seed: runs of one seed are pairs.
      setting: (name, value) of all that those compared share, as texts, sorted; a mapping will do.
      learning_rate: None: not told.
      phase: "test", or "tuning" for a run that serves to choose a rate.
      accuracy: the final one, in [0, 1]; None only of a run that failed.
      loss: the final one.
      failure: why the run failed; empty: it did not.
      seconds: it took.
      test_images: how many the accuracy is of.
      moves: what the seed moves, such as "initial weights, order"; empty: not told.
      step: of the evaluations, rising; the curves are as long, or empty.
    """

    start: str
    seed: int
    setting: tuple[tuple[str, str], ...] = ()
    learning_rate: float | None = None
    phase: str = "test"
    accuracy: float | None = None
    loss: float | None = None
    failure: str = ""
    seconds: float | None = None
    test_images: int | None = None
    moves: str = ""
    step: tuple[float, ...] = ()
    eval_accuracy: tuple[float, ...] = ()
    eval_loss: tuple[float, ...] = ()
    train_accuracy: tuple[float, ...] = ()
    train_loss: tuple[float, ...] = ()

    def __post_init__(self):
        setting = self.setting.items() if isinstance(self.setting, Mapping) else self.setting
        setting = tuple(sorted((str(name), _text(value)) for name, value in setting))
        object.__setattr__(self, "setting", setting)
        for name in ("step", *CURVES):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if not self.start:
            raise UserError("start is empty; it names what the weights began from.")
        if self.phase not in PHASES:
            raise UserError(f"phase={self.phase!r} is not one of {', '.join(PHASES)}.")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise UserError(f"learning_rate={self.learning_rate} is not positive.")
        if self.test_images is not None and self.test_images < 1:
            raise UserError(f"test_images={self.test_images} is not positive.")
        if not all(map(math.isfinite, self.step)) or list(self.step) != sorted(set(self.step)):
            raise UserError("step does not rise from each evaluation to the next.")
        for name in CURVES:
            if len(getattr(self, name)) not in (0, len(self.step)):
                raise UserError(
                    f"{name} has {len(getattr(self, name))} values, but step {len(self.step)}."
                )
        # What is no number is the outcome of a run that diverged.
        for name in ("loss", "accuracy"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                object.__setattr__(self, name, None)
                if not self.failure:
                    object.__setattr__(self, "failure", f"{name} is {value}")
        accuracies = [a for a in (self.accuracy, *self.eval_accuracy) if a is not None]
        if wrong := [a for a in accuracies if math.isfinite(a) and not 0 <= a <= 1]:
            raise UserError(f"accuracy {wrong[0]:g} is not in [0, 1]; divide per cent by 100.")
        if self.accuracy is None and not self.failure:
            raise UserError('accuracy is missing; mark a run that failed by "failed": true.')

    def to_json(self) -> str:
        """One line of rows.jsonl; what is absent is left out, and null stands for NaN."""
        fields = dataclasses.asdict(self) | {"setting": dict(self.setting)}
        return strict_json({k: v for k, v in fields.items() if v not in (None, "", (), {})})

    @classmethod
    def from_json(cls, text: str) -> "Run":
        """The run of a line of rows.jsonl.

        Raises:
          UserError (a ValueError): the line is no run, in words without the file's name.
        """
        return _run(_mapping(_parse_json(text)))

    @property
    def key(self) -> tuple:
        """What makes it this run and no other: two with one key are the same run."""
        return self.start, self.setting, self.learning_rate, self.seed, self.phase

    def __str__(self):
        rate = "" if self.learning_rate is None else f", learning rate {self.learning_rate:g}"
        phase = "" if self.phase == "test" else f", {self.phase}"
        return f"{self.start}, seed {self.seed}{rate}{phase}"


def _text(value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def read(*paths: str | pathlib.Path) -> tuple[Run, ...]:
    """The runs under some paths, each once.

    Args:
      paths: run folders of launch.py, folders of a comparison (rows.jsonl), folders of such
        folders, or files of rows as this module describes.

    Raises:
      UserError (a ValueError): something cannot be read, or a run is there twice with different
        values; told with file and line.
    """
    found = [pair for path in paths for pair in _read(pathlib.Path(path))]
    return unique((run for run, _ in found), [place for _, place in found])


def unique(runs: Iterable[Run], places: Iterable[str] = ()) -> tuple[Run, ...]:
    """The runs without repetitions.

    Args:
      runs: any.
      places: where each was read, for the message.

    Raises:
      UserError (a ValueError): two are one run with different values.
    """
    runs = tuple(runs)
    places = tuple(places) or ("",) * len(runs)
    kept: dict[tuple, tuple[Run, str]] = {}
    for run, place in zip(runs, places, strict=True):
        first, where = kept.setdefault(run.key, (run, place))
        if first is not run and first.to_json() != run.to_json():
            raise UserError(
                f"{run} is there twice with different values"
                + (f": {where} and {place}.\n" if place else ".\n")
                + "Keep one of them, or tell them apart by another column or seed."
            )
    return tuple(run for run, _ in kept.values())


def _read(path: pathlib.Path) -> list[tuple[Run, str]]:
    if not path.is_dir():
        return _read_rows(path)
    if (path / "rows.jsonl").is_file():
        return _read_rows(path / "rows.jsonl")
    if (path / "config.json").is_file():
        return [(_read_folder(path), str(path))]
    inner = [
        folder
        for folder in sorted(path.iterdir())
        if (folder / "rows.jsonl").is_file() or (folder / "config.json").is_file()
    ]
    if not inner:
        raise UserError(
            f"{path} holds no runs: neither rows.jsonl, nor config.json and metrics.jsonl, nor"
            " folders with them."
        )
    return [pair for folder in inner for pair in _read(folder)]


def _load(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 (byte {error.start}).") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested or long"
        raise UserError(f"not valid JSON ({reason}).") from None


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError('not a row: it must be of the form {"start": ..., "seed": ...}.')
    row = intact(value)
    if row is None:
        raise UserError("damaged: it is not the row that was written.")
    return row


class _At:
    """Puts a place before the message of an error that leaves it."""

    def __init__(self, place: str):
        self._place = place

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, UserError):
            raise UserError(f"{self._place}: {error}") from None


def _read_rows(path: pathlib.Path) -> list[tuple[Run, str]]:
    if path.suffix not in (".jsonl", ".json", ".csv"):
        there = "" if path.exists() else " There is no such file."
        raise UserError(f"{path}: rows are read from .jsonl, .json and .csv files.{there}")
    rows = {".jsonl": _json_lines, ".json": _json_list, ".csv": _csv}[path.suffix](path)
    if not rows:
        raise UserError(f"{path} holds no rows.")
    runs: list[tuple[Run, str]] = []
    evaluations: dict[tuple, list[tuple[Run, str]]] = {}
    for row, place in rows:
        with _At(place):
            if isinstance(row.get("step"), list) or _absent(row.get("step")):
                runs.append((_run(row), place))
            else:
                run = _evaluation(row)
                evaluations.setdefault(run.key, []).append((run, place))
    return runs + [_joined(group) for group in evaluations.values()]


def _evaluation(row) -> Run:
    """A row that is one evaluation, as a run of one."""
    values = {"eval_accuracy": row.get("accuracy"), "eval_loss": row.get("loss")} | row
    curves = {name: [values[name]] for name in CURVES if not _absent(values.get(name))}
    return _run(row | curves | {"step": [row["step"]]})


def _joined(evaluations: list[tuple[Run, str]]) -> tuple[Run, str]:
    """The run that these evaluations are of; it ends as the last of them does."""
    evaluations = sorted(evaluations, key=lambda pair: pair[0].step)
    last, place = evaluations[-1]
    curves = {}
    for name in ("step", *CURVES):
        parts = [getattr(run, name) for run, _ in evaluations]
        if any(parts):
            curves[name] = tuple(part[0] if part else math.nan for part in parts)
    failure = next((run.failure for run, _ in evaluations if run.failure), "")
    with _At(place):
        return dataclasses.replace(last, failure=failure, **curves), place


def _json_lines(path):
    rows = []
    for number, line in enumerate(_load(path).split("\n"), 1):
        if line.strip():
            place = f"{path}, line {number}"
            with _At(place):
                rows.append((_mapping(_parse_json(line)), place))
    return rows


def _json_list(path):
    with _At(str(path)):
        value = _parse_json(_load(path))
        if not isinstance(value, list):
            raise UserError('not a list of rows: it must be of the form [{"start": ...}, ...].')
    rows = []
    for number, row in enumerate(value, 1):
        place = f"{path}, row {number}"
        with _At(place):
            rows.append((_mapping(row), place))
    return rows


def _csv(path):
    reader = csv.DictReader(io.StringIO(_load(path), newline=""), strict=True)
    rows = []
    try:
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise UserError(
                    f"{place}: not as many values as the {len(reader.fieldnames)} names"
                    " in the first line."
                )
            rows.append(({k.strip(): v.strip() for k, v in row.items()}, place))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid csv ({error}).") from None
    return rows


def _absent(value) -> bool:
    return value is None or value == ""


def _number(row, name) -> float | None:
    value = row.get(name)
    if _absent(value):
        return None
    try:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise UserError(f"{name}={shown(value)} is not a number.")


def _whole(row, name) -> int | None:
    number = _number(row, name)
    if number is not None and not number.is_integer():
        raise UserError(f"{name}={shown(row[name])} is not a whole number.")
    if number is None:
        return None
    try:
        return int(row[name])  # not of the float: large seeds have more digits
    except ValueError:
        return int(number)  # such as "3.0"


def _curve(row, name) -> tuple[float, ...]:
    values = row.get(name)
    if _absent(values):
        return ()
    if not isinstance(values, list):
        raise UserError(f"{name}={shown(values)} is not a list; it is a curve's, as long as step.")
    return tuple(math.nan if _absent(v) else _number({name: v}, name) for v in values)


def _failure(row) -> str:
    if row.get("failure"):
        return str(row["failure"])
    failed = row.get("failed")
    text = str(failed).strip() if failed is not None else ""
    if text.lower() in ("", "0", "false", "no"):
        return ""
    return "failed" if text.lower() in ("1", "true", "yes") else text


def _run(row: Mapping[str, Any]) -> Run:
    """The run that a row tells of."""
    for name in ("start", "seed"):
        if _absent(row.get(name)):
            names = ", ".join(map(str, list(row)[:12])) or "nothing"
            raise UserError(f"no {name}. A row needs start, seed and accuracy; here is {names}.")
    setting = row.get("setting") or {}
    if not isinstance(setting, dict):
        raise UserError(f"setting={shown(setting)} is not of the form {{name: value}}.")
    known = {field.name for field in dataclasses.fields(Run)} | {"failed"}
    others = {k: v for k, v in row.items() if k not in known and not _absent(v)}
    curves = {name: _curve(row, name) for name in ("step", *CURVES)}
    finals = {
        name: value[-1]
        if (value := curves[f"eval_{name}"]) and _absent(row.get(name))
        else _number(row, name)
        for name in ("accuracy", "loss")
    }
    return Run(
        start=_text(row["start"]),
        seed=_whole(row, "seed"),
        setting=setting | others,
        learning_rate=_number(row, "learning_rate"),
        phase=row.get("phase") or "test",
        failure=_failure(row),
        seconds=_number(row, "seconds"),
        test_images=_whole(row, "test_images"),
        moves=_text(row.get("moves") or ""),
        **finals,
        **curves,
    )


def start_of(config: Mapping[str, Any]) -> str:
    """The name of a run's start, from its settings: initializers, warm start and refinement."""
    name = str(config.get("init", ""))
    if config.get("dense_init"):
        name += f", dense {config['dense_init']}"
    if config.get("bias_init", "zeros") != "zeros":
        name += f", bias {config['bias_init']}"
    if config.get("init_from"):
        name += f", from {config['init_from']}"
    return name + (f" + {config['refine']}" if config.get("refine") else "")


def setting_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run shares with those it is compared with, from its settings."""
    unused = "epochs" if config.get("steps") else "steps"
    return {
        name: value
        for name, value in config.items()
        if name not in (*_NO_SETTING, *_STARTS, unused) and value not in ("", None)
    }


def _read_folder(folder: pathlib.Path) -> Run:
    """The run in a folder of launch.py."""
    saved, metrics = folder / "config.json", folder / "metrics.jsonl"
    with _At(str(saved)):
        config = _parse_json(_load(saved))
        if not isinstance(config, dict) or not config.get("init") or "seed" not in config:
            raise UserError("not a configuration of launch.py.")
    rows = [row for row, _ in _json_lines(metrics)]
    if not rows:
        raise UserError(f"{folder} has no evaluation in metrics.jsonl yet: finish the run first.")
    curves = {}
    with _At(str(metrics)):
        for name in ("step", *CURVES):
            if name in rows[0]:
                curves[name] = [row.get(name) for row in rows]
        last = rows[-1]
        step, epoch = _number(last, "step"), _number(last, "epoch")
        if not step or "eval_accuracy" not in curves:
            raise UserError("not the metrics of launch.py: no step or no eval_accuracy.")
    with _At(str(saved)):
        steps, epochs = _number(config, "steps"), _number(config, "epochs")
        if not steps and epochs and epoch:
            steps = round(epochs * step / epoch)
        if steps and step < steps:
            raise UserError(
                f"the run stopped at step {step:g} of {steps:g}. Finish it, leave it out, or, if it"
                f'\ndiverged, give a file of rows with its start, seed and "failed": true in place.'
            )
        return _run(
            {
                "start": start_of(config),
                "seed": config["seed"],
                "setting": setting_of(config),
                "learning_rate": config.get("learning_rate"),
                "seconds": last.get("seconds"),
                "moves": MOVES,
            }
            | curves
        )
