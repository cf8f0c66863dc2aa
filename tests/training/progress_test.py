import io
import json
import sys

import pytest
from helpers import read_events

from initjax.support.files import intact
from initjax.training.progress import Reporter, folder_contents


def row(step, loss=0.5):
    return {
        "step": step,
        "epoch": step / 4,
        "train_loss": loss,
        "train_accuracy": 0.25,
        "eval_loss": 1.5,
        "eval_accuracy": 0.75,
        "images_per_second": 100.0,
        "seconds": 2.0 * step,
    }


def scalars(folder):
    return {
        (event.step, value.tag): value.simple_value
        for event in read_events(folder)
        for value in event.summary.value
    }


def run(folder, steps, resume=0):
    with Reporter(folder, total_steps=8, steps_per_epoch=4) as reporter:
        reporter.resume(resume)
        for step in steps:
            reporter.progress(step, 0.5, 0.25, 100.0)
            reporter.evaluation(row(step))
        reporter.draw("a title")
    return reporter


@pytest.mark.slow
def test_rows_events_curves_and_lines(tmp_path, capsys):
    run(tmp_path, (4, 8))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [intact(json.loads(line)) for line in lines] == [row(4), row(8)]
    names = ("train_loss", "train_accuracy", "eval_loss", "eval_accuracy", "images_per_second")
    expected = {(step, name): row(step)[name] for step in (4, 8) for name in names}
    assert scalars(tmp_path) == expected
    assert folder_contents(tmp_path) == ["curves.png", "metrics.jsonl", "tensorboard/"]
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    for part in ("epoch 1.0", "train loss 0.5000", "accuracy 0.2500", "test loss 1.5000"):
        assert part in first
    assert "accuracy 0.7500  100 images/s  8 s left" in first
    assert "epoch 2.0" in second
    assert second.endswith("  0 s left")
    assert err == ""


def test_the_time_left_counts_no_compiling(tmp_path, capsys, monkeypatch):
    """100 s of compiling, then 2 s a step, and 50 s for the first evaluation."""
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    with Reporter(tmp_path, total_steps=12, steps_per_epoch=4) as reporter:
        reporter.resume(0)
        clock[0] = 98.0
        for step in range(1, 9):
            clock[0] += 2
            reporter.progress(step, 0.5, 0.25, 100.0)
            if step in (4, 8):
                clock[0] += 50
                reporter.evaluation(row(step) | {"seconds": clock[0]})
    lines = [line for line in capsys.readouterr().out.splitlines() if "left" in line]
    assert [line.rpartition("images/s  ")[2] for line in lines] == ["16 s left", "8 s left"]


@pytest.mark.slow
def test_resume_drops_what_will_be_computed_again(tmp_path):
    run(tmp_path, (2, 4, 6))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "ep')  # killed while writing
    reporter = run(tmp_path, (8,), resume=4)
    assert [row["step"] for row in reporter.rows] == [2, 4, 8]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 8]
    starts = [e.step for e in read_events(tmp_path) if e.session_log.status == 1]
    assert starts == [1, 5]  # TensorBoard forgets events from this step on


@pytest.mark.slow
def test_damaged_rows_are_told_and_copied(tmp_path, capsys):
    """The others stay; where lines are damaged or doubled, the file is copied as it was."""
    run(tmp_path, (2, 4, 6))
    path = tmp_path / "metrics.jsonl"
    two, four, six = path.read_bytes().splitlines(keepends=True)
    capsys.readouterr()
    for lines, told, left in (
        ([two, six], "no row of step 4", [2, 6]),
        ([two, two, four, six], "a row once more in line 2", [2, 4, 6]),
        ([two, four, b"[]\n", six], "no row in line 3", [2, 4, 6]),
        ([two, b"\xff\n", six], "no row in line 2; no row of step 4", [2, 6]),
        ([two, b'{"step": 4}\n', six], "no row in line 2; no row of step 4", [2, 6]),
        ([b"[" * 10**5 + b"\n", two, four, six], "no row in line 1", [2, 4, 6]),
        ([b'{"step": ' + b"4" * 5000 + b"}\n"], "no row in line 1; no row of step 2, 4, 6", []),
        ([two, four.replace(b"1", b"3", 1), six], "no row in line 2; no row of step 4", [2, 6]),
        ([six, four, two], "", [2, 4, 6]),
        ([two, four, six, b'{"st'], "", [2, 4, 6]),
        ([two, four, six, b"\0" * 9], "", [2, 4, 6]),
    ):
        path.write_bytes(b"".join(lines))
        with Reporter(tmp_path, total_steps=8, steps_per_epoch=4) as reporter:
            reporter.resume(8, (2, 4, 6))
        assert [row["step"] for row in reporter.rows] == left
        assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == left
        out = capsys.readouterr().out
        assert len(out.splitlines()) == 2 * bool(told)
        assert f"metrics.jsonl has {told}.\n" in out if told else not out
        asides = list(tmp_path.glob("metrics-damaged-*.jsonl"))
        assert len(asides) == ("line" in told)
        for aside in asides:
            assert aside.name in out
            assert aside.read_bytes() == b"".join(lines)
            aside.unlink()


def test_a_full_disk_is_an_error_of_the_call(tmp_path, monkeypatch):
    """Of the events' file too, whose writing in the background would be told to nobody."""
    with pytest.raises(OSError, match="No space left"):
        with Reporter(tmp_path, total_steps=8, steps_per_epoch=4) as reporter:
            reporter.resume(0)
            file, full = reporter._events._file, open("/dev/full", "wb")
            file.close()
            monkeypatch.setattr(file, "_writer", full)
            reporter.evaluation(row(2))
    assert full.closed


@pytest.mark.slow
def test_a_finished_run_writes_no_events(tmp_path):
    run(tmp_path, (8,))
    before = folder_contents(tmp_path / "tensorboard")
    assert run(tmp_path, (), resume=8).rows == [row(8)]
    assert folder_contents(tmp_path / "tensorboard") == before


def test_a_bar_on_a_terminal_fits_80_columns(tmp_path, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    with Reporter(tmp_path, total_steps=64_000, steps_per_epoch=390) as reporter:
        reporter.resume(32_000)
        reporter._bar.start_t -= 10
        reporter.progress(63_000, 0.123, 0.456, 12_345.0)
        reporter._bar.refresh()
    shown = terminal.getvalue()
    for part in ("epoch 161.5", "98%", "loss 0.123", "accuracy 0.456", "12345 images/s", " left"):
        assert part in shown
    assert max(len(bar.rstrip()) for bar in shown.split("\r")) <= 80
