"""experiments/consistency: its runs and its table, on noise."""

import importlib.util
import json
import math
import sys

import pytest
from helpers import ROOT, draw_dataset

pytestmark = pytest.mark.slow

FOLDER = ROOT / "experiments" / "consistency"


@pytest.fixture(scope="module")
def study():
    """(run.py, report.py), of which the second imports the first by the name "run"."""
    modules = []
    for name in ("run", "report"):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        modules.append(module)
    yield modules
    for name in ("run", "report"):
        del sys.modules[name]


def test_runs_and_table(study, tmp_path):
    run, report = study
    setting = run.Setting("batch 32, momentum", draw_dataset(num_train=640), 640)
    runs = []
    for start in ("N(0, 0.01^2)", "consistency"):
        found = setting.run(start, seed=1)
        found |= {"dataset": "noise", "setting": "batch 32, momentum", "start": start, "seed": 1}
        runs.append(json.loads(json.dumps(found | {"environment": run.describe_environment()})))
    small, consistent = runs
    assert len(small["loss"]) == run.WINDOWS and small["steps"] == 20
    assert small["gap_after"] is None and consistent["gap_after"] < consistent["gap_before"]
    assert list(small["statistics"]) == ["0", "5", "10", "15", "20"]
    before = [start["statistics"]["0"]["Conv_2"]["variance"] for start in runs]
    assert before[0] < 1e-3 and before[1] == pytest.approx(1, abs=0.5)
    rows = report.summarize(runs)
    assert [row["n"] for row in rows] == [1, 1]
    text = report.table(rows, runs)
    assert "| noise | batch 32, momentum | 20 | consistency | 1 |" in text
    assert "svhn_cropped | all | | | 0 | not run" in text
    diverged = small | {"loss": [None] * run.WINDOWS, "test_loss": None}  # NaN, as json has it
    assert math.isnan(report.summarize([diverged])[0]["mean_loss"][0])
    file = tmp_path / "runs.jsonl"
    file.write_text(json.dumps(small) + "\n" + json.dumps(consistent)[:-9])  # cut off
    assert run.read_runs(file) == [small]


def test_interval(study):
    """t of 2 degrees of freedom is 4.3027 at 97.5 %."""
    mean, half = study[1].interval([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.302652729749 / math.sqrt(3))
