import fcntl
import json
import os
import pty
import select
import signal
import termios
import time

import jax
import PIL.Image
import pytest
from helpers import TIMEOUT, finish, launch, launch_each, read_rows, start, without_times

pytestmark = pytest.mark.slow

COLUMNS = {
    "step", "epoch", "train_loss", "train_accuracy",
    "eval_loss", "eval_accuracy", "images_per_second", "seconds",
}  # fmt: skip
SMALL = ("--model=mlp(width=32)", "--init=he_normal", "--augment=none")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, process) of a run of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "a" / "b"
    return folder, launch(*SMALL, "--epochs=2", f"--workdir={folder}")


def test_end_to_end(finished):
    folder, run = finished
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert lines[0].startswith("digits: 1437 training and 360 test images of 8x8x1, 10 classes")
    assert f"{65 * 32 + 33 * 32 + 330:,} parameters, 22 steps" in lines[1]
    assert lines[2].startswith("repeat with: python launch.py --init=he_normal")
    assert [line.split("  ")[0] for line in lines if line.startswith("epoch")] == [
        "epoch 1.0", "epoch 2.0",
    ]  # fmt: skip
    rows = read_rows(folder)
    assert [row["step"] for row in rows] == [11, 22]
    assert all(set(row) == COLUMNS for row in rows)
    assert rows[1]["eval_accuracy"] > 0.8
    assert lines[-1].startswith(f"test accuracy {rows[1]['eval_accuracy']:.4f} (")
    assert str(folder) in lines[-1]
    files = ("config.json", "curves.png", "environment.json", "metrics.jsonl")
    for name in ("checkpoints/", *files, "tensorboard/"):
        assert name in lines[-1]
        assert (folder / name).exists()
    assert json.loads((folder / "config.json").read_text())["epochs"] == 2
    assert json.loads((folder / "environment.json").read_text())["jax"] == jax.__version__
    assert len(list((folder / "tensorboard").iterdir())) == 1
    with PIL.Image.open(folder / "curves.png") as image:
        assert image.format == "PNG"


def test_a_finished_run_shows_its_result_again(finished):
    folder, run = finished
    before = (folder / "metrics.jsonl").read_text()
    again = launch(*SMALL, "--epochs=2", f"--workdir={folder}")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.splitlines()[-1] == run.stdout.splitlines()[-1]
    assert "compiling" not in again.stdout
    assert (folder / "metrics.jsonl").read_text() == before


