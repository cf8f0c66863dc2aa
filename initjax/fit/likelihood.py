"""Which law do weights have? Maximum likelihood on histograms, and the comparison of laws.

Laws are symmetric around 0 and fitted to |w|; weights that are exactly 0 are left out. The
likelihood is that of the bins (interval-censored, multinomial), integrated over every bin by
two-point Gauss quadrature: what binning changes is far below the standard errors.
"""

import concurrent.futures
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Sequence

import numpy as np
import scipy.special

from initjax.distributions.base import Distribution
from initjax.distributions.family import Sample
from initjax.distributions.laws import LAWS
from initjax.fit.histograms import Histogram, histogram as histogram
from initjax.support.errors import UserError

MIN_SIZE = 20  # fewer weights than these tell no law from another
_STEP = 3e-4  # of the difference quotients, in the free parameters
_MAX_ITERATIONS = 60
_LARGEST_FREE = 20.0
_NODE = 0.5 / math.sqrt(3)  # of two-point Gauss quadrature, from the middle of a bin of width 1


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """A law found in weights.

    Attributes:
      law: its name in `LAWS`.
      size: how many weights that are not 0 it was fitted to.
      parameters: estimates by name; "scale" is in the units of the weights.
      standard_errors: of the parameters, from the observed information; NaN where the likelihood
        has no strict maximum inside the range of a parameter. They take weights as independent.
      intervals: 95 % intervals, symmetric in the logarithm of positive parameters.
      log_likelihood: natural logarithm, of densities (per unit of w, both signs).
      num_parameters: including end points that are estimated by the extreme weights.
      ks: the largest distance between the empirical and the fitted distribution function of |w|.
      support: (least, largest) |w|.
    """

    law: str
    size: int
    parameters: dict[str, float]
    standard_errors: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    log_likelihood: float
    num_parameters: int
    ks: float
    support: tuple[float, float]
    log_masses: np.ndarray = dataclasses.field(repr=False)
    counts: np.ndarray = dataclasses.field(repr=False)

    @property
    def aic(self) -> float:
        """Akaike's information criterion, 2 k - 2 ln L (1974): smaller is better."""
        return 2 * self.num_parameters - 2 * self.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz's criterion, k ln n - 2 ln L (1978): smaller is better."""
        return self.num_parameters * math.log(self.size) - 2 * self.log_likelihood

    @property
    def distribution(self) -> Distribution:
        """The unit-free law: its scale is left to an initializer."""
        return LAWS[self.law].make(self.support, self.parameters)

    def vuong(self, other: "Fit") -> tuple[float, float]:
        """Vuong's test of this law against another one fitted to the same weights (1989).

        Returns:
          (z, p): the log likelihood ratio over its standard error, positive where this law is
          nearer to the weights, and its two-sided p. (0, 1) for equal laws.
        """
        if self.counts.shape != other.counts.shape or (self.counts != other.counts).any():
            raise UserError(f"{self.law} and {other.law} were not fitted to the same weights.")
        difference = self.log_masses - other.log_masses
        mean = (self.counts * difference).sum() / self.size
        variance = (self.counts * (difference - mean) ** 2).sum() / self.size
        if variance <= 1e-24:
            return 0.0, 1.0
        z = math.sqrt(self.size) * mean / math.sqrt(variance)
        return z, float(2 * scipy.special.ndtr(-abs(z)))


def fit(weights, law: str) -> Fit:
    """The law of a family that is most likely to give these weights.

    Args:
      weights: a `Histogram`, or an array of any shape.
      law: a name in `LAWS`: "normal", "student_t", "cutoff_power_law", ...

    Returns:
      A `Fit`.

    Raises:
      UserError (a ValueError): an unknown law; fewer than 20 weights that are not 0, infinite or
        NaN ones, or weights that all have one size.

    >>> import numpy as np
    >>> found = fit(np.random.default_rng(0).standard_t(5, 100_000), "student_t")
    >>> low, high = found.intervals["df"]
    >>> low < 5 < high, high - low < 0.5
    (True, True)
    """
    if law not in LAWS:
        raise UserError(f"Unknown law {law!r}. Known: {', '.join(LAWS)}.")
    return _fit(_sample(weights), law)


