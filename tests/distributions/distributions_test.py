"""Every law against scipy or mpmath; every sampler by a Kolmogorov-Smirnov test."""

import math
import pickle

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats

import initjax
from initjax.distributions import Normal, SymmetricPowerLaw, TruncatedNormal, Uniform
from initjax.support.errors import UserError

SAMPLES = 200_000
# The chance that one of all tests of this file fails by bad luck is below 1e-4; seeds are fixed.
P_VALUE = 1e-6

ALPHAS = (-1.0, 0.0, 0.5, 1 - 1e-8, 1.0, 1 + 1e-8, 1.5, 2.0, 3 - 1e-8, 3.0, 3.5)
RATIOS = (1.5, 10.0, 100.0, 1000.0)


class ScipyPowerLaw:
    """|w| of a symmetric power law on [1/ratio, 1], by scipy where it has it, else by mpmath."""

    def __init__(self, alpha, ratio):
        self.alpha, self.ratio = alpha, ratio

    def cdf(self, size):
        if self.alpha > 1 + 1e-6:
            law = scipy.stats.truncpareto(self.alpha - 1, self.ratio)
            return law.cdf(np.asarray(size) * self.ratio)
        if abs(self.alpha - 1) < 1e-6:  # 1e-8 from log-uniform is log-uniform to 1e-7
            return scipy.stats.loguniform(1 / self.ratio, 1).cdf(size)
        power = 1 - self.alpha
        smallest = self.ratio**-power
        return (np.asarray(size, np.float64) ** power - smallest) / (1 - smallest)


def two_sided(cdf_of_size):
    """The CDF of a symmetric law from that of its modulus."""
    return lambda x: 0.5 + 0.5 * np.sign(x) * cdf_of_size(np.abs(x))


LAWS = {
    Normal(): scipy.stats.norm.cdf,
    Uniform(): scipy.stats.uniform(-1, 2).cdf,
    **{
        TruncatedNormal(a, b): scipy.stats.truncnorm(a, b).cdf
        for a, b in ((-2, 2), (-1, 3), (-0.5, 0.25), (1, 4), (-6, -3))
    },
    **{
        SymmetricPowerLaw(alpha, ratio): two_sided(ScipyPowerLaw(alpha, ratio).cdf)
        for alpha in ALPHAS
        for ratio in RATIOS
    },
    SymmetricPowerLaw(0.5, math.inf): two_sided(np.sqrt),
}
laws = pytest.mark.parametrize("law", LAWS, ids=str)


@pytest.mark.slow
@laws
def test_sample_follows_the_law(law):
    samples = np.asarray(law.sample(jax.random.key(1), (SAMPLES,)), np.float64)
    assert scipy.stats.kstest(samples, LAWS[law]).pvalue > P_VALUE


@pytest.mark.slow
@laws
def test_sample_moments(law):
    samples = np.asarray(law.sample(jax.random.key(2), (SAMPLES,)), np.float64)
    standard_error = law.std / math.sqrt(SAMPLES)
    assert abs(samples.mean() - law.mean) < 5 * standard_error
    relative = math.sqrt((law.kurtosis - 1) / SAMPLES)
    assert abs(samples.var() / law.std**2 - 1) < 5 * relative


@pytest.mark.slow
@laws
def test_cdf_against_scipy_and_icdf_inverts_it(law):
    with jax.enable_x64(True):
        p = np.linspace(0.001, 0.999, 501)
        p = p[np.abs(p - 0.5) > 1e-3]  # a law with a gap around 0 is flat there
        x = law.icdf(jnp.asarray(p))
        np.testing.assert_allclose(LAWS[law](np.asarray(x)), p, atol=2e-8)
        np.testing.assert_allclose(law.cdf(x), p, atol=1e-12)


@pytest.mark.slow
@laws
def test_icdf_in_float32(law):
    p = np.linspace(0.01, 0.99, 98, dtype=np.float32)
    p = p[np.abs(p - 0.5) > 1e-3]
    with jax.enable_x64(True):
        exact = np.asarray(law.icdf(jnp.asarray(p, jnp.float64)))
    np.testing.assert_allclose(law.icdf(jnp.asarray(p)), exact, rtol=2e-4, atol=2e-6)


