"""Several processes on this machine, as hosts would be: one job, with one result."""

import signal
import socket

import jax
import numpy as np
import pytest
from helpers import launch_together, quick, read_rows, without_times

from initjax import comparison
from initjax.comparison.population import Job, run_jobs
from initjax.support.errors import UserError
from initjax.training import Config, Devices, cluster, devices, train, train_and_evaluate
from initjax.training.checkpoints import read_latest

# tanh, because over the kink of a ReLU a difference in rounding can grow.
TRAIN = {
    "model": "mlp(width=16)", "activation": "tanh", "init": "he_normal", "augment": "none",
    "steps": 150, "batch_size": 64, "eval_every": 1.14,
}  # fmt: skip
COMPARE = TRAIN | {"init": "he_normal,nspl", "seeds": "3"}
CLUSTER = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "OMPI_COMM_WORLD_RANK")


def job(settings, folder, devices):
    """The two processes of a job on this machine, as `launch_together` takes them."""
    flags = [f"--{name}={value}" for name, value in settings.items()] + [f"--workdir={folder}"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags += [f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
    environment = {"XLA_FLAGS": quick(devices)}
    return [([*flags, f"--process_id={i}"], devices, environment) for i in range(2)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(folder, what each process of each job answered): a run and a comparison that are cut.

    Beside the first of them a process that waits for others, and one that finds no cluster.
    """
    folder = tmp_path_factory.mktemp("jobs")
    run, both, none = folder / "run", folder / "both", folder / "none"
    saved = run / "checkpoints"
    first, second = job(TRAIN, none, 1)
    jobs = {
        "killed": (
            [*job(TRAIN, run, 2), job(TRAIN, none, 1)[1], (["--distributed"], 1)],
            (signal.SIGKILL, 1, saved / "50", folder / "kept" / "50"),
        ),
        "stopped": (
            job(TRAIN, run, 2),
            (signal.SIGTERM, 1, saved / "100", folder / "kept" / "100"),
        ),
        "comparison killed": (
            job(COMPARE, both, 1),
            (signal.SIGKILL, 0, both / "rows.jsonl", "nowhere"),
        ),
        "unequal": ([first, (["--seed=1", *second[0]], *second[1:])], None),
    }
    return folder, dict(zip(jobs, launch_together(jobs.values()), strict=True))


def is_gone_in_time(survivor):
    """Of the one that is left; `launches` says 15 s, and this machine may be busy."""
    assert survivor.returncode in (1, -signal.SIGABRT)
    assert survivor.stderr == cluster.GONE + "\n"  # whole, so that a failure shows all of it
    assert survivor.seconds < 30


def are_close(tree, other, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), tree, other)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_as_one_does_and_one_goes_on(found, capsys):
    folder, answers = found
    params = {}
    settings = {k: v for k, v in TRAIN.items() if k != "model"}
    rows, state = train(
        TRAIN["model"],
        "digits",
        devices=Devices(jax.devices()[:4]),
        record=lambda step, state: params.update({step: jax.device_get(state.params)}) or {},
        **settings,
    )
    assert "150 steps on 4 x cpu in 2 processes" in answers["killed"][0].stdout
    are_close(read_latest(folder / "kept")["state"]["params"], params[100], 1e-4)
    (folder / "kept" / "100").rename(folder / "100")
    are_close(read_latest(folder / "kept")["state"]["params"], params[50], 1e-5)
    train_and_evaluate(Config.create(**TRAIN, workdir=str(folder / "run")))
    step = int(capsys.readouterr().out.split("resumed at step ")[1].split()[0])
    assert 100 < step <= 150
    are_close(read_latest(folder / "run" / "checkpoints")["state"]["params"], state.params, 1e-4)
    # A row tells of 25 steps: of other images in them, or twice the same, it would be another one.
    for row, expected in zip(
        without_times(read_rows(folder / "run")), without_times(rows), strict=True
    ):
        assert row == pytest.approx(expected, abs=1e-5 if row["step"] <= 50 else 1e-3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_process_that_is_killed_ends_the_others(found):
    _, answers = found
    first, second, *_ = answers["killed"]
    assert second.returncode == -signal.SIGKILL
    is_gone_in_time(first)
    first, second = answers["comparison killed"]
    assert first.returncode == -signal.SIGKILL
    is_gone_in_time(second)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sigterm_to_one_stops_all_at_the_same_step(found):
    _, answers = found
    first, second = answers["stopped"]
    assert first.stdout.count("resumed at step") == 1
    assert second.stdout.count("\n") == 1  # that it waits for the others
    (told,) = {run.stderr.splitlines()[-1] for run in (first, second)}
    assert told.startswith("SIGTERM: stopped at step ")
    assert first.returncode == second.returncode > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_comparison_is_spread_over_processes_and_one_goes_on(found):
    folder, answers = found
    assert "2 at once, one on each device (2 x cpu)" in answers["comparison killed"][0].stdout
    settings = {k: v for k, v in COMPARE.items() if k not in ("init", "seeds")}
    starts = [(init, seed) for seed in range(3) for init in COMPARE["init"].split(",")]
    jobs = [Job(Config.create(init=init, seed=seed, **settings)) for init, seed in starts]
    there = {run.key: run for run in comparison.read(folder / "both")}
    assert 2 <= len(there) < 6
    runs = run_jobs(jobs, folder=folder / "both")
    assert not list((folder / "both" / "checkpoints").glob("*"))
    for run, alone in zip(runs, run_jobs(jobs), strict=True):
        assert there.get(run.key, run) == run
        assert run.accuracy == pytest.approx(alone.accuracy, abs=0.01)
        assert run.loss == pytest.approx(alone.loss, abs=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_cannot_be_joined_is_told_in_two_lines(found):
    folder, answers = found
    *_, waiting, alone = answers["killed"]
    first, second = answers["unequal"]
    for run, text in (
        (waiting, "not all processes of this job came to 127.0.0.1:"),
        (alone, "this is no TPU pod"),
        (first, "Process 1 has other settings than process 0"),
        (second, "Process 1 has other settings than process 0"),
    ):
        assert run.returncode in (1, -signal.SIGABRT)
        lines = run.stderr.splitlines()
        assert len(lines) == 2 and lines[0].startswith("error: ") and text in lines[0]
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    ("flags", "environment", "text"),
    [
        ({"process_id": 1}, {}, "need --coordinator=HOST:PORT"),
        ({"num_processes": 2}, {}, "need --coordinator=HOST:PORT"),
        ({"coordinator": "here"}, {}, "--coordinator=here is not HOST:PORT"),
        ({"coordinator": "here:99999"}, {}, "is not HOST:PORT"),
        ({"coordinator": "http://a:1"}, {}, "is not HOST:PORT"),
        ({"coordinator": "h:1", "num_processes": 0}, {}, "--num_processes=0"),
        ({"coordinator": "h:1", "num_processes": 2, "process_id": 2}, {}, "--process_id=2"),
        ({"coordinator": "h:1", "process_id": -1}, {}, "--process_id=-1"),
        ({"coordinator": "h:1", "distributed": False}, {}, "contradict"),
        ({}, {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, "task 1 of 2 of SLURM"),
        ({}, {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "3"}, "task 0 of 3 of SLURM"),
        ({}, {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, "of 2 of Open MPI"),
    ],
)
def test_flags_that_do_not_go_together(monkeypatch, flags, environment, text):
    for name in CLUSTER:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=text) as error, cluster.joined(**flags):
        raise AssertionError
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_NTASKS": "4"},  # of salloc, whose shell is no task
    ],
)
def test_one_task_alone_trains(monkeypatch, environment):
    for name in CLUSTER:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with cluster.joined():
        assert devices.is_first()
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with cluster.joined(distributed=False):
        assert devices.gather("alone") == ["alone"]
