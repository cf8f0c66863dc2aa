"""Types: what users write is checked, by both checkers that they use."""

import subprocess
import sys

import pytest
from helpers import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(
    "checker", [["basedpyright"], ["mypy", "--strict", "--follow-imports=silent"]]
)
def test_user_code(checker):
    command = [sys.executable, "-m", *checker, "tests/typed_user_code.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout
