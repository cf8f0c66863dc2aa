"""Every law that registers itself: its formulas against SciPy's, for NumPy and for jax.numpy."""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats

import initjax
from initjax import distributions
from initjax.distributions import Empirical, StudentT
from initjax.distributions.laws import DISTRIBUTIONS, LAWS
from initjax.distributions.library import NUMPY
from initjax.distributions.symmetric import Symmetric
from initjax.fit import likelihood


class Digits:
    """A law of |w| from an unnormalized density's integral, in 40 digits: where SciPy has none."""

    def __init__(self, log_density, integral, low, high):
        self._log_density, self._integral, self._low, self._high = log_density, integral, low, high

    def _each(self, function, x):
        with mpmath.workdps(40):
            whole = self._integral(self._low, self._high)
            return np.array([float(function(mpmath.mpf(float(value)), whole)) for value in x])

    def logpdf(self, x):
        return self._each(lambda v, whole: self._log_density(v) - mpmath.log(whole), x)

    def cdf(self, x):
        return self._each(lambda v, whole: self._integral(self._low, v) / whole, x)

    def sf(self, x):
        return self._each(lambda v, whole: self._integral(v, self._high) / whole, x)


def power_law(alpha, ratio):
    power = 1 - mpmath.mpf(alpha)

    def integral(a, b):
        return (b**power - a**power) / power if power else mpmath.log(b / a)

    return Digits(lambda v: -alpha * mpmath.log(v), integral, 1 / mpmath.mpf(ratio), mpmath.mpf(1))


def cutoff_power_law(alpha, ratio):
    def integral(a, b):
        power = 1 - mpmath.mpf(alpha)
        return mpmath.gammainc(power, a) - (mpmath.gammainc(power, b) if b < mpmath.inf else 0)

    low = mpmath.mpf(0) if ratio == math.inf else 1 / mpmath.mpf(ratio)
    return Digits(lambda v: -alpha * mpmath.log(v) - v, integral, low, mpmath.inf)


class FoldedT:
    def __init__(self, df):
        self.df, self.law = df, scipy.stats.t(df)

    def logpdf(self, x):
        return self.law.logpdf(x) + math.log(2)

    def cdf(self, x):
        return scipy.stats.beta(0.5, self.df / 2).cdf(x**2 / (self.df + x**2))

    def sf(self, x):
        return 2 * self.law.sf(x)


class Mixture:
    def __init__(self, ratio, weight):
        self.parts = [
            (1 - weight, scipy.stats.halfnorm()),
            (weight, scipy.stats.halfnorm(scale=ratio)),
        ]

    def logpdf(self, x):
        return np.logaddexp(*(math.log(share) + law.logpdf(x) for share, law in self.parts))

    def cdf(self, x):
        return sum(share * law.cdf(x) for share, law in self.parts)

    def sf(self, x):
        return sum(share * law.sf(x) for share, law in self.parts)


# class name -> its law of |w|, in another's writing
SIZES = {
    "Normal": scipy.stats.halfnorm,
    "Laplace": scipy.stats.expon,
    "Logistic": scipy.stats.halflogistic,
    "GeneralizedNormal": lambda power: scipy.stats.gengamma(1 / power, power),
    "StudentT": FoldedT,
    "LogNormal": scipy.stats.lognorm,
    "GeneralizedGamma": lambda shape, power: scipy.stats.gengamma(shape / power, power),
    "NormalMixture": Mixture,
    "SymmetricPowerLaw": power_law,
    "CutoffPowerLaw": cutoff_power_law,
    "Uniform": scipy.stats.uniform,
}
# and of w itself, where the law is not symmetric
OTHERS = {
    "TruncatedNormal": scipy.stats.truncnorm,
    "Empirical": lambda: scipy.stats.rv_histogram(
        (np.diff([0, *Empirical.probabilities()[1:-1], 1]), np.asarray(Empirical().quantiles)),
        density=False,
    ),
}
INTERPOLATED = {"CutoffPowerLaw"}  # distribution functions from a table
# 1 - betainc near x = 0, where betainc's argument df / (df + x^2) is rounded near 1.
ROUNDED = {"StudentT": {np.float32: 2e-4, np.float64: 1e-12}}
SIZED = [
    pytest.param(name, arguments, id=f"{name}{arguments}")
    for name in SIZES
    for arguments in DISTRIBUTIONS[name].examples
]


def points(law, count=41):
    """Sizes inside the domain, float32 numbers; the reference takes the same."""
    low, high = law.domain
    x = np.geomspace(max(low, 1e-3) * 1.0001, min(high, 25 + 2 * low) / 1.0001, count)
    return x.astype(np.float32).astype(np.float64)


def test_every_law_is_tested_and_public():
    assert set(SIZES) | set(OTHERS) | {"WithZeros"} == set(DISTRIBUTIONS)
    public = {name for name, value in vars(distributions).items() if isinstance(value, type)}
    assert set(DISTRIBUTIONS) == public - {"Distribution"}
    assert all(DISTRIBUTIONS[name] is getattr(distributions, name) for name in DISTRIBUTIONS)


