"""The examples in docstrings and in the README do what they show."""

import doctest
import importlib
import pathlib
import pkgutil

import pytest

import initjax

README = pathlib.Path(__file__).parents[1] / "README.md"
MODULES = [
    info.name
    for info in pkgutil.walk_packages(initjax.__path__, "initjax.")
    if info.name != "initjax.names"  # a command; as a module it is the function
]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    """So that the test above cannot pass by finding none."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES]
    found = [test for module in modules for test in finder.find(module) if test.examples]
    assert len(found) >= 15


@pytest.mark.slow
def test_readme():
    result = doctest.testfile(str(README), module_relative=False)
    assert result.failed == 0 and result.attempted >= 5
