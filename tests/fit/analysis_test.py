"""One layer's findings: what fails leaves a reason in its place and costs nothing else."""

import dataclasses

import numpy as np
import pytest

from initjax.distributions.laws import LAWS
from initjax.fit import analysis, likelihood
from initjax.fit.analysis import analyze
from initjax.fit.claims import POWER_LAWS
from initjax.fit.histograms import histogram
from initjax.support.errors import UserError

RNG = np.random.default_rng


def analyzed(weights, **arguments):
    weights = np.asarray(weights, np.float32)
    return analyze(histogram(weights), weights, bootstraps=5, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_repeated_weights(dtype):
    """A few sizes, each many times: the bootstrap of one such layer was an IndexError."""
    rng = RNG(27)
    size = int(rng.integers(20, 60))
    values = rng.normal(0, 0.02, size)
    weights = np.repeat(values, int(rng.integers(10, 100))).reshape(size, -1)
    found = analyze(histogram(weights.astype(dtype)), weights, bootstraps=20)
    assert found.laws and (found.tail or found.failed["tail"])


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("draw", "holds", "against"),
    [
        (lambda rng: 0.01 * 100 ** rng.random((40, 60)), True, ""),  # alpha = 1
        (lambda rng: rng.uniform(0.002, 0.012, (8, 1024)), False, "is not above 0"),
        (lambda rng: 0.01 * 100 ** rng.random((5, 6)), False, "30 weights that are not 0 are few"),
        (lambda rng: np.repeat(0.01 * 100 ** rng.random(30), 100).reshape(30, -1), False,
         "few different sizes"),
        (lambda rng: 0.1 * rng.choice([1, 1, 2, 3], (64, 64)), False, "few different sizes"),
    ],
)  # fmt: skip
def test_what_may_be_called_a_power_law(draw, holds, against):
    rng = RNG(0)
    weights = draw(rng)
    found = analyzed(weights * rng.choice([-1, 1], weights.shape), laws=("normal", *POWER_LAWS))
    assert found.claim.holds == holds == (not found.claim.against)
    assert against in " ".join(found.claim.against)


@pytest.mark.slow
def test_a_best_law_that_does_not_fit_is_not_claimed():
    weights = RNG(1).standard_normal((50, 60))
    found = analyzed(weights, laws=POWER_LAWS)
    assert found.best in POWER_LAWS and not found.claim.holds
    assert "(KS)" in " ".join(found.claim.against)
    assert analyzed(weights).claim is None


@pytest.mark.slow
def test_nested_laws_are_compared_by_their_likelihoods():
    """Vuong's p rejects 0 % of true normal laws, and 1.7 % where power 1.85 is true."""
    found = analyzed(RNG(2).standard_normal((60, 50)))
    general = found.laws["generalized_normal"]
    assert general.vuong_normal is None and general.ratio_normal.degrees == 1
    exact = 2 * (general.log_likelihood - found.laws["normal"].log_likelihood)
    assert general.ratio_normal.statistic == pytest.approx(max(exact, 0))
    assert found.laws["laplace"].ratio_normal is None
    assert found.laws["laplace"].vuong_normal.p < 1e-6
    p = [
        likelihood.fit(sample, "generalized_normal").likelihood_ratio(
            likelihood.fit(sample, "normal")
        )[2]
        for sample in (histogram(RNG(seed).standard_normal(1000)) for seed in range(60))
    ]
    assert sum(value < 0.05 for value in p) <= 9  # of 60, with chance .9999
    assert sum(value < 0.5 for value in p) >= 15
    with pytest.raises(UserError, match="does not contain"):
        normal = likelihood.fit(RNG(0).normal(size=100), "normal")
        normal.likelihood_ratio(normal)


@pytest.mark.slow
def test_sides():
    one = analyzed(np.abs(RNG(3).standard_normal((30, 40)))).sides
    assert (one.negative, one.positive) == (0, 1200) and one.is_one_sided and np.isnan(one.p)
    both = analyzed(RNG(4).standard_normal((60, 40))).sides
    assert not both.is_one_sided and both.p > 1e-3
    skewed = RNG(5).exponential(size=(60, 40)) - 1
    assert analyzed(skewed).sides.p < 1e-6


def test_gaussian_tails_beside_each_tail():
    found = analyzed(RNG(6).standard_t(3, (60, 40))).tail
    assert 1 / 6 <= found.gaussian_p <= 1 and 1 / 6 <= found.p <= 1
    assert found.searched_error > 0