def test_laws_are_in_the_order_of_reports():
    assert list(LAWS) == [
        "normal", "uniform", "laplace", "logistic", "generalized_normal", "student_t", "log_normal",
        "generalized_gamma", "normal_mixture", "power_law", "truncated_power_law",
        "cutoff_power_law",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), SIZED)
def test_numpy(name, arguments):
    law, reference = DISTRIBUTIONS[name](*arguments), SIZES[name](*arguments)
    x = points(law)
    exact = reference.logpdf(x)
    np.testing.assert_allclose(law.log_density(NUMPY, x, *law.shapes), exact, 1e-12, 1e-12)
    rtol = 5e-4 if name in INTERPOLATED else 1e-12
    np.testing.assert_allclose(law.above(NUMPY, x, *law.shapes), reference.sf(x), rtol, 1e-15)
    if type(law).below is not Symmetric.below:
        atol = ROUNDED.get(name, {}).get(np.float64, 1e-15)
        np.testing.assert_allclose(law.below(NUMPY, x, *law.shapes), reference.cdf(x), rtol, atol)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), SIZED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_jax(name, arguments, dtype):
    law, reference = DISTRIBUTIONS[name](*arguments), SIZES[name](*arguments)
    x = points(law)
    rtol = 1e-5 if dtype == np.float32 else 1e-11
    with jax.enable_x64(dtype == np.float64):
        size = jnp.asarray(x, dtype)
        log_prob, upper, lower = law.log_prob(-size), law.cdf(size), law.cdf(-size)
    assert log_prob.dtype == upper.dtype == lower.dtype == dtype
    np.testing.assert_allclose(log_prob, reference.logpdf(x) - math.log(2), rtol, rtol)
    rtol = max(rtol, 5e-5) if name in INTERPOLATED else rtol
    tail = reference.sf(x) / 2
    atol = ROUNDED.get(name, {}).get(dtype, 1e-37)
    np.testing.assert_allclose(upper, 1 - tail, rtol, atol)
    np.testing.assert_allclose(lower, tail, 10 * rtol, atol)
    far = tail < 0.1
    np.testing.assert_allclose(np.asarray(lower)[far], tail[far], 10 * rtol, 1e-37)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"),
    [(name, arguments) for name in OTHERS for arguments in DISTRIBUTIONS[name].examples],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_jax_where_w_is_not_symmetric(name, arguments, dtype):
    law, reference = DISTRIBUTIONS[name](*arguments), OTHERS[name](*arguments)
    rtol = 1e-4 if dtype == np.float32 else 1e-10
    x = reference.ppf(np.linspace(0.01, 0.987, 30)).astype(np.float32).astype(np.float64)
    with jax.enable_x64(dtype == np.float64):
        log_prob, cdf = law.log_prob(jnp.asarray(x, dtype)), law.cdf(jnp.asarray(x, dtype))
    np.testing.assert_allclose(log_prob, reference.logpdf(x), rtol, rtol)
    np.testing.assert_allclose(cdf, reference.cdf(x), rtol, rtol)


def families():
    """(name, support, parameters, the reference of |w| and its scale)."""
    for name in LAWS:
        law = LAWS[name]
        if law.ends:
            continue
        made = type(law.make((0.1, 9.0), dict.fromkeys(law.links, 0.5)))
        for arguments in made.examples:
            yield name, (0.01, 30.0), (0.7, *arguments), SIZES[made.__name__](*arguments), 0.7
    a, b = 0.03, 2.5
    yield "uniform", (a, b), (), scipy.stats.uniform, b
    for alpha in (1.1, 2.5, 4.0):
        yield "power_law", (a, b), (alpha,), scipy.stats.pareto(alpha - 1), a
    for alpha in (-1.0, 0.5, 1.0, 1 + 1e-8, 2.5):
        yield "truncated_power_law", (a, b), (alpha,), power_law(alpha, b / a), b
    for alpha, scale in ((-1.0, 0.7), (0.5, 1.5), (1.0, 0.7), (2.5, 10.0)):
        yield "cutoff_power_law", (a, b), (alpha, scale), cutoff_power_law(alpha, scale / a), scale


FAMILIES = list(families())


@pytest.mark.parametrize(
    ("name", "support", "parameters", "reference", "scale"),
    FAMILIES,
    ids=[f"{name}{parameters}" for name, _, parameters, *_ in FAMILIES],
)
def test_what_is_fitted(name, support, parameters, reference, scale):
    law, x = LAWS[name], np.geomspace(support[0] * 1.0001, support[1] / 1.0001, 41)
    parameters = tuple(np.float64(value) for value in parameters)
    exact = reference.logpdf(x / scale) - math.log(scale)
    np.testing.assert_allclose(law.log_density(x, support, *parameters), exact, 1e-12, 1e-12)
    if law.above:
        above = law.above(x, support, *parameters)
        np.testing.assert_allclose(above, reference.sf(x / scale), 1e-12, 1e-15)
    tolerance = 1e-6 if name == "cutoff_power_law" else 1e-12
    below = law.cdf(x, support, *parameters)
    np.testing.assert_allclose(below, reference.cdf(x / scale), tolerance, tolerance)


