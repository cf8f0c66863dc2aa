"""Runs launch.py many times, importing it once: a process that forks for each of them.

Each line of the input is, in JSON, what runs at the same time: [flags, environment] of each, and
[signal, which of them it is sent to, what file or folder has come by then, where that is copied to]
or nothing. Each line of the output is what each answered: {"returncode", "stdout", "stderr",
"seconds"}, the last from the signal on. What a process imports costs three seconds, and nothing of
it is what these tests ask.
"""

import json
import os
import pathlib
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback

LAUNCH = pathlib.Path(__file__).resolve().parents[1] / "launch.py"
PATIENCE = 120  # seconds


def start(flags, environment):
    """(process, its stdout, its stderr) of launch.py."""
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    child = os.fork()
    if child:
        return child, out, err
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    os.environ.update(environment)
    sys.argv = [str(LAUNCH), *flags]
    call_and_exit(lambda: runpy.run_path(str(LAUNCH), run_name="__main__"))


def call_and_exit(function):
    """Ends a forked process as Python would end after this call."""
    code = 1
    try:
        function()
        code = 0
    except SystemExit as stop:  # as Python ends with it
        code = stop.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def has_come(path):
    return os.path.isdir(path) or (os.path.exists(path) and os.path.getsize(path) > 0)


def run(runs, kill):
    """The answers to one line."""
    processes = [start(*each) for each in runs]
    codes, ended = {}, {}
    began = time.monotonic()
    deadline = began + PATIENCE
    while len(codes) < len(processes):
        if kill and has_come(kill[2]):
            os.kill(processes[kill[1]][0], kill[0])
            began = time.monotonic()
            if os.path.isdir(kill[2]):
                shutil.copytree(kill[2], kill[3])
            kill = None
        for process, _, _ in processes:
            if process not in codes and (waited := os.waitpid(process, os.WNOHANG))[0]:
                codes[process] = os.waitstatus_to_exitcode(waited[1])
                ended[process] = time.monotonic() - began
            elif process not in codes and time.monotonic() > deadline:
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    answers = []
    for process, out, err in processes:
        texts = {}
        for name, file in (("stdout", out), ("stderr", err)):
            file.seek(0)
            texts[name] = file.read().decode()
            file.close()
        answers.append({"returncode": codes[process], "seconds": ended[process], **texts})
    return answers


if __name__ == "__main__":
    runpy.run_path(str(LAUNCH), run_name="launch")  # imports all, and starts no device
    from initjax import training  # noqa: F401
    from initjax.training import cluster

    cluster.PATIENCE, cluster.HEARTBEAT = 40, 15
    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)
