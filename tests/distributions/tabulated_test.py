"""Laws from quantile tables: against scipy, in the body and in the far tail."""

import itertools
import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from initjax.distributions import (
    CutoffPowerLaw,
    Empirical,
    GeneralizedGamma,
    GeneralizedNormal,
    Logistic,
    LogNormal,
    NormalMixture,
    StudentT,
)
from initjax.support.errors import UserError

SAMPLES = 400_000
P_VALUE = 1e-6


def two_sided(law):
    """The CDF of a law of |w| with a random sign."""
    return lambda x: 0.5 + 0.5 * np.sign(x) * law.cdf(np.abs(x))


def mixture_cdf(ratio, weight):
    normal = scipy.stats.norm.cdf
    return lambda x: (1 - weight) * normal(x) + weight * normal(x / ratio)


def cutoff_cdf(alpha, ratio):
    """The CDF of a CutoffPowerLaw by adaptive quadrature of its density, on a fine grid."""
    y = np.linspace(-math.log(ratio), math.log(1 / ratio + 60), 4001)
    density = np.exp((1 - alpha) * y - np.exp(y))
    below = scipy.integrate.cumulative_simpson(density, x=y, initial=0.0)
    size = np.exp(y)
    return lambda x: 0.5 + 0.5 * np.sign(x) * np.interp(np.abs(x), size, below / below[-1], left=0)


LAWS = {
    **{StudentT(df): scipy.stats.t(df).cdf for df in (1.0, 2.5, 5.0, 30.0)},
    **{GeneralizedNormal(p): scipy.stats.gennorm(p).cdf for p in (0.5, 1.0, 1.5, 2.0, 8.0)},
    **{
        CutoffPowerLaw(alpha, math.inf): two_sided(scipy.stats.gamma(1 - alpha))
        for alpha in (-1.0, 0.0, 0.5, 0.9)
    },
    **{
        CutoffPowerLaw(alpha, ratio): cutoff_cdf(alpha, ratio)
        for alpha in (0.5, 1.0, 2.5)
        for ratio in (0.5, 10.0, 1000.0)
    },
    Logistic(): scipy.stats.logistic.cdf,
    **{LogNormal(s): two_sided(scipy.stats.lognorm(s)) for s in (0.3, 1.0)},
    **{
        GeneralizedGamma(shape, power): two_sided(scipy.stats.gengamma(shape / power, power))
        for shape, power in ((0.3, 2.0), (0.9, 1.8), (3.0, 0.8))
    },
    **{NormalMixture(r, w): mixture_cdf(r, w) for r, w in ((3.0, 0.2), (0.1, 0.7))},
}
laws = pytest.mark.parametrize("law", LAWS, ids=str)


@pytest.mark.slow
@laws
def test_sample_follows_the_law(law):
    samples = np.asarray(law.sample(jax.random.key(1), (SAMPLES,)), np.float64)
    assert scipy.stats.kstest(samples, LAWS[law]).pvalue > P_VALUE


@pytest.mark.slow
@laws
def test_cdf(law):
    with jax.enable_x64(True):
        x = law.icdf(jnp.linspace(0.001, 0.999, 999))
        np.testing.assert_allclose(law.cdf(x), LAWS[law](np.asarray(x)), atol=2e-5)


@pytest.mark.slow
@laws
def test_sampled_probabilities_are_exact_to_the_stated_bound(law):
    with jax.enable_x64(True):
        p = np.linspace(0.0005, 0.9995, 4001)
        p = p[abs(p - 0.5) > 1e-6]
        x = np.asarray(law.icdf(jnp.asarray(p)))
        assert np.abs(LAWS[law](x) - p).max() < 2e-5


@pytest.mark.slow
def test_far_tail():
    """Where one sample in a hundred million lies, the quantile is right to a part in a thousand."""
    with jax.enable_x64(True):
        p = 1e-8
        for df in (2.5, 5.0):
            x = float(StudentT(df).icdf(jnp.float64(p)))
            assert x == pytest.approx(scipy.stats.t(df).ppf(p), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "law",
    [
        StudentT(6.0),
        StudentT(30.0),
        GeneralizedNormal(1.0),
        GeneralizedNormal(8.0),
        CutoffPowerLaw(0.5, math.inf),
        CutoffPowerLaw(0.5, 10.0),
        CutoffPowerLaw(2.0, 10.0),
    ],
    ids=str,
)
def test_moments_and_density(law):
    def moment(order):
        parts = [1 / law.ratio if isinstance(law, CutoffPowerLaw) else 0.0, 1.0, 10.0, np.inf]
        with jax.enable_x64(True):
            density = jax.jit(lambda x: jnp.exp(law.log_prob(x)))
            return 2 * sum(
                scipy.integrate.quad(lambda x: x**order * float(density(x)), a, b, epsrel=1e-9)[0]
                for a, b in itertools.pairwise(parts)
                if a < b
            )

    assert moment(0) == pytest.approx(1, rel=1e-6)
    variance = moment(2)
    assert law.std**2 == pytest.approx(variance, rel=1e-6)
    assert law.kurtosis == pytest.approx(moment(4) / variance**2, rel=1e-5)


