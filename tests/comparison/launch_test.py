"""Comparisons by the command line: as the README writes them, at reduced length."""

import dataclasses
import json
import os
import subprocess
import sys
import time

import pytest
from helpers import ROOT, TIMEOUT, finish, launch, launch_each, start

from initjax.comparison import read

pytestmark = pytest.mark.slow

SMALL = ("--model=mlp(width=8)", "--epochs=2", "--batch_size=64", "--augment=none")


def rows(folder):
    """The rows of a comparison, without times."""
    return {run.key: dataclasses.replace(run, seconds=None) for run in read(folder)}


@pytest.mark.timeout(900)  # six processes, each of which compiles
def test_killed_again_and_again_it_ends_with_the_same_rows(tmp_path):
    flags = (*SMALL, "--init=nspl,he_normal", "--seeds=3")
    whole = launch(*flags, f"--workdir={tmp_path / 'whole'}")
    assert (whole.returncode, whole.stderr) == (0, "")
    lines = whole.stdout.splitlines()
    assert lines[0] == "Comparison of nspl, he_normal"
    assert "6 runs, 0 of them done; 1 program" in lines[1]
    assert lines[-1] == f"In {tmp_path / 'whole'}: comparison.json, report.html, rows.jsonl"
    assert "no verdict" in whole.stdout or "annot tell" in whole.stdout
    found = json.loads((tmp_path / "whole" / "comparison.json").read_text())
    assert found["starts"] == ["he_normal", "nspl"] and "launch.py" in found["about"]["command"]
    assert "<h1>" in (tmp_path / "whole" / "report.html").read_text()

    killed = tmp_path / "killed"
    table = killed / "rows.jsonl"
    for number in (0, 2):
        process = start(*flags, f"--workdir={killed}", stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT
        # While compiling, and at about the second row.
        while process.poll() is None and time.monotonic() < deadline:
            if table.exists() and table.read_text().count("\n") >= number:
                break
            time.sleep(0.01)
        process.kill()
        finish(process)  # closes its pipes
    # A kill in the middle of a line.
    with table.open("a") as file:
        file.write('{"start": "nspl", "se')
    last = launch(*flags, f"--workdir={killed}")
    assert (last.returncode, last.stderr) == (0, "")
    assert rows(killed) == rows(tmp_path / "whole")

    # A start more and a seed more: what is there is not run again.
    before = table.read_text().splitlines()
    more = launch(*SMALL, "--init=nspl,he_normal,zeros", "--seeds=4", f"--workdir={killed}")
    assert (more.returncode, more.stderr) == (0, "")
    assert "12 runs, 6 of them done" in more.stdout and "6 runs done in" in more.stdout
    after = table.read_text().splitlines()
    assert after[:6] == before and len(after) == 12
    # A part of what is there is judged by itself.
    less = launch(*SMALL, "--init=nspl,zeros", "--seeds=2,3", f"--workdir={killed}")
    assert "nothing is left to run" in less.stdout and "has 8 runs more" in less.stdout
    assert table.read_text().splitlines() == after

    command = [sys.executable, "-m", "initjax.comparison", str(killed)]
    judged = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert judged.returncode == 0 and "he_normal" in judged.stdout and "zeros" in judged.stdout


OWN = {
    "nets.py": """
from typing import Any

import flax.linen as nn


class MyNet(nn.Module):
    num_classes: int
    kernel_init: Any

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(8, kernel_init=self.kernel_init)(x.reshape(len(x), -1)))
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init)(x)


class Deaf(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(x.reshape(len(x), -1))
""",
    "data.py": """
from sklearn.datasets import load_digits


def load():
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8, 1).astype("float32")
    return x[:1400], y[:1400], x[1400:], y[1400:]
""",
}


def launch_in(folder, *flags):
    """launch.py in a folder that has my_package."""
    (folder / "my_package").mkdir(exist_ok=True)
    for name, text in OWN.items():
        (folder / "my_package" / name).write_text(text)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, str(ROOT / "launch.py"), *flags]
    return finish(subprocess.Popen(command, cwd=folder, env=environment, **streams))


def test_the_users_own(tmp_path):
    run = launch_in(
        tmp_path,
        "--init=nspl,he_normal",
        "--model=my_package.nets:MyNet",
        "--dataset=my_package.data:load",
        "--learning_rate=0.01,0.03,0.1",
        "--seeds=7",
        "--baseline=he_normal",
        "--steps=5",
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "42 runs" in run.stdout and "--tune adds one at each start's own rate" in run.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("comparison-") and len(read(folder)) == 42
    verdict = json.loads((folder / "comparison.json").read_text())
    (setting,) = verdict["settings"]
    assert [contest["learning_rate"] for contest in setting["contests"]] == [0.01, 0.03, 0.1]
    assert verdict["baseline"] == "he_normal"
    assert setting["values"]["model"] == "my_package.nets:MyNet"


def test_tuned(tmp_path):
    flags = (*SMALL[:-1], "--augment=none", "--steps=5", "--init=nspl,zeros", "--seeds=2")
    flags = [flag for flag in flags if not flag.startswith("--epochs")]
    run = launch(*flags, "--tune", "--learning_rate=0.03,0.1", f"--workdir={tmp_path}")
    assert (run.returncode, run.stderr) == (0, "")
    found = read(tmp_path)
    assert {run.phase for run in found} == {"test", "tuning"}
    assert {run.test_images for run in found if run.phase == "tuning"} != {360}
    assert {run.test_images for run in found if run.phase == "test"} == {360}
    assert "held out of the training set" in (tmp_path / "report.html").read_text()


def test_a_model_that_no_start_would_change(tmp_path):
    run = launch_in(tmp_path, "--model=my_package.nets:Deaf")
    assert run.returncode == 1 and "has no field kernel_init" in run.stderr
    run = launch_in(tmp_path, "--model=my_package.nets:MyNet", "--activation=tanh")
    assert run.returncode == 1 and "has no field activation" in run.stderr
    assert len(run.stderr.splitlines()) <= 2


def test_errors_are_told_at_once(tmp_path):
    cases = {
        "Did you mean --learning_rate?": ["--learning_rates=0.1,0.2"],
        "Did you mean --baseline?": ["--basline=nspl"],
        "--seed=0,1": ["--seed=0,1"],
        "--learning_rate=x is not a number.": ["--learning_rate=x"],
        "--baseline='ones' is not one of the starts": ["--init=nspl,zeros", "--baseline=ones"],
        "--population=foo": ["--population=foo", "--seeds=2"],
        "two starts": ["--until_decided=9"],
        "--seed and --seeds": ["--init=nspl,zeros", "--seeds=2", "--seed=3"],
    }
    place = f"--workdir={tmp_path / 'new'}"
    runs = launch_each([([*flags, place], None) for flags in cases.values()])
    for message, run in zip(cases, runs, strict=True):
        assert (run.returncode, run.stdout) == (1, "")
        assert message in run.stderr and len(run.stderr.splitlines()) <= 2
        assert not (tmp_path / "new").exists()


def test_the_folder_of_a_single_run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    run = launch("--init=nspl,zeros", "--seeds=2", f"--workdir={tmp_path}")
    assert run.returncode == 1 and "a single run, not a comparison" in run.stderr
