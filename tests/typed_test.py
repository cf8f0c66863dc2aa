"""Types: what users write is checked, by both checkers that they use; public names are typed."""

import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT

# Of these every public name of every file; of the other wings the functions in their faces.
WHOLE = ("support", "theory", "distributions", "initializers", "network")
FACES = ("models", "data", "weights", "fit", "refine", "signal", "training", "comparison")


@pytest.mark.slow
@pytest.mark.parametrize(
    "checker",
    [["basedpyright"], ["mypy", "--strict", "--follow-imports=silent"]],
)
def test_user_code(checker):
    command = [sys.executable, "-m", *checker, "tests/typed_user_code.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_public_names_have_whole_types():
    command = [sys.executable, "-m", "basedpyright", "--verifytypes", "initjax"]
    command += ["--ignoreexternal", "--outputjson"]
    # It looks for packages along Python's path, where an editable install need not be.
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
    )
    found = json.loads(done.stdout)["typeCompleteness"]["symbols"]

    def is_held(symbol):
        _, wing, *rest = [*symbol["name"].split("."), ""]
        return wing in WHOLE or not rest[0] or (wing in FACES and len(rest) == 2)

    held = [s for s in found if s["isExported"] and is_held(s)]
    held = [s for s in held if s["name"].split(".")[1] in WHOLE or s["category"] == "function"]
    assert len(held) > 1500
    assert not [s["name"] for s in held if not s["isTypeKnown"]]
