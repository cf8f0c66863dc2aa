"""What a result says about where it was measured."""

import platform
import subprocess
import sys

import jax
from helpers import ROOT

from initjax.environment import describe_environment


def test_describes_this_process():
    found = describe_environment()
    assert found["device"] == f"{len(jax.devices())} x cpu"
    assert found["python"] == platform.python_version() and found["jax"] == jax.__version__
    assert "cores of" in found["host"]


def test_the_command_is_that_of_the_user(tmp_path):
    """A file relative to the working folder, by its name elsewhere, a module after -m."""
    program = "from initjax.environment import describe_environment as d; print(d()['command'])"
    (tmp_path / "tool.py").write_text(program)
    for folder, expected in ((tmp_path, "python tool.py --a=1"), (ROOT, "python tool.py --a=1")):
        done = subprocess.run(
            [sys.executable, str(tmp_path / "tool.py"), "--a=1"],
            cwd=folder, capture_output=True, text=True, check=True, timeout=240,
        )  # fmt: skip
        assert done.stdout.strip() == expected
    done = subprocess.run(
        [sys.executable, "-m", "tool", "--a=1"],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip
    assert done.stdout.strip() == "python -m tool --a=1"
