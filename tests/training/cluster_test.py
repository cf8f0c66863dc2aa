"""Several processes on this machine, as hosts would be: one job, with one result."""

import signal
import socket

import jax
import numpy as np
import pytest
from helpers import launch_together, read_rows, without_times

from initjax import comparison
from initjax.comparison.population import run_jobs
from initjax.support.errors import UserError
from initjax.training import Config, Devices, cluster, devices, train
from initjax.training.checkpoints import read_latest

# tanh, because over the kink of a ReLU a difference in rounding can grow.
TRAIN = {
    "model": "mlp(width=16)", "activation": "tanh", "init": "he_normal", "augment": "none",
    "steps": 150, "batch_size": 64, "eval_every": 0.45,
}  # fmt: skip
COMPARE = TRAIN | {"init": "he_normal,nspl", "seeds": "3", "eval_every": 0.9}
CLUSTER = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "OMPI_COMM_WORLD_RANK")


def job(settings, folder, devices, processes=2):
    """The processes of a job on this machine, as `launch_together` takes them."""
    flags = [f"--{name}={value}" for name, value in settings.items()] + [f"--workdir={folder}"]
    if processes == 1:
        return [(flags, devices)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags += [f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}"]
    return [([*flags, f"--process_id={i}"], devices) for i in range(processes)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(folder, what each process of each job answered): a run and a comparison that are cut."""
    folder = tmp_path_factory.mktemp("jobs")
    run, both = folder / "run", folder / "both"
    saved = run / "checkpoints"
    jobs = {
        "killed": (
            job(TRAIN, run, 2),
            (signal.SIGKILL, 1, saved / "50", folder / "kept" / "50"),
        ),
        "stopped": (
            job(TRAIN, run, 1),
            (signal.SIGTERM, 1, saved / "100", folder / "kept" / "100"),
        ),
        "resumed": (job(TRAIN, run, 2, processes=1), None),
        "comparison killed": (
            job(COMPARE, both, 1),
            (signal.SIGKILL, 0, both / "rows.jsonl", "nowhere"),
        ),
        "comparison resumed": (job(COMPARE, both, 2, processes=1), None),
    }
    return folder, dict(zip(jobs, launch_together(jobs.values()), strict=True))


def is_gone_in_time(survivor):
    """Of the one that is left; `launches` says 15 s, and this machine may be busy."""
    assert survivor.returncode in (1, -signal.SIGABRT)
    assert survivor.stderr.splitlines() == cluster.GONE.splitlines()
    assert survivor.seconds < 30


def are_close(tree, other, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), tree, other)


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_go_on_as_one(found):
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
    (run,) = answers["resumed"]
    assert (run.returncode, run.stderr) == (0, "")
    step = int(run.stdout.split("resumed at step ")[1].split()[0])
    assert 100 < step <= 150
    are_close(read_latest(folder / "run" / "checkpoints")["state"]["params"], state.params, 1e-4)
    # A row tells of ten steps: of other images in them, or twice the same, it would be another one.
    for row, expected in zip(
        without_times(read_rows(folder / "run")), without_times(rows), strict=True
    ):
        assert row == pytest.approx(expected, abs=1e-5 if row["step"] <= 50 else 1e-3)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others(found):
    _, answers = found
    first, second = answers["killed"]
    assert second.returncode == -signal.SIGKILL
    is_gone_in_time(first)
    first, second = answers["comparison killed"]
    assert first.returncode == -signal.SIGKILL
    is_gone_in_time(second)


@pytest.mark.slow
def test_sigterm_to_one_stops_all_at_the_same_step(found):
    _, answers = found
    first, second = answers["stopped"]
    assert first.stdout.count("resumed at step") == 1
    assert second.stdout.count("\n") == 1  # that it waits for the others
    (told,) = {run.stderr.splitlines()[-1] for run in (first, second)}
    assert told.startswith("SIGTERM: stopped at step ")
    assert first.returncode == second.returncode > 0


@pytest.mark.slow
def test_a_comparison_is_spread_over_processes(found):
    folder, answers = found
    assert "2 at once, one on each device (2 x cpu)" in answers["comparison killed"][0].stdout
    (resumed,) = answers["comparison resumed"]
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert "2 of them done" in resumed.stdout or "4 of them done" in resumed.stdout
    runs = {run.key: run for run in comparison.read(folder / "both")}
    assert len(runs) == 6
    assert not list((folder / "both" / "checkpoints").glob("*"))
    settings = {k: v for k, v in COMPARE.items() if k not in ("init", "seeds")}
    starts = [(init, seed) for init in ("he_normal", "nspl") for seed in range(3)]
    jobs = [
        comparison.population.Job(Config.create(init=init, seed=seed, **settings))
        for init, seed in starts
    ]
    for run in run_jobs(jobs):
        assert runs[run.key].accuracy == pytest.approx(run.accuracy, abs=0.01)
        assert runs[run.key].loss == pytest.approx(run.loss, abs=1e-3)


@pytest.mark.slow
def test_what_cannot_be_joined_is_told_in_two_lines(tmp_path):
    first, second = job(TRAIN, tmp_path / "run", 1)
    other = (["--seed=1", *second[0]], 1)
    cases = {
        "not all processes of this job came to 127.0.0.1:": [second],
        "Process 1 has other settings than process 0": [first, other],
        "this is no TPU pod": [(["--distributed"], 1)],
    }
    answers = launch_together([(case, None) for case in cases.values()], patience=20)
    for text, run in zip(cases, (run for run, *_ in answers), strict=True):
        assert run.returncode in (1, -signal.SIGABRT)
        lines = run.stderr.splitlines()
        assert len(lines) == 2 and lines[0].startswith("error: ") and text in lines[0]
    assert not (tmp_path / "run").exists()


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
