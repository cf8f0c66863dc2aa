"""What a result says about where it was measured."""

import pathlib
import platform
import subprocess
import sys

import flax
import jax
import jaxlib
import numpy as np
import optax
import pytest
import scipy
from helpers import ROOT

import initjax
from initjax.support import environment
from initjax.support.environment import describe_environment


def test_describes_this_process():
    found = describe_environment()
    assert found["device"] == f"{len(jax.devices())} x cpu"
    assert found["python"] == platform.python_version() and found["jax"] == jax.__version__
    assert "cores of" in found["host"]
    for package in (jax, jaxlib, flax, optax, np, scipy, initjax):
        assert found[package.__name__] == package.__version__


def git(folder, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
    """Whatever folder the user is in; only of Python files it says that they were changed."""
    commit = environment._commit.__wrapped__
    folder = tmp_path / "checkout"
    folder.mkdir()
    assert commit(folder) == (None, None)  # installed
    git(folder, "init")
    assert commit(folder) == (None, None)  # nothing committed
    for name in ("code.py", "results.json"):
        (folder / name).write_text("0")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "message")
    head = git(folder, "rev-parse", "HEAD")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert commit(folder) == (head, False)
    (folder / "results.json").write_text("1")
    assert commit(folder) == (head, False)
    (folder / "code.py").write_text("1")
    assert commit(folder) == (head, True)
    (folder / "package").mkdir()
    assert commit(folder / "package") == (None, None)  # as in an environment inside a checkout
    monkeypatch.setenv("PATH", "")
    assert commit(folder) == (None, None)  # no git


def test_the_commit_is_asked_for_once(monkeypatch):
    environment._commit.cache_clear()
    calls = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: calls.append(a) or run(*a, **k))
    first = describe_environment()
    assert describe_environment()["commit"] == first["commit"]
    assert len(calls) == (pathlib.Path(initjax.__file__).parents[1] / ".git").exists()


@pytest.mark.slow
def test_the_command_is_that_of_the_user(tmp_path):
    """A file relative to the working folder, by its name elsewhere, a module after -m."""
    program = "from initjax.support.environment import describe_environment as describe\n"
    program += "print(describe()['command'])"
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
