"""A run's folder: made, checked, and held by one process."""

import contextlib
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence

from initjax.data.dataset import Dataset
from initjax.support.environment import describe_environment
from initjax.support.errors import UserError
from initjax.support.files import intact, json_row, strict_json, user_path, write_whole
from initjax.training.config import Config


def open_workdir(config: Config) -> pathlib.Path:
    """Makes the run's folder, or checks that the one there is of the same run."""
    folder = user_path(config.workdir or pathlib.Path("runs") / config.run_name())
    saved = folder / "config.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not saved.exists():
            # Not in config.json: the same run may go on elsewhere, or by a later commit.
            text = strict_json(describe_environment(), indent=2)
            write_whole(folder / "environment.json", text + "\n")
            write_whole(saved, config.to_json() + "\n")
        old = json.loads(saved.read_text())
        (folder / "metrics.jsonl").open("a").close()
        if not isinstance(old, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise UserError(f"{saved} is not a configuration.\nPass another --workdir.") from None
    except OSError as error:
        raise UserError(
            f"--workdir: {folder} cannot be written: {error.strerror}.\nPass another --workdir."
        ) from None
    mine = json.loads(config.to_json())
    if different := config.same_run(old):
        defaults = {n: getattr(Config, n, None) for n in different}
        there, now = defaults | old, defaults | mine
        shown = ", ".join(f"{n}: {there[n]!r} there, {now[n]!r} now" for n in different[:3])
        raise UserError(
            f"{folder} holds a run with other settings ({shown}).\nPass another --workdir."
        )
    return folder


def save_data_facts(folder: pathlib.Path, dataset: Dataset) -> None:
    """Writes data.json, once: what the trained model needs to know of its data."""
    if not (folder / "data.json").exists():
        facts = {
            "name": dataset.name,
            "image_shape": dataset.train_images.shape[1:],
            "num_classes": dataset.num_classes,
            "label_names": dataset.label_names,
            "mean": dataset.mean.tolist(),
            "std": dataset.std.tolist(),
        }
        write_whole(folder / "data.json", json_row(facts, indent=2))


def keep_rows(
    path: pathlib.Path,
    step: int,
    expected: Sequence[int],
    columns: Sequence[str],
    say: Callable[[str], None],
) -> list[dict]:
    """The rows of a file of evaluations up to a step; the file is left with no others.

    Args:
      path: JSON lines; it need not be there.
      step: where the run stands.
      expected: the steps of which there are rows.
      columns: that are numbers in each row, beside its step.
      say: told of what is damaged, doubled or lost. A file in which lines are damaged or doubled is
        first copied.
    """
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    rows: dict[int, dict] = {}
    bad, doubled = [], []
    for number, line in enumerate(lines, 1):
        row = _row(line, columns)
        if row is None:
            if number < len(lines):  # the last line is that of a run that was killed
                bad.append(number)
        elif row["step"] in rows:
            doubled.append(number)
        else:
            rows[row["step"]] = row
    kept = [rows[at] for at in sorted(rows) if at <= step]
    lost = [at for at in expected if at <= step and at not in rows]
    troubles = [
        f"{what} {', '.join(map(str, numbers[:5]))}{', ...' * (len(numbers) > 5)}"
        for what, numbers in (
            ("no row in line", bad),
            ("a row once more in line", doubled),
            ("no row of step", lost),
        )
        if numbers
    ]
    if troubles:
        after = "What is lost stays lost; the run goes on."
        if bad or doubled:
            aside = path.with_name(f"{path.stem}-damaged-{time.time_ns()}{path.suffix}")
            shutil.copyfile(path, aside)
            after = f"The file as it was is now {aside.name}; the run goes on."
        say(f"{path} has {'; '.join(troubles)}.\n{after}")
    write_whole(path, "".join(map(json_row, kept)))
    return kept


def _row(line: bytes, columns: Sequence[str]) -> dict | None:
    """The row in a line; None where it holds none."""
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    numbers = all(type(row.get(name)) in (int, float) for name in columns)
    return intact(row) if numbers else None


@contextlib.contextmanager
def alone_in(folder: pathlib.Path, held: str = "config.json") -> Iterator[Callable[[], None]]:
    """Holds the folder by a file in it, so that one command given twice does not mix its runs.

    Gives what checks that it is still that folder, to be called before anything is written; it is
    checked at the end, too. It raises a UserError: what is written to a folder that someone has
    removed is lost, and to one that took its place, mixed with another's.
    """
    with (folder / held).open() as file:
        with contextlib.suppress(ImportError):  # Windows
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"Another process is training in {folder}.\n"
                    "Wait for it, or pass another --workdir."
                ) from None
            except OSError:
                pass  # a file system without locks

        def check():
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(folder / held)):
                    return
            raise UserError(
                f"{folder} was removed or replaced while the run went on, which stops here.\n"
                "What is there now was left alone; in an empty folder the same command begins anew."
            )

        yield check
        check()
