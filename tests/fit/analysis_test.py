"""One layer's findings: what fails leaves a reason in its place and costs nothing else."""

import dataclasses

import numpy as np
import pytest

from initjax.distributions.laws import LAWS
from initjax.fit import analysis, likelihood
from initjax.fit.analysis import analyze
from initjax.fit.histograms import histogram
from initjax.support.errors import UserError

RNG = np.random.default_rng


def analyzed(weights, **arguments):
    weights = np.asarray(weights, np.float32)
    return analyze(histogram(weights), weights, bootstraps=5, **arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_repeated_weights(dtype):
    """A few sizes, each many times: the bootstrap of one such layer was an IndexError."""
    rng = RNG(27)
    size = int(rng.integers(20, 60))
    values = rng.normal(0, 0.02, size)
    weights = np.repeat(values, int(rng.integers(10, 100))).reshape(size, -1)
    found = analyze(histogram(weights.astype(dtype)), weights, bootstraps=20)
    assert found.laws and (found.tail or found.failed["tail"])


@pytest.mark.parametrize("seed", range(8))
def test_tails_inside_one_bin(seed):
    """No exponent in the thousands: a tail has five sizes, or it is null with a reason."""
    rng = RNG(seed)
    body = rng.normal(0, 0.02, (100, 30))
    body[:2] = 0.5 * (1 + 1e-4 * rng.random((2, 30)))  # all of the tail in one bin
    found = analyzed(body)
    assert found.tail.alpha < 100 or "tail" in found.failed
    few = analyzed(np.repeat(rng.normal(size=12), 50).reshape(20, 30))
    assert few.tail is None and "too few for a tail" in few.failed["tail"]


@pytest.mark.parametrize("name", ["slope", "cutoff_exponents", "tail", "scales", "position_fits"])
@pytest.mark.parametrize("error", [IndexError("index 3"), UserError("too few"), MemoryError()])
def test_one_failure_leaves_the_others(monkeypatch, name, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(analysis, name, fails)
    found = analyzed(RNG(0).normal(size=(20, 30)))
    key = {"cutoff_exponents": "cutoffs", "position_fits": "positions"}.get(name, name)
    assert list(found.failed) == [key] and found.failed[key]
    assert set(found.laws) == set(LAWS)


def test_one_law_that_fails_leaves_the_others(monkeypatch):
    def fails(*_):
        raise FloatingPointError("underflow")

    monkeypatch.setitem(LAWS._table, "normal", dataclasses.replace(LAWS["normal"], start=fails))
    found = analyzed(RNG(0).normal(size=(20, 30)))
    assert set(found.laws) == set(LAWS) - {"normal"}
    assert "underflow" in found.failed["law normal"]
    assert likelihood.compare(RNG(0).normal(size=100))[0].law != "normal"
    with pytest.raises(UserError, match="No law can be fitted: normal: FloatingPointError"):
        likelihood.compare(RNG(0).normal(size=100), ["normal"])