def wait_for_a_row(folder, process, after=0):
    """Waits for one of a later step."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        path = folder / "metrics.jsonl"
        if path.exists() and any(row["step"] > after for row in read_rows(folder)):
            return
        time.sleep(0.02)
    raise AssertionError(f"no row came: {finish(process)}")


@pytest.mark.filterwarnings("ignore:os.fork")  # of preexec_fn, which only sets a terminal
def test_a_terminal_that_closes_saves_and_stops(tmp_path):
    """Its SIGHUP comes where nothing can be printed any more."""
    flags = (*SMALL, "--batch_size=16", "--steps=20000")
    master, slave = pty.openpty()
    process = start(
        *flags, f"--workdir={tmp_path}", stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    while not (tmp_path / "metrics.jsonl").exists() or not read_rows(tmp_path):
        assert process.poll() is None
        if select.select([master], [], [], 0.1)[0]:
            os.read(master, 1 << 16)
    os.close(master)
    assert process.wait(TIMEOUT) == 128 + signal.SIGHUP
    (step,) = [int(path.name) for path in (tmp_path / "checkpoints").iterdir()][-1:]
    assert step >= read_rows(tmp_path)[-1]["step"]


def test_signals_and_the_same_command_again(tmp_path):
    """Each saves, and ends the process with the code that shells and schedulers know it by."""
    flags = (*SMALL, "--batch_size=16", "--steps=2000", "--eval_every=1")
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    steps = []
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = start(*flags, f"--workdir={stopped}")
        wait_for_a_row(stopped, process, after=steps[-1] if steps else 0)
        process.send_signal(number)
        run = finish(process)
        assert run.returncode == code
        assert f"{number.name}: stopped at step " in run.stderr
        assert "Run the same command to go on." in run.stderr
        assert "Traceback" not in run.stderr
        steps.append(int(run.stderr.split("stopped at step ")[1].split()[0]))
        assert (stopped / "checkpoints" / str(steps[-1])).is_dir()
    assert steps[0] < steps[1] < 2000
    assert f"resumed at step {steps[0]}" in run.stdout
    runs = [finish(p) for p in [start(*flags, f"--workdir={w}") for w in (stopped, whole)]]
    assert [(run.returncode, run.stderr) for run in runs] == [(0, ""), (0, "")]
    assert f"resumed at step {steps[1]}" in runs[0].stdout
    assert without_times(read_rows(stopped)) == without_times(read_rows(whole))


def test_fifty_steps_on_eight_devices_are_those_on_one(tmp_path):
    # tanh, because over the kink of a ReLU a difference in rounding can grow to 1e-2 in 50 steps.
    flags = ("--model=lenet", "--activation=tanh", "--augment=crop")
    flags += ("--steps=50", "--batch_size=64", "--eval_every=0.5")
    processes = [start(*flags, f"--workdir={tmp_path / str(n)}", devices=n) for n in (1, 8)]
    for run, n in zip([finish(process) for process in processes], (1, 8), strict=True):
        assert (run.returncode, run.stderr) == (0, "")
        assert f"50 steps on {n} x cpu" in run.stdout
    one, eight = (read_rows(tmp_path / n) for n in ("1", "8"))
    assert len(one) == 5
    assert [row["step"] for row in one] == [row["step"] for row in eight]
    for a, b in zip(one, eight, strict=True):
        assert abs(a["train_loss"] - b["train_loss"]) < 1e-5
        assert abs(a["eval_loss"] - b["eval_loss"]) < 1e-5


def test_a_bar_on_a_terminal(tmp_path):
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    process = start(*SMALL, "--epochs=3", f"--workdir={tmp_path}", stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            try:
                shown += os.read(master, 1 << 16)
            except OSError:  # Linux's end of a terminal
                break
    os.close(master)
    assert finish(process).returncode == 0
    text = shown.decode()
    assert text.startswith("importing JAX\r")  # at once, and covered by what comes
    bar = next(part for part in reversed(text.split("\r")) if "100%|" in part)
    for word in ("epoch 3.0", "loss ", "accuracy ", "images/s", "left"):
        assert word in bar
    assert "test accuracy" in text


def test_a_closed_pipe_ends_quietly(tmp_path):
    process = start(*SMALL, "--epochs=2", f"--workdir={tmp_path}")
    process.stdout.close()
    process.stdout = None
    run = finish(process)
    assert (run.returncode, run.stderr) == (141, "")


def wrong(tmp_path):
    """name: (flags, devices, what the message says)."""
    (tmp_path / "file").write_text("")
    for name, content in (("corrupt", "{"), ("other", '{"init": "zeros"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(content)
    mlp = (*SMALL, f"--workdir={tmp_path / 'run'}")
    return {
        "init": (("--init=foo",), None, ("'foo'", "he_normal", "nspl")),
        "code": (("--init=__import__('os')",), None, ("__import__",)),
        "model": (("--model=foo",), None, ("'foo'", "resnet32")),
        "number": (("--epochs=x",), None, ("--epochs=x",)),
        "choice": (("--optimizer=foo",), None, ("'foo'", "sgd, adam, adamw")),
        "flag": (("--learningrate=1",), None, ("learningrate",)),
        "argument": (("nspl",), None, ("'nspl'", "--name=value")),
        "devices": ((*mlp, "--batch_size=12"), 8, ("--batch_size=12", "8 devices", "16")),
        "batch": ((*mlp, "--batch_size=5000"), None, ("--batch_size=5000", "1437")),
        "parent": ((*SMALL, f"--workdir={tmp_path / 'file' / 'run'}"), None, ("--workdir",)),
        "file": ((*SMALL, f"--workdir={tmp_path / 'file'}"), None, ("--workdir",)),
        "corrupt": ((*SMALL, f"--workdir={tmp_path / 'corrupt'}"), None, ("config.json",)),
        "other": ((*SMALL, f"--workdir={tmp_path / 'other'}"), None, ("'zeros' there",)),
        "loss": ((*mlp, "--learning_rate=1e30"), None, ("loss is", "--learning_rate")),
        "data": (
            (*mlp, "--dataset=cifar10", f"--data_dir={tmp_path}"), None, ("cifar10", "--download"),
        ),
    }  # fmt: skip


def test_errors_are_one_or_two_lines(tmp_path):
    cases = wrong(tmp_path)
    runs = launch_each([(flags, devices) for flags, devices, _ in cases.values()])
    for name, run in zip(cases, runs, strict=True):
        assert run.returncode not in (0, 130), name
        assert 1 <= len(run.stderr.strip().splitlines()) <= 2, run.stderr
        assert "Traceback" not in run.stderr
        for word in cases[name][2]:
            assert word in run.stderr
