"""Several processes on this machine, as hosts would be: one job, with one result."""

import pathlib
import socket

import jax
import numpy as np
import pytest
from helpers import launch_together, read_rows, without_times

from initjax import comparison
from initjax.training import cluster
from initjax.training.checkpoints import read_latest

pytestmark = pytest.mark.slow

# tanh, because over the kink of a ReLU a difference in rounding can grow.
TRAIN = (
    "--model=mlp(width=16)", "--activation=tanh", "--init=he_normal", "--augment=none",
    "--steps=50", "--batch_size=64", "--eval_every=0.23",
)  # fmt: skip
COMPARE = (
    "--model=mlp(width=16)", "--init=he_normal,nspl", "--seeds=3", "--augment=none",
    "--steps=30", "--batch_size=64", "--eval_every=0.5",
)  # fmt: skip


def job(flags, folder, devices, processes=2):
    """The processes of a job on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = (f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}")
    return [
        ((*flags, f"--workdir={folder}", *where, f"--process_id={i}"), devices)
        for i in range(processes)
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(folder, {name: answers}) of jobs, and of the same in one process."""
    folder = tmp_path_factory.mktemp("jobs")
    rows = "metrics.jsonl"
    jobs = {
        "one": ([((*TRAIN, f"--workdir={folder / 'one'}"), 4)], None),
        "two": (job(TRAIN, folder / "two", 2), None),
        "second killed": (job(TRAIN, folder / "second", 2), (1, folder / "second" / rows, 3)),
        "first killed": (job(TRAIN, folder / "first", 2), (0, folder / "first" / rows, 3)),
        "second in one": ([((*TRAIN, f"--workdir={folder / 'second'}"), 2)], None),
        "first in two": (job(TRAIN, folder / "first", 1), None),
        "compare in one": ([((*COMPARE, f"--workdir={folder / 'alone'}"), 2)], None),
        "compare in two": (job(COMPARE, folder / "both", 1), None),
    }
    return folder, dict(zip(jobs, launch_together(jobs.values()), strict=True))


def params(folder):
    return read_latest(folder / "checkpoints")["state"]["params"]


def test_two_processes_train_as_one_does(runs):
    folder, found = runs
    assert [(run.returncode, run.stderr) for run in found["two"]] == [(0, "")] * 2
    assert "50 steps on 4 x cpu in 2 processes" in found["two"][0].stdout
    assert "test accuracy" in found["two"][0].stdout
    assert len(found["two"][1].stdout.splitlines()) == 1  # that it waits for the others
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=0),
        params(folder / "two"),
        params(folder / "one"),
    )
    # A row tells of five steps: of other images in them, it would be another one.
    one, two = (without_times(read_rows(folder / name)) for name in ("one", "two"))
    assert [row["step"] for row in one] == [*range(5, 51, 5)]
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.parametrize(("name", "left"), [("second", 0), ("first", 1)])
def test_who_is_left_ends_in_time_and_the_job_goes_on(runs, name, left):
    folder, found = runs
    killed = found[f"{name} killed"]
    assert killed[1 - left].returncode == -9
    assert killed[left].returncode in (1, -6)
    assert killed[left].stderr.splitlines() == cluster.GONE.splitlines()
    assert killed[left].seconds < 10
    resumed = found[{"second": "second in one", "first": "first in two"}[name]]
    assert [(run.returncode, run.stderr) for run in resumed] == [(0, "")] * len(resumed)
    step = int(resumed[0].stdout.split("resumed at step ")[1].split()[0])
    assert 10 <= step < 50
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=0),
        params(folder / name),
        params(folder / "one"),
    )
    assert [row["step"] for row in read_rows(folder / name)] == [*range(5, 51, 5)]


def test_a_comparison_is_spread_over_processes(runs):
    folder, found = runs
    assert [(run.returncode, run.stderr) for run in found["compare in two"]] == [(0, "")] * 2
    assert "2 at once, one on each device (2 x cpu)" in found["compare in two"][0].stdout
    names = ("alone", "both")
    one, two = (comparison.read(folder / name) for name in names)
    assert len(one) == len(two) == 6
    two = {run.key: run for run in two}
    for run in one:
        assert run.accuracy == pytest.approx(two[run.key].accuracy, abs=1e-6)
        assert run.loss == pytest.approx(two[run.key].loss, abs=1e-5)
    assert not list((folder / "both" / "checkpoints").glob("*"))


def test_what_cannot_be_joined_is_told_in_two_lines(tmp_path):
    flags = (*TRAIN, f"--workdir={tmp_path / 'run'}")
    task = {"SLURM_JOB_ID": "17", "SLURM_PROCID": "1"}
    first, second = job(flags, tmp_path / "run", 1)
    cases = {
        "not all processes of this job came to 127.0.0.1:": [first],
        "Process 1 has other settings than process 0": [first, (("--seed=1", *second[0]), 1)],
        "this is no TPU pod": [((*flags, "--distributed"), 1)],
        "need --coordinator": [((*flags, "--process_id=1"), 1)],
        "is not HOST:PORT": [((*flags, "--coordinator=here"), 1)],
        "--process_id=2 must be": [((*first[0], "--process_id=2"), 1)],
        "task 1 of 2 of SLURM": [(flags, 1, task | {"SLURM_NTASKS": "2"})],
        "task 1 of 3 of SLURM": [(flags, 1, task | {"SLURM_STEP_NUM_TASKS": "3"})],
        "task 0 of 2 of Open MPI": [
            (flags, 1, {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"})
        ],
    }
    answers = launch_together([(case, None) for case in cases.values()], patience=4)
    for text, job_answers in zip(cases, answers, strict=True):
        for run in job_answers:
            lines = run.stderr.splitlines()
            assert run.returncode in (1, -6), (text, run)
            assert lines[0].startswith("error: ") and len(lines) <= 2, (text, run.stderr)
            assert text in run.stderr
    assert not pathlib.Path(tmp_path / "run").exists()
