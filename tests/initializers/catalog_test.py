"""The table of names is complete, and the page is what the code says."""

import subprocess
import sys

import pytest
from helpers import ROOT

import initjax
from initjax.initializers.catalog import ENTRIES, kurtosis, page

DOCS = ROOT / "docs"


def test_every_name_has_an_entry():
    listed = [name for entry in ENTRIES for name in entry.names]
    assert sorted(listed) == initjax.names()
    for entry in ENTRIES:
        assert len({initjax.get(name) for name in entry.names}) == 1


def test_the_page_is_up_to_date():
    """If this fails: python docs/generate.py"""
    assert (DOCS / "initializers.md").read_text() == page()
    pictures = {path.stem for path in (DOCS / "images").glob("*.png")}
    shown = {e.names[0] for e in ENTRIES if kurtosis(e.names[0]) is not None}
    assert pictures == shown


def test_kurtosis():
    assert kurtosis("he_uniform") == 1.8
    assert kurtosis("zeros") is None
    assert 2.9 < kurtosis("orthogonal") < 3.1


def test_importing_the_module_leaves_the_function():
    """In a fresh process, where no other test has imported it."""
    code = "import initjax.names; print('nspl' in initjax.names()); from initjax import names"
    code += "; print(names is initjax.names)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "True\nTrue\n"


@pytest.mark.parametrize("module", ["initjax", "initjax.names"])
def test_terminal_table(module):
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "nspl" in done.stdout and "he_normal, kaiming_normal" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