def test_every_family_is_tested():
    assert {name for name, *_ in FAMILIES} == set(LAWS)


@pytest.mark.parametrize(
    "law", [distributions.GeneralizedNormal(5000.0), distributions.GeneralizedGamma(1.0, 5000.0)]
)
def test_powers_that_underflow(law):
    """|x|^5000 is 0 in float64 for most x: the laws are uniform all the same."""
    drawn = np.abs(np.asarray(law.sample(jax.random.key(0), (20_000,))))
    assert scipy.stats.kstest(drawn, "uniform").pvalue > 1e-4
    x = np.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(law.below(NUMPY, x, *law.shapes), x, rtol=1e-3)
    np.testing.assert_allclose(law.above(NUMPY, x, *law.shapes), 1 - x, rtol=2e-2)


@pytest.mark.slow
def test_with_zeros():
    law = distributions.WithZeros(distributions.Laplace(), 0.8)
    drawn = np.asarray(law.sample(jax.random.key(0), (100_000,)), np.float64)
    assert (drawn == 0).mean() == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / 1e5))
    assert scipy.stats.kstest(drawn[drawn != 0], "laplace").pvalue > 1e-4
    assert law.std == pytest.approx(math.sqrt(0.4)) and law.kurtosis == pytest.approx(30)
    p = np.array([0.01, 0.05, 0.2, 0.5, 0.89, 0.95, 0.99])
    x = np.asarray(law.icdf(p))
    np.testing.assert_allclose(np.asarray(law.cdf(x))[x != 0], p[x != 0], rtol=1e-5)
    assert (x == 0).tolist() == [False, False, True, True, True, False, False]
    init = initjax.variance_scaling(1.0, "fan_in", law)
    assert initjax.get(str(init)) == init
    with pytest.raises(ValueError, match=r"zeros=1.0 must be a share"):
        distributions.WithZeros(distributions.Laplace(), 1)


@pytest.mark.slow
def test_large_degrees_of_freedom_in_float32():
    """Where the difference of two lgamma would have no digit right in float32."""
    exact = scipy.stats.norm.logpdf(1.5)
    assert float(StudentT(1e6).log_prob(jnp.float32(1.5))) == pytest.approx(exact, abs=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), SIZED)
def test_at_the_ends(name, arguments):
    law = DISTRIBUTIONS[name](*arguments)
    x = jnp.array([-jnp.inf, 0.0, jnp.inf])
    np.testing.assert_array_equal(law.cdf(x), [0.0, 0.5, 1.0])
    density = law.log_prob(x)
    assert density[0] == density[2] == -jnp.inf and not jnp.isnan(density[1])
    assert jnp.isnan(law.log_prob(jnp.nan))


MINE = '''
import dataclasses, math
import numpy as np
from initjax.distributions.laws import fitted
from initjax.distributions.tabulated import SymmetricTabulated

@fitted("mine", lambda sample: [(1.0, 1.0), (1.0, 3.0)], power="log")
@dataclasses.dataclass(frozen=True)
class Mine(SymmetricTabulated):
    """A Weibull law with a random sign."""

    power: float = 2.0

    @property
    def std(self):
        return math.sqrt(math.gamma(1 + 2 / self.power))

    @property
    def kurtosis(self):
        return math.gamma(1 + 4 / self.power) / self.std**4

    @staticmethod
    def log_density(lib, x, power):
        return lib.np.log(power) + (power - 1) * lib.np.log(x) - x**power

    @staticmethod
    def below(lib, x, power):
        return -lib.np.expm1(-(x**power))

    @staticmethod
    def above(lib, x, power):
        return lib.np.exp(-(x**power))

    def magnitude_isf(self, p):
        return (-np.log(p)) ** (1 / self.power)

    def magnitude_ppf(self, p):
        return (-np.log1p(-p)) ** (1 / self.power)
'''


@pytest.mark.slow
def test_one_decorator_adds_a_throw_away_law(tmp_path, monkeypatch):
    for registry in (DISTRIBUTIONS, LAWS):
        monkeypatch.setattr(registry, "_table", dict(registry._table))
    (tmp_path / "mine_law.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    import mine_law  # what the line in the face does

    init = initjax.get("variance_scaling(distribution=Mine(power=3.0))")
    assert init.distribution == mine_law.Mine(3.0)
    w = np.asarray(init(jax.random.key(0), (400, 500)), np.float64)
    assert w.std() == pytest.approx(400**-0.5, rel=0.01)
    found = likelihood.fit(w, "mine")
    assert abs(found.parameters["power"] - 3) < 4 * found.standard_errors["power"]
    assert found.distribution.power == found.parameters["power"]
    size = 400**-0.5 / mine_law.Mine(3.0).std
    assert (
        scipy.stats.kstest(np.abs(w).ravel() / size, scipy.stats.weibull_min(3).cdf).pvalue > 1e-6
    )
    best = likelihood.compare(w, ["normal", "mine", "student_t"])[0]
    assert best.law == "mine"