def compare(weights, laws: Sequence[str] = tuple(LAWS)) -> list[Fit]:
    """Fits several laws to the same weights; the best by AIC first.

    Args:
      weights: a `Histogram`, or an array of any shape.
      laws: names in `LAWS`.

    Raises:
      UserError (a ValueError): as `fit`.

    >>> import numpy as np
    >>> compare(np.random.default_rng(0).standard_t(3, 10_000))[0].law
    'student_t'
    """
    return fit_each(weights, laws)[0]


def fit_each(weights, laws: Sequence[str] = tuple(LAWS)) -> tuple[list[Fit], dict[str, str]]:
    """As `compare`, and why the laws that are not among the fits could not be fitted.

    Raises:
      UserError (a ValueError): as `fit`, or where no law can be fitted.
    """
    for law in laws:
        if law not in LAWS:
            raise UserError(f"Unknown law {law!r}. Known: {', '.join(LAWS)}.")
    sample = _sample(weights)
    # NumPy leaves the lock during its loops, so that threads share the work of the laws.
    with concurrent.futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        results = dict(zip(laws, pool.map(functools.partial(_try, sample), laws), strict=True))
    fits = [result for result in results.values() if isinstance(result, Fit)]
    failed = {law: why for law, why in results.items() if isinstance(why, str)}
    if not fits:
        reasons = "; ".join(f"{law}: {why}" for law, why in failed.items())
        raise UserError(f"No law can be fitted: {reasons}")
    return sorted(fits, key=lambda found: found.aic), failed


def _try(sample, law) -> Fit | str:
    try:
        return _fit(sample, law)
    except Exception as error:  # one law must not cost the others
        return str(error) if isinstance(error, UserError) else repr(error)


def _sample(weights) -> Sample:
    counted = weights if isinstance(weights, Histogram) else histogram(weights)
    if counted.not_finite:
        raise UserError(f"{counted.not_finite} of the weights are infinite or NaN.")
    lower, upper, counts = counted.magnitudes
    size = int(counts.sum())
    if size < MIN_SIZE:
        raise UserError(f"{size} weights that are not 0 are too few to fit; {MIN_SIZE} are needed.")
    if len(counts) < 3:
        raise UserError(f"All {size} weights that are not 0 have one of {len(counts)} sizes.")
    middle = 0.5 * (lower + upper)
    # In units of the root mean square; the scale goes back into the estimates at the end.
    unit = middle[-1] * math.sqrt((counts * (middle / middle[-1]) ** 2).sum() / size)
    return Sample(lower / unit, upper / unit, counts, size, unit)


def _fit(sample: Sample, name: str) -> Fit:
    law = LAWS[name]
    low, high = sample.lower, sample.upper
    nodes = (low + high) * 0.5 + (high - low) * np.array([[-_NODE], [_NODE]])
    support = (low[0], high[-1])
    # Given the extreme weights that a law takes as its ends, the others are an exact sample of it.
    counts = sample.counts.astype(np.float64)
    if law.ends:
        counts[0] -= 1
    if law.ends == 2:
        counts[-1] -= 1
    size = counts.sum()

    def log_masses(free):
        """[m, bins], up to the bins' widths, for free parameters [m, p]."""
        parameters = law.parameters(free)
        values = law.log_density(nodes, support, *(q[:, None, None] for q in parameters))
        return np.logaddexp(values[:, 0], values[:, 1]) - math.log(2)

    def objective(free):
        with np.errstate(all="ignore"):
            value = log_masses(free) @ counts / size
        return np.where(np.isfinite(value), value, -np.inf)

    free, covariance = _maximize(objective, law.starts(sample), size)
    with np.errstate(all="ignore"):
        masses = log_masses(free[None])[0]
        below = law.cdf(np.append(low, high[-1]), support, *law.parameters(free))
    empirical = np.append(0, np.cumsum(sample.counts)) / sample.size
    # Bins lie apart: both ends of the empty stretch before a bin have the same empirical value.
    ks = max(
        np.abs(below - empirical).max(),
        np.abs(law.cdf(high, support, *law.parameters(free)) - empirical[1:]).max(),
    )
    estimates = law.report(free, covariance, sample.unit)
    # Densities of w, not of |w| / unit: ln(1 / (2 unit)) a weight.
    total = float(sample.counts @ masses) - sample.size * math.log(2 * sample.unit)
    if not math.isfinite(total):
        raise UserError("no parameters were found that give these weights a likelihood.")
    return Fit(
        name,
        sample.size,
        *estimates,
        total,
        len(law.links) + law.ends,
        float(ks),
        (float(low[0] * sample.unit), float(high[-1] * sample.unit)),
        masses,
        sample.counts,
    )


