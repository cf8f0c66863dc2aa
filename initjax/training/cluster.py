"""How the processes of a job find each other, and how they end."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Iterator

import jax

from initjax.support import command
from initjax.support.errors import Interrupted, UserError
from initjax.training.devices import is_first

_PEER_ERRORS = pathlib.Path(__file__).with_name("peer_errors.py")

# Seconds that a process waits for the others to come: hosts of a cluster start minutes apart.
PATIENCE = 300

# Seconds after which a process that says nothing is taken for dead: killed, or its host cut off.
# The first process is missed in less than one, because the others' connections to it close.
HEARTBEAT = 30

_NOT_COME = (
    "error: not all processes of this job came to {place} within {seconds} s.\n"
    "Start one on each host, with the address and an open port of process 0's, the same"
    " --num_processes, and each its own --process_id."
)
GONE = (
    "error: another process of this job has ended or cannot be reached; its own messages say why.\n"
    "What was saved before is kept; the same command, in all of them, goes on from it."
)

# (who started the tasks, the variable that numbers them, those that count them)
_LAUNCHERS = (
    ("SLURM", "SLURM_PROCID", ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")),
    ("Open MPI", "OMPI_COMM_WORLD_RANK", ("OMPI_COMM_WORLD_SIZE",)),
)

# What a collective raises when the other end is gone: over gloo, NCCL, and the coordinator.
_LOST = re.compile(
    r"gloo|NCCL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|coordination|barrier|heartbeat"
    r"|broken pipe|connection (closed|reset|refused)",
    re.IGNORECASE,
)


@contextlib.contextmanager
def joined(
    coordinator: str = "",
    num_processes: int | None = None,
    process_id: int | None = None,
    distributed: bool | None = None,
) -> Iterator[None]:
    """Inside, this process is one of its job, if the flags say so; else nothing is done.

    JAX must not have been used before. Only the first process shows what it prints. At the end all
    wait for each other. An error ends the process here, with its message: Python's own end would
    wait for processes that may be gone.

    Args:
      coordinator: HOST:PORT of process 0.
      num_processes, process_id: of the job; None asks the cluster.
      distributed: True asks the cluster for everything: a TPU pod, SLURM, Open MPI or Kubernetes.
        False says that this process is alone, whatever has started it.

    Raises:
      UserError: flags that do not go together; no cluster that JAX knows; one of several tasks that
        would train the same, each alone.
    """
    if not coordinator and not distributed:
        _check_alone(num_processes, process_id, distributed)
        yield
        return
    if coordinator:
        _check(coordinator, num_processes, process_id, distributed)
    place = coordinator or "the first of them"
    with _plain_errors(_NOT_COME.format(place=place, seconds=PATIENCE)) as restore:
        _initialize(coordinator, num_processes, process_id)
        try:
            if not is_first():  # JAX learns which devices there are, so that all must be alive
                sys.stdout.flush()
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            yield
        except Interrupted:  # all processes at the same step
            _part()
            raise
        except Exception as error:
            code = _tell(error)
            time.sleep(
                1
            )  # the first one's end is that of the others, who may have words of their own
            restore()
            os._exit(code)
        _part()


def _check_alone(num_processes, process_id, distributed):
    if num_processes is not None or process_id is not None:
        raise UserError("--num_processes and --process_id need --coordinator=HOST:PORT.")
    for launcher, number, counts in _LAUNCHERS if distributed is None else ():
        tasks = next((os.environ[name] for name in counts if name in os.environ), "1")
        if number in os.environ and tasks.isdecimal() and int(tasks) > 1:
            raise UserError(
                f"This is task {os.environ[number]} of {tasks} of {launcher}, and each would train"
                " the same, alone.\nPass --distributed, and all train together; or --nodistributed,"
                " where each has its own flags."
            )


def _check(coordinator, num_processes, process_id, distributed):
    if distributed is False:
        raise UserError("--coordinator and --nodistributed contradict each other.")
    port = re.fullmatch(r"[^\s:]+:(\d{1,5})|\[[\da-fA-F:]+\]:(\d{1,5})", coordinator)
    if not port or not 0 < int(port[1] or port[2]) < 2**16:
        raise UserError(
            f"--coordinator={coordinator} is not HOST:PORT, such as 10.0.0.1:1234: process 0's"
            " address, and a free port there."
        )
    if num_processes is not None and num_processes < 1:
        raise UserError(f"--num_processes={num_processes} must be 1 or more.")
    if process_id is not None and not 0 <= process_id < (num_processes or process_id + 1):
        raise UserError(f"--process_id={process_id} must be 0 to --num_processes - 1.")


def _initialize(coordinator, num_processes, process_id):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would swallow each SIGTERM; `stopping` hears them, and `reason_of_any` tells the others.
    jax.config.update("jax_enable_preemption_service", False)
    who = "a process" if process_id is None else f"process {process_id} of {num_processes or '?'}"
    at = f" at {coordinator}" if coordinator else ""
    command.show(f"{who} waits for the others{at}, up to {PATIENCE} s")
    with warnings.catch_warnings(record=True) as hints:
        warnings.simplefilter("always")
        try:
            jax.distributed.initialize(
                coordinator or None,
                num_processes,
                process_id,
                initialization_timeout=PATIENCE,
                heartbeat_timeout_seconds=HEARTBEAT,
            )
        except Exception as error:  # of cluster detection any, of the runtime its own
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            if any("kubernetes" in str(hint.message) for hint in hints):
                why = "Kubernetes cannot be asked without its package: pip install 'jax[k8s]'"
            elif isinstance(error, ValueError):
                why = "this is no TPU pod and no task of SLURM, Open MPI or Kubernetes"
            raise UserError(
                f"This process cannot join a job: {why}.\nPass --coordinator=HOST:PORT (process 0's"
                " host and a free port there) --num_processes=N --process_id=I."
            ) from None


def _part() -> None:
    """Waits for all processes, so that none takes the end of another for its death."""
    with contextlib.suppress(Exception):
        jax.distributed.shutdown()


def _tell(error: Exception) -> int:
    """Shows an error as the command does; its exit code."""
    # Whatever its type: what reads and writes checkpoints wraps JAX's errors in its own.
    words = f"{error} {error.__cause__} {error.__context__}"
    if not isinstance(error, UserError) and _LOST.search(words):
        print(GONE, file=sys.stderr)
        return 1
    try:
        with command.answers(resumes=True):
            raise error
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 1
        return int(stop.code or 0)
    except Exception:
        time.sleep(2)  # where the coordinator is gone JAX ends the process, in the midst of a trace
        traceback.print_exc()
        return 1


@contextlib.contextmanager
def _plain_errors(not_come: str):
    """Inside, stderr goes through `peer_errors`; yields what ends that."""
    sys.stderr.flush()
    before = os.dup(2)
    reader = subprocess.Popen(
        [sys.executable, "-I", "-S", _PEER_ERRORS, not_come, GONE],
        stdin=subprocess.PIPE,
        start_new_session=True,  # which the terminal's Ctrl-C does not reach
    )
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()

    def restore():
        sys.stderr.flush()
        os.dup2(before, 2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            reader.wait(timeout=5)  # it has read all, unless a child holds the pipe

    try:
        yield restore
    finally:
        restore()
        os.close(before)
