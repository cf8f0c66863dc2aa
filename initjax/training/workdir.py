"""A run's folder: made, checked, and held by one process."""

import contextlib
import json
import pathlib

from initjax.data.dataset import Dataset
from initjax.support.environment import describe_environment
from initjax.support.errors import UserError
from initjax.support.files import strict_json, user_path, write_whole
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
    except ValueError:
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
        write_whole(folder / "data.json", strict_json(facts, indent=2) + "\n")


def keep_rows(path: pathlib.Path, step: int) -> list[dict]:
    """The rows of a file of evaluations up to a step; the file is left with no others."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line of a run that was killed
        if row["step"] <= step:
            rows.append(row)
    write_whole(path, "".join(strict_json(row) + "\n" for row in rows))
    return rows


@contextlib.contextmanager
def alone_in(folder: pathlib.Path, held: str = "config.json"):
    """Holds the folder by a file in it, so that one command given twice does not mix its runs."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / held).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"Another process is training in {folder}.\nWait for it, or pass another --workdir."
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