def _maximize(objective: Callable, starts: np.ndarray, size: float):
    """(argmax, covariance) of a mean log likelihood of `size` weights, by damped Newton steps.

    Derivatives are central differences, all of a step evaluated in one call.
    """
    starts = np.asarray(starts, np.float64)
    free = starts[int(np.argmax(objective(starts)))]
    count = len(free)
    offsets = _stencil(count)
    hessian = np.full((count, count), np.nan)
    before, idle = -math.inf, 0
    for _ in range(_MAX_ITERATIONS):
        values = objective(free + _STEP * offsets)
        # Two steps that gain nothing worth telling: a ridge, as of a mixture of equal components.
        idle = idle + 1 if (values[0] - before) * size < 1e-3 else 0
        before = values[0]
        gradient, hessian = _derivatives(values, count)
        if not np.isfinite(hessian).all():
            break
        curvatures, axes = np.linalg.eigh(-hessian)
        # Where the likelihood is not concave, uphill all the same, by a step of about 1.
        curvatures = np.maximum(np.abs(curvatures), 1e-9)
        step = axes @ ((axes.T @ gradient) / curvatures)
        if idle == 2 or gradient @ step * size < 1e-8:  # 1e-4 standard errors from the maximum
            break
        step *= min(1.0, 1.5 / np.abs(step).max())
        candidates = free + step * np.array([1.0, 0.5, 0.25, 0.1, 0.01, 0.001])[:, None]
        candidates = np.clip(candidates, -_LARGEST_FREE, _LARGEST_FREE)
        first = objective(candidates[:1])
        if first[0] > values[0]:
            free = candidates[0]
            continue
        rest = objective(candidates[1:])
        best = int(np.argmax(rest))
        if not rest[best] > values[0]:
            break
        free = candidates[1 + best]
    return free, _covariance(hessian, size)


@functools.cache
def _stencil(count: int) -> np.ndarray:
    """The points of the difference quotients: the centre, +-e_i, and all +-(e_i + e_j)."""
    unit = np.eye(count)
    pairs = [unit[i] + unit[j] for i in range(count) for j in range(i)]
    points = [np.zeros(count), *unit, *-unit, *pairs, *(-pair for pair in pairs)]
    return np.array(points)


def _derivatives(values, count):
    """(gradient, Hessian) from an objective's values on the stencil."""
    center, plus, minus = values[0], values[1 : count + 1], values[count + 1 : 2 * count + 1]
    gradient = (plus - minus) / (2 * _STEP)
    second = plus + minus - 2 * center
    hessian = np.diag(second)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    rest = values[2 * count + 1 :]
    for (i, j), up, down in zip(pairs, rest[: len(pairs)], rest[len(pairs) :], strict=True):
        hessian[i, j] = hessian[j, i] = 0.5 * (up + down - 2 * center - second[i] - second[j])
    return gradient, hessian / _STEP**2


def _covariance(hessian, size):
    """The inverse information; NaN where the likelihood has no strict maximum."""
    if np.isfinite(hessian).all() and np.linalg.eigvalsh(-hessian)[0] > 1e-7:
        return np.linalg.inv(-hessian) / size
    return np.full(hessian.shape, np.nan)