@pytest.mark.slow
@laws
def test_log_prob_is_the_slope_of_the_cdf(law):
    with jax.enable_x64(True):
        p = np.linspace(0.01, 0.99, 99)
        p = p[np.abs(p - 0.5) > 5e-3]
        x, slope = jax.vmap(jax.value_and_grad(law.icdf))(jnp.asarray(p))
        np.testing.assert_allclose(np.exp(law.log_prob(x)) * slope, 1.0, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("law", [Uniform(), TruncatedNormal(-1, 2), SymmetricPowerLaw(1.5, 10)])
def test_outside_the_support(law):
    assert law.log_prob(7.0) == -jnp.inf
    assert law.cdf(-7.0) == 0 and law.cdf(7.0) == 1


@pytest.mark.slow
def test_power_law_has_no_weight_around_zero():
    law = SymmetricPowerLaw(1.5, 10)
    assert law.log_prob(0.05) == -jnp.inf
    assert law.cdf(0.05) == law.cdf(0.0) == law.cdf(-0.05) == 0.5
    samples = law.sample(jax.random.key(0), (SAMPLES,))
    assert abs(samples).min() >= 0.1 * (1 - 1e-6) and abs(samples).max() <= 1 + 1e-6


def exact_moment(alpha, ratio, order):
    """E|w|^order in 50 digits."""
    with mpmath.workdps(50):
        smallest = 1 / mpmath.mpf(ratio)

        def integral(power):
            exponent = mpmath.mpf(power) - mpmath.mpf(alpha) + 1
            if exponent == 0:
                return -mpmath.log(smallest)
            return (1 - smallest**exponent) / exponent

        return integral(order) / integral(0)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("ratio", RATIOS)
def test_power_law_moments_against_mpmath(alpha, ratio):
    law = SymmetricPowerLaw(alpha, ratio)
    variance = exact_moment(alpha, ratio, 2)
    assert law.std == pytest.approx(float(mpmath.sqrt(variance)), rel=1e-13)
    kurtosis = exact_moment(alpha, ratio, 4) / variance**2
    assert law.kurtosis == pytest.approx(float(kurtosis), rel=1e-12)


@pytest.mark.parametrize(
    "alpha, row",
    {
        0.5: ((1.9, 1.9), (2.3, 2.0), (2.5, 2.1), (2.7, 2.2)),
        1.0: ((2.3, 2.2), (3.4, 2.6), (4.6, 3.0), (6.9, 3.7)),
        1.5: ((3.0, 2.6), (5.8, 3.7), (11.6, 5.2), (39, 9.6)),
        2.0: ((3.7, 3.2), (10.3, 5.5), (34, 10), (334, 32)),
        3.0: ((4.6, 4.6), (19, 11.5), (118, 33), (5239, 269)),
    }.items(),
)
def test_kurtosis_and_cut_off_table(alpha, row):
    for ratio, (kurtosis, cut_off) in zip((10, 30, 100, 1000), row, strict=True):
        law = SymmetricPowerLaw(alpha, ratio)
        assert law.kurtosis == pytest.approx(kurtosis, rel=0.05 / kurtosis + 0.02)
        assert 1 / law.std == pytest.approx(cut_off, rel=0.05 / cut_off + 0.02)


def test_power_law_limits():
    uniform = SymmetricPowerLaw(0.0, math.inf)
    assert uniform.kurtosis == pytest.approx(9 / 5, rel=1e-14)
    assert uniform.std**2 == pytest.approx(1 / 3, rel=1e-14)
    assert SymmetricPowerLaw(0.5, math.inf).std ** 2 == pytest.approx(0.5 / 2.5, rel=1e-14)
    # The kurtosis is symmetric about alpha = 3.
    low, high = SymmetricPowerLaw(2.25, 50).kurtosis, SymmetricPowerLaw(3.75, 50).kurtosis
    assert low == pytest.approx(high, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", ALPHAS)
def test_power_law_sampler_in_float32_is_that_of_float64(alpha):
    law = SymmetricPowerLaw(alpha, 1000.0)
    v = (np.arange(0, 2**24, 1009) + 0.5) * 2.0**-24
    with jax.enable_x64(True):
        exact = np.asarray(law._magnitude(jnp.asarray(v)))
    rounded = np.asarray(law._magnitude(jnp.asarray(v, jnp.float32)), np.float64)
    # v itself is rounded to 24 bits; the bound allows for what that does to |w|.
    slope = np.abs(np.gradient(np.log(exact), v)) * v * 2.0**-24
    assert np.max(np.abs(rounded / exact - 1) - slope) < 4e-6


@pytest.mark.parametrize(
    "bounds, std",
    {
        1.0: 0.539560093754897,
        2.0: 0.87962566103423978,
        2.5: 0.954597486344581,
        3.0: 0.986578392558109,
    }.items(),
)
def test_truncated_normal_std(bounds, std):
    assert TruncatedNormal(-bounds, bounds).std == pytest.approx(std, rel=1e-13)


@pytest.mark.parametrize("bounds", [(-2, 2), (-1, 3), (0, 1), (3, 5), (-7, -5)])
def test_truncated_normal_moments(bounds):
    law, reference = TruncatedNormal(*bounds), scipy.stats.truncnorm(*bounds)
    mean, variance = reference.stats("m"), reference.stats("v")
    assert law.mean == pytest.approx(float(mean), rel=1e-10, abs=1e-14)
    assert law.std**2 == pytest.approx(float(variance), rel=1e-8)
    a, b = bounds
    grid = np.linspace(a, b, 200_001)
    density = reference.pdf(grid)
    fourth = np.trapezoid(density * (grid - law.mean) ** 4, grid)
    assert law.kurtosis == pytest.approx(fourth / law.std**4, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [(-2000, 2000), (-1, 2000), (-2000, 1)])
def test_truncated_normal_with_a_bound_that_float32_cannot_tell_from_infinity(bounds):
    """One in 8 million draws of erf rounds to +-1: it was the bound itself."""
    lower, upper = bounds
    init = initjax.truncated_normal(0.001, lower=lower, upper=upper)
    w = np.asarray(init(jax.random.key(0), (4096, 4096)), np.float64) / 0.001
    assert w.std() == pytest.approx(TruncatedNormal(*bounds).std, rel=1e-3)
    assert max(-5.43, 1.001 * lower) < w.min() and w.max() < min(5.43, 1.001 * upper)


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [(-2000, 2000), (-2, 2), (-5, 3)])
def test_truncated_normal_is_that_of_jax(bounds):
    key, shape = jax.random.key(0), (1000, 1000)
    theirs = jax.jit(lambda: jax.random.truncated_normal(key, *bounds, shape))()
    np.testing.assert_array_equal(TruncatedNormal(*bounds).sample(key, shape), theirs)


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [(4, 5), (6, 7), (-7, -5.5), (5, 2000)])
def test_truncated_normal_in_one_far_tail(bounds):
    """Where erf has few values left in float32, or none."""
    samples = np.asarray(TruncatedNormal(*bounds).sample(jax.random.key(1), (SAMPLES,)), np.float64)
    assert scipy.stats.kstest(samples, scipy.stats.truncnorm(*bounds).cdf).pvalue > P_VALUE


