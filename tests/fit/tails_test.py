"""Tails: the search for xmin against the plain one, and a p that is uniform under the law."""

import math

import numpy as np
import pytest
import scipy.stats

from initjax.fit.histograms import histogram
from initjax.fit.tails import fit_tail
from initjax.support.errors import UserError


def sample(seed, size, alpha=2.5):
    """Uniform on [0, 1] for nine tenths, a power law from 1 on for the rest."""
    rng = np.random.default_rng(seed)
    tail = 1 + rng.pareto(alpha - 1, size // 10)
    return np.concatenate([rng.uniform(0, 1, size - tail.size), tail])


def every_xmin(values):
    """(distance, alpha, xmin) by trying every weight: the definition."""
    values = np.sort(np.abs(values))
    logs, total = np.log(values), len(values)
    best = (math.inf,)
    for i in np.unique(np.searchsorted(values, values)):
        if total - i < 10:
            break
        size = total - i
        alpha = 1 + size / (logs[i:] - logs[i]).sum()
        model = np.exp((1 - alpha) * (logs[i:] - logs[i]))
        before = (total - np.searchsorted(values, values[i:], "left")) / size
        after = (total - np.searchsorted(values, values[i:], "right")) / size
        distance = max(np.abs(before - model).max(), np.abs(after - model).max())
        best = min(best, (distance, alpha, values[i]))
    return best


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        sample(0, 3000),
        sample(1, 3000, 1.7),
        np.random.default_rng(2).standard_t(3, 3000),
        np.random.default_rng(3).standard_normal(3000),
        np.round(sample(4, 3000), 2) + 0.01,  # ties
        1 + np.random.default_rng(5).pareto(1.5, 3000),
    ],
    ids=["mixed", "heavy", "student_t", "normal", "ties", "pareto"],
)
def test_finds_what_trying_every_weight_finds(values):
    distance, alpha, xmin = every_xmin(values)
    tail = fit_tail(values)
    assert tail.distance == pytest.approx(distance, rel=1e-9)
    assert (tail.alpha, tail.xmin) == (pytest.approx(alpha, rel=1e-9), xmin)
    assert tail.size == (np.abs(values) >= xmin).sum()
    assert tail.standard_error == pytest.approx((alpha - 1) / math.sqrt(tail.size))


@pytest.mark.slow
def test_histogram_and_array_agree():
    values = sample(6, 200_000)
    exact, binned = fit_tail(values), fit_tail(histogram(values))
    assert abs(binned.alpha - exact.alpha) < 3 * exact.standard_error
    assert abs(binned.alpha - 2.5) < 4 * binned.standard_error
    assert 0.95 < binned.xmin < 4 and binned.xmax == np.float32(values.max())


@pytest.mark.slow
def test_p_of_power_laws_is_not_small_and_of_normal_tails_is():
    law = [
        fit_tail(histogram(sample(seed, 20_000)), bootstraps=40, seed=seed).p for seed in range(12)
    ]
    # Uniform under the law: below .1 twelve times with chance 1e-12, below .1 six times 5e-4.
    assert sum(p < 0.1 for p in law) < 6
    # Cut off sharply: no power law, whatever xmin; the search cannot hide it.
    rng = np.random.default_rng(0)
    cut = 10 ** rng.random(100_000)
    tail = fit_tail(histogram(np.concatenate([cut, rng.uniform(0, 1, 100_000)])), bootstraps=40)
    assert tail.p < 0.1
    assert tail.bootstraps == 40


@pytest.mark.slow
def test_bootstrap_repeats_the_search():
    """p with the search is not that of Kolmogorov's law, which would be near 1 after a search."""
    tail = fit_tail(histogram(sample(7, 50_000)), bootstraps=60)
    plain = scipy.stats.kstwobign.sf(tail.distance * math.sqrt(tail.size))
    assert plain > 0.9
    assert tail.p < plain


def test_is_seeded():
    counted = histogram(sample(8, 5_000))
    one, two = (fit_tail(counted, bootstraps=20, seed=3) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_signs_and_scale_do_not_matter(dtype):
    values = sample(9, 20_000).astype(dtype)
    plain = fit_tail(values)
    flipped = fit_tail(values * np.where(np.arange(20_000) % 2, 1, -1).astype(dtype))
    assert plain == flipped
    scaled = fit_tail(values.astype(np.float64) * 2.0**-7)
    assert scaled.alpha == pytest.approx(plain.alpha, rel=1e-9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(100), "has 1 different sizes"),
        (np.zeros(100), "has 0 different sizes"),
        (np.append(np.arange(1, 100.0), np.inf), "1 of the weights are infinite or NaN"),
    ],
)
def test_errors(values, message):
    with pytest.raises(UserError, match=message):
        fit_tail(values)


def test_bootstraps_are_a_number():
    with pytest.raises(UserError, match="bootstraps=-1"):
        fit_tail(np.arange(1, 100.0), bootstraps=-1)
