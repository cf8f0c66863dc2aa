"""What every command answers: on a function of a line, then on the commands that there are."""

import os
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ROOT, TIMEOUT

from initjax.support import command

pytestmark = pytest.mark.slow

COMMANDS = {
    "launch.py": [str(ROOT / "launch.py")],
    "fit": ["-m", "initjax.fit"],
    "signal": ["-m", "initjax.signal"],
    "names": ["-m", "initjax.names"],
    "initjax": ["-m", "initjax"],
    "train": ["-m", "initjax", "train"],
}
WITHOUT_JAX = ("names", "initjax")


def start(*arguments, **kwargs):
    """Starts Python on `arguments`."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | kwargs
    return subprocess.Popen([sys.executable, *arguments], **streams)


def finish(process):
    """(exit status, stdout, stderr) of what was started."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    return process.returncode, out, err


def start_main(body, resumes=False, **kwargs):
    """Starts a command whose `main` is the line `body`, in an initjax that does not import JAX."""
    code = f"""
import signal, sys, threading, time, types
sys.modules["initjax"] = types.ModuleType("initjax")
sys.modules["initjax"].__path__ = [{str(ROOT / "initjax")!r}]
from initjax.support.errors import Interrupted, UserError
from initjax.support import command
def main():
    {body}
command.run(main, resumes={resumes})
"""
    return start("-c", code, **kwargs)


@pytest.mark.parametrize("ones", [np.ones, jnp.ones])
def test_out_of_memory_is_told_in_two_lines(ones):
    with pytest.raises(SystemExit) as told, command.answers():
        ones(2**50, np.uint8)
    first, second = told.value.code.split("\n")
    assert first.startswith("error: ") and second.startswith("Take a smaller --batch_size")
    with pytest.raises(RuntimeError, match="other"), command.answers():
        raise RuntimeError("other")


@pytest.mark.parametrize(("body", "resumes", "expected"), [
    ("print('fine')", False, (0, "fine\n", "")),
    ("raise UserError('no such thing')", True, (1, "", "error: no such thing\n")),
    ("open('/no/such/file')", False,
     (1, "", "error: [Errno 2] No such file or directory: '/no/such/file'\n")),
    ("open('/no/such/file')", True,
     (1, "", "error: [Errno 2] No such file or directory: '/no/such/file'\n"
      "What was saved before is kept; the same command goes on from it.\n")),
    ("raise Interrupted('SIGINT: saved.')", False, (130, "", "SIGINT: saved.\n")),
    ("raise Interrupted('SIGHUP: saved.', 1)", False, (129, "", "SIGHUP: saved.\n")),
    ("raise Interrupted('SIGTERM: saved.', signal.SIGTERM)", True,
     (143, "", "SIGTERM: saved. Run the same command to go on.\n")),
    ("print('half'); signal.raise_signal(signal.SIGINT)", False, (130, "half\n", "Stopped.\n")),
    ("signal.raise_signal(signal.SIGINT)", True,
     (130, "", "Stopped; what was saved before is kept.\n")),
    ("command.program = lambda: ['tool']; command.Parser().parse_args(['--foo'])", False,
     (1, "", "error: unrecognized arguments: --foo.\n`tool --help` lists what it takes.\n")),
    ("raise UserError('layer' + chr(27) + '[2J' + chr(155) + ': bad' + chr(10) + 'hint')", False,
     (1, "", "error: layer\\x1b[2J\\x9b: bad\nhint\n")),
    ("command.show('shard' + chr(27) + ']0;x' + chr(7) + chr(10) + 'two')", False,
     (0, "shard\\x1b]0;x\\x07\ntwo\n", "")),
    ("sys.exit(3)", False, (3, "", "")),
])  # fmt: skip
def test_answers(body, resumes, expected):
    assert finish(start_main(body, resumes)) == expected


def test_other_errors_keep_their_traceback():
    status, _, err = finish(start_main("raise ValueError('a bug')"))
    assert status == 1 and "Traceback" in err and "a bug" in err