def test_special_cases():
    # gennorm(1) is Laplace, gennorm(2) is normal of variance 1/2.
    assert GeneralizedNormal(1.0).std == pytest.approx(math.sqrt(2))
    assert GeneralizedNormal(1.0).kurtosis == pytest.approx(6)
    assert GeneralizedNormal(2.0).std ** 2 == pytest.approx(0.5)
    assert GeneralizedNormal(2.0).kurtosis == pytest.approx(3)
    # The variance of a gamma law about 0: shape (shape + 1).
    assert CutoffPowerLaw(0.5, math.inf).std ** 2 == pytest.approx(0.75, rel=1e-9)
    assert StudentT(2.0).std == math.inf and StudentT(4.0).kurtosis == math.inf
    assert StudentT(5.0).std ** 2 == pytest.approx(5 / 3)


@pytest.mark.slow
def test_float64_samples():
    with jax.enable_x64(True):
        samples = np.asarray(StudentT(5.0).sample(jax.random.key(0), (SAMPLES,)))
    assert samples.dtype == np.float64
    assert scipy.stats.kstest(samples, scipy.stats.t(5).cdf).pvalue > P_VALUE


class TestEmpirical:
    samples = np.random.default_rng(0).standard_t(5, 200_000) + np.random.default_rng(1).gamma(
        2.0, size=200_000
    )
    law = Empirical.fit(samples)

    def test_moments(self):
        """Those of what was fitted, within a part in a hundred: 401 quantiles are kept."""
        assert self.law.mean == pytest.approx(self.samples.mean(), abs=1e-3)
        assert self.law.std == pytest.approx(self.samples.std(), rel=1e-3)
        assert self.law.kurtosis == pytest.approx(scipy.stats.kurtosis(self.samples) + 3, rel=0.02)

    @pytest.mark.slow
    def test_sample_follows_the_law_and_what_was_fitted(self):
        drawn = np.asarray(self.law.sample(jax.random.key(1), (SAMPLES,)), np.float64)
        exact = scipy.stats.kstest(drawn, lambda x: np.asarray(self.law.cdf(x)))
        assert exact.pvalue > P_VALUE
        assert scipy.stats.ks_2samp(drawn, self.samples).pvalue > P_VALUE

    @pytest.mark.slow
    def test_density_integrates_to_one(self):
        q = np.asarray(self.law.quantiles)
        middle, width = 0.5 * (q[1:] + q[:-1]), np.diff(q)
        with jax.enable_x64(True):
            assert np.sum(np.exp(self.law.log_prob(middle)) * width) == pytest.approx(1)
            assert self.law.log_prob(q[-1] + 1) == -np.inf

    @pytest.mark.slow
    def test_icdf_inverts_cdf(self):
        with jax.enable_x64(True):
            p = jnp.linspace(0.001, 0.999, 999)
            np.testing.assert_allclose(self.law.cdf(self.law.icdf(p)), p, atol=1e-12)

    def test_is_a_value(self):
        assert pickle.loads(pickle.dumps(self.law)) == self.law == Empirical.fit(self.samples)
        assert Empirical() != self.law


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: StudentT(0), "df=0"),
        (lambda: StudentT("a"), "df='a'"),
        (lambda: GeneralizedNormal(-1), "power=-1"),
        (lambda: CutoffPowerLaw(1.0, math.inf), "ratio=inf"),
        (lambda: CutoffPowerLaw(0.5, 0), "ratio=0"),
        (lambda: Empirical((0.0, 1.0)), "2 values instead of 401"),
        (lambda: Empirical(tuple(-float(i) for i in range(401))), "do not rise"),
        (lambda: Empirical.fit([1.0, math.nan]), "not all finite"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(UserError, match=message):
        make()
