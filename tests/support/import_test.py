"""`import initjax` is light: what is heavy or comes with an extra waits until it is used."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from initjax.distributions import StudentT

HEAVY = {
    "scipy.special", "scipy.stats", "scipy.optimize", "scipy.linalg", "scipy.interpolate",
    "matplotlib", "flax", "optax", "orbax", "tensorflow_datasets", "tensorboardX", "sklearn",
    "tensorstore", "PIL",
}  # fmt: skip


def loaded(code):
    """The modules that a fresh process has after `code`."""
    code += "; import json, sys; print(json.dumps(list(sys.modules)))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.slow
def test_import_asks_git_nothing():
    """Which commit it is, results say; who only draws weights starts no process."""
    assert "initjax.support.environment" not in loaded("import initjax; initjax.get('nspl')")


@pytest.mark.slow
def test_import_loads_nothing_heavy():
    assert loaded("import initjax; initjax.get('nspl')") & HEAVY == set()


@pytest.mark.parametrize("name", sorted(HEAVY))
def test_what_is_heavy_has_that_name(name):
    """So that the test above cannot pass by names that no module has."""
    assert importlib.util.find_spec(name)


def test_student_t_has_the_quantiles_of_scipy():
    """scipy.stats.t, which would take half a second to import, to the last bit."""
    p = np.concatenate([[0, 1e-100, 1], np.random.default_rng(0).uniform(size=1000)])
    for df in (0.5, 1.5, 3.0, 1e3):
        np.testing.assert_array_equal(StudentT(df).magnitude_isf(p), scipy.stats.t.isf(p / 2, df))