@pytest.mark.parametrize("body", ["print('a' * 9)", "print('a' * 999_999)"])
def test_a_closed_pipe(body):
    reading, writing = os.pipe()
    os.close(reading)
    process = start_main(body, stdout=writing)
    os.close(writing)
    assert finish(process) == (141, None, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_a_full_disk():
    with open("/dev/full", "w") as full:
        found = finish(start_main("print('a')", stdout=full))
    assert found == (1, None, "error: [Errno 28] No space left on device\n")


def test_ctrl_c_that_is_swallowed():
    """As by a callback of JAX's, or a __del__."""
    body = (
        "try: signal.raise_signal(signal.SIGINT)\n"
        "    except KeyboardInterrupt: print('swallowed', flush=True); time.sleep(200)"
    )
    began = time.monotonic()
    assert finish(start_main(body)) == (130, "swallowed\n", "Stopped.\n")
    assert time.monotonic() - began < 100


def test_ctrl_c_while_a_thread_works():
    """Such as one in which XLA compiles, and for which Python's exit would wait."""
    body = (
        "threading.Thread(target=time.sleep, args=(200,)).start();"
        " signal.raise_signal(signal.SIGINT)"
    )
    began = time.monotonic()
    assert finish(start_main(body)) == (130, "", "Stopped.\n")
    assert time.monotonic() - began < 100


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in WITHOUT_JAX])
def test_ctrl_c_while_importing(name, tmp_path):
    """Of all that is imported JAX takes longest; here it is a module that waits."""
    (tmp_path / "jax.py").write_text("import time; print('importing', flush=True); time.sleep(200)")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    process = start(*COMMANDS[name], env=os.environ | {"PYTHONPATH": path})
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert finish(process) == (130, "", "Stopped.\n")


def test_importing_leaves_ctrl_c_to_the_user():
    code = "import signal; h = signal.getsignal(2); import initjax; print(h is signal.getsignal(2))"
    assert finish(start("-c", code)) == (0, "True\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name):
    status, out, err = finish(start(*COMMANDS[name], "--help"))
    assert (status, err) == (0, "") and len(out.splitlines()) >= 3
    assert "{command}" not in out


def test_what_needs_no_jax_does_not_import_it(tmp_path):
    """Which takes a second: helps, the list of commands and of initializers, the version."""
    (tmp_path / "jax.py").write_text("raise AssertionError('JAX is imported')")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    lines = [[*arguments, "--help"] for arguments in COMMANDS.values()]
    lines += [COMMANDS[name] for name in WITHOUT_JAX]
    lines += [["-m", "initjax", "--version"], ["-m", "initjax", "compare", "--help"]]
    started = [start(*line, env=os.environ | {"PYTHONPATH": path}) for line in lines]
    for line, (status, _, err) in zip(lines, map(finish, started), strict=True):
        assert (status, err) == (0, ""), line


def test_a_command_is_named_as_it_was_started():
    started = [
        start("-m", "initjax", "signal", "--help"), start("-m", "initjax.signal", "--help"),
        start(str(ROOT / "launch.py"), "--help", cwd=ROOT),
        start("launch.py", "--help", cwd=ROOT),
    ]  # fmt: skip
    outs = [out for _, out, _ in map(finish, started)]
    assert outs[0].startswith("usage: python -m initjax signal [-h]")
    assert outs[1].startswith("usage: python -m initjax.signal [-h]")
    assert all("\n  python launch.py --init=nspl --model" in out for out in outs[2:])


def test_a_near_miss():
    started = [
        start("-m", "initjax", "trian"), start("-m", "initjax", "fit", "w.npz", "--outt=x"),
    ]  # fmt: skip
    errs = [err for _, _, err in map(finish, started)]
    assert "Did you mean train?" in errs[0] and "Did you mean --out?" in errs[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_flag(name):
    weights = ["w.npz"] if name == "fit" else []
    status, out, err = finish(start(*COMMANDS[name], *weights, "--foo=1"))
    assert (status, out) == (1, "")
    assert err.startswith("error: ") and "foo" in err and len(err.splitlines()) <= 2


@pytest.mark.parametrize("name", COMMANDS)
def test_head(name, tmp_path):
    """`COMMAND | head -1`: the pipe is closed while, or before, the rest is written."""
    np.savez(tmp_path / "w.npz", kernel=np.random.default_rng(0).normal(size=(50, 50)))
    arguments = {
        "launch.py": ["--model=mlp(width=8)", "--steps=2", f"--workdir={tmp_path / 'run'}"],
        "fit": [str(tmp_path / "w.npz"), "--bootstraps=0"],
        "signal": ["--model=mlp(depth=2, width=8)", "--init=he_normal", "--batch_size=8"],
    }.get(name, [])
    process = start(*COMMANDS[name], *arguments)
    assert process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    status, _, err = finish(process)
    assert status in (0, 141) and err == ""