@pytest.mark.slow
def test_complex_truncated_normal_with_far_bounds():
    w = TruncatedNormal(-2000, 2000).sample(jax.random.key(1), (SAMPLES,), jnp.complex64)
    assert float(jnp.mean(jnp.abs(w) ** 2)) == pytest.approx(1, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float32"]
)
@pytest.mark.parametrize("law", [Normal(), TruncatedNormal(), Uniform(), SymmetricPowerLaw()])
def test_low_precision_is_float32_cast_last(law, dtype):
    key = jax.random.key(3)
    full = law.sample(key, (1000,), jnp.float32)
    low = law.sample(key, (1000,), dtype)
    assert low.dtype == jnp.dtype(dtype)
    np.testing.assert_array_equal(low, full.astype(dtype))


@pytest.mark.parametrize("law", [Normal(), TruncatedNormal(), Uniform(), SymmetricPowerLaw()])
def test_float64_draws_are_finer_than_float32(law):
    with jax.enable_x64(True):
        samples = np.asarray(law.sample(jax.random.key(0), (1000,)))
        assert samples.dtype == np.float64
        assert (samples != samples.astype(np.float32)).mean() > 0.9
        assert scipy.stats.kstest(samples, LAWS.get(law, Normal().cdf)).pvalue > P_VALUE


@pytest.mark.slow
@pytest.mark.parametrize("law", [Normal(), TruncatedNormal(), Uniform(), SymmetricPowerLaw()])
def test_complex_samples(law):
    w = np.asarray(law.sample(jax.random.key(4), (SAMPLES,), jnp.complex64))
    power = np.abs(w.astype(np.complex128)) ** 2
    assert abs(power.mean() - law.std**2) < 5 * power.std() / math.sqrt(SAMPLES)
    assert abs(w.mean()) < 5 * law.std / math.sqrt(SAMPLES)
    # Real and imaginary part carry the same power and are uncorrelated.
    correlation = np.mean(w.real.astype(np.float64) * w.imag) / law.std**2
    assert abs(correlation) < 5 / math.sqrt(SAMPLES)


def test_complex_truncated_normal_is_cut_at_its_modulus():
    w = np.asarray(TruncatedNormal().sample(jax.random.key(4), (SAMPLES,), jnp.complex64))
    # A complex normal of unit power cut at modulus 2 has standard deviation 0.96196.
    longest = 2 * TruncatedNormal().std / 0.9619618280082136
    assert np.abs(w).max() == pytest.approx(longest, rel=1e-3)


def test_values_are_equal_hashable_and_picklable():
    for law in LAWS:
        assert pickle.loads(pickle.dumps(law)) == law
        assert hash(pickle.loads(pickle.dumps(law))) == hash(law)
    assert SymmetricPowerLaw(1, 100) == SymmetricPowerLaw(1.0, 100.0) != SymmetricPowerLaw(2, 100)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SymmetricPowerLaw(ratio=1), "ratio=1"),
        (lambda: SymmetricPowerLaw(ratio=-3), "ratio=-3"),
        (lambda: SymmetricPowerLaw(alpha=math.nan), "alpha=nan"),
        (lambda: SymmetricPowerLaw(alpha=1, ratio=math.inf), "ratio=inf"),
        (lambda: SymmetricPowerLaw(alpha="1.5x"), "alpha='1.5x'"),
        (lambda: TruncatedNormal(2, -2), "lower=2"),
        (lambda: TruncatedNormal(60, 61), "lower=60"),
        (lambda: Normal().sample(jax.random.key(0), (2,), jnp.int32), "int32"),
        (lambda: TruncatedNormal(0, 1).sample(jax.random.key(0), (2,), jnp.complex64), "lower=0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(UserError, match=message):
        make()
