"""Of estimates docs/fit.md says what was measured, and they are the most likely ones."""

import importlib
import json
import pathlib
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[2]


@pytest.fixture(params=["estimates", "peers_fit"])
def measured(request, monkeypatch):
    """(name, rows, their table) of a benchmark."""
    monkeypatch.syspath_prepend(FOLDER / "benchmarks")
    module = importlib.import_module(request.param)
    rows = json.loads((FOLDER / f"benchmarks/results/{request.param}.json").read_text())["rows"]
    yield request.param, rows, module.table(rows)
    for name in (request.param, "layers", "common"):
        del sys.modules[name]


def test_the_document_has_the_table_of_the_results(measured):
    name, _, table = measured
    assert f"<!-- {name} -->\n{table}\n<!-- /{name} -->" in (FOLDER / "docs/fit.md").read_text()


def test_no_estimate_is_a_nat_below_the_maximum():
    rows = json.loads((FOLDER / "benchmarks/results/estimates.json").read_text())["rows"]
    assert len({row["sample"] for row in rows if row["kind"] == "real"}) >= 30
    assert sum(row["kind"] == "drawn" for row in rows) >= 200
    assert all(row["direct"] - row["at_estimate"] < 1 for row in rows if row["converged"])
    assert all(row["converged"] for row in rows)
