"""Histograms by float bits: counts, edges, merging, moments and quantiles."""

import ml_dtypes
import numpy as np
import pytest

from initjax.fit.histograms import histogram
from initjax.support.errors import UserError

DTYPES = [
    np.float32,
    np.float64,
    np.float16,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)


@pytest.fixture(scope="module")
def sample():
    return np.random.default_rng(0).standard_normal(600_000)


@dtypes
def test_every_weight_is_in_its_bin(dtype, sample):
    weights = sample.astype(dtype)
    counted = histogram(weights)
    lower, upper, counts = counted.magnitudes
    sizes = np.abs(weights.astype(np.float64))
    assert counted.size == weights.size
    assert counts.sum() + counted.zeros == weights.size
    assert counted.zeros == (sizes == 0).sum()
    assert (counted.smallest, counted.largest) == (
        np.float32(sizes[sizes > 0].min()),
        np.float32(sizes.max()),
    )
    assert (np.diff(lower) > 0).all() and (lower < upper).all() and (upper[:-1] <= lower[1:]).all()
    # Counted anew with NumPy's own search.
    edges = np.append(lower, upper[-1] * 1.001)
    if dtype in (np.float32, np.float64):
        sizes = sizes.astype(np.float32)
    np.testing.assert_array_equal(np.histogram(sizes[sizes > 0], edges)[0], counts)


@dtypes
def test_moments(dtype, sample):
    weights = (sample[:200_000] * 0.03 + 0.01).astype(dtype)
    values = weights.astype(np.float64)
    mean, variance, skewness, kurtosis = histogram(weights).moments
    centred = values - values.mean()
    tolerance = 1e-4 if np.dtype(dtype).itemsize > 1 else 0.03  # within bins, uniform
    assert mean == pytest.approx(values.mean(), abs=tolerance * values.std())
    assert variance == pytest.approx(values.var(), rel=tolerance)
    expected = (centred**3).mean() / values.var() ** 1.5
    assert skewness == pytest.approx(expected, abs=5 * tolerance)
    expected = (centred**4).mean() / values.var() ** 2
    assert kurtosis == pytest.approx(expected, rel=5 * tolerance)


def test_moments_far_from_zero():
    """N(1, 1e-7) had a kurtosis of -3e11: a difference of numbers that were equal but for 1e-14."""
    weights = (1 + 1e-7 * np.random.default_rng(0).normal(size=3600)).astype(np.float32)
    mean, variance, skewness, kurtosis = histogram(weights).moments
    assert mean == pytest.approx(1, abs=1e-6) and 1e-16 < variance < 1e-12
    assert kurtosis >= 1 + skewness**2


def test_histograms_add_up(sample):
    weights = sample.astype(np.float32)
    parts = histogram(weights[:1000]) + histogram(weights[1000:])
    whole = histogram(weights)
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert (parts.size, parts.smallest, parts.largest) == (
        whole.size,
        whole.smallest,
        whole.largest,
    )


def test_threads_and_layout_do_not_matter(sample):
    weights = sample.astype(np.float32).reshape(600, 1000)
    np.testing.assert_array_equal(histogram(weights.T).counts, histogram(weights).counts)
    swapped = weights.astype(">f4")
    np.testing.assert_array_equal(histogram(swapped).counts, histogram(weights).counts)


def test_quantiles(sample):
    weights = sample.astype(np.float32)
    weights[:100_000] = 0
    p = np.array([0.0, 1e-4, 0.1, 0.4, 0.5, 0.55, 0.9, 0.9999, 1.0])
    found, exact = histogram(weights).quantiles(p), np.quantile(weights, p)
    np.testing.assert_allclose(found, exact, rtol=0.01, atol=1e-3)
    assert found[4] == 0 and max(-found[0], found[-1]) == np.abs(weights).max()


def test_zeros_denormals_and_what_is_not_finite():
    counted = histogram(np.float32([np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, -1e-45, 2, -3]))
    assert (counted.zeros, counted.not_finite, counted.size) == (2, 3, 6)
    assert counted.smallest == np.float32(1e-45) and counted.largest == 3
    assert counted.magnitudes.counts.tolist() == [2, 1, 1]
    assert counted.positive.counts.tolist() == [1, 1]
    assert histogram(np.array([1e300])).not_finite == 1  # beyond float32


def test_nothing_to_count():
    counted = histogram(np.zeros((0, 3), np.float32))
    assert counted.size == 0 and counted.smallest == np.inf and counted.largest == 0
    assert counted.moments == (0, 0, 0, 0)
    assert len(histogram(np.zeros(5, np.float16)).magnitudes.counts) == 0


def test_rounding_is_undone_in_the_middle_between_neighbours():
    counted = histogram(np.array([1.0], ml_dtypes.bfloat16))
    lower, upper, _ = counted.magnitudes
    assert (lower[0], upper[0]) == (1 - 2.0**-9, 1 + 2.0**-8)


def test_errors():
    with pytest.raises(UserError, match="int32 are not floats"):
        histogram(np.arange(3, dtype=np.int32))
    with pytest.raises(UserError, match="different bins"):
        histogram(np.ones(3, np.float32)) + histogram(np.ones(3, np.float16))
    merged = histogram(np.ones(3, np.float32)) + histogram(np.ones(3, np.float16), dtype=np.float32)
    assert merged.size == 6
