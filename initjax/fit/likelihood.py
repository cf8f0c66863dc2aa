"""Which law do weights have? Maximum likelihood on histograms, and the comparison of laws.

Laws are symmetric around 0 and fitted to |w|; weights that are exactly 0 are left out. The
likelihood is that of the bins (interval-censored, multinomial), integrated over every bin by Gauss
quadrature: what binning changes is far below the standard errors.

No bound is an estimate. A family that is most likely where no parameter reaches, such as Student's
t of infinite df, is fitted as its limit and says which; a search that does not end says so.
"""

import concurrent.futures
import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from initjax.distributions.base import Distribution
from initjax.distributions.family import Law, Sample
from initjax.distributions.laws import LAWS
from initjax.distributions.library import NUMPY
from initjax.fit.histograms import Histogram, histogram as histogram
from initjax.support.errors import UserError

MIN_SIZE = 20  # fewer weights than these tell no law from another
_STEP = 3e-4  # of the difference quotients, in the free parameters
_MAX_ITERATIONS = 60
_LONGEST = 100.0  # of the axes of the difference quotients: steps of 3 % in a logarithm
_SEARCHES = {2: 2, 3: 8}  # maxima that are looked for, by the number of parameters
_CLOSE = 0.02  # nats to gain at most, twice over, where a search has converged
_EDGE = 0.01  # nats: what gains less on a limit of its family is at that limit
_SHARP = 8  # of the largest bins are integrated by differences of the distribution function
_COARSE = 512  # bins: fewer may be wide, and are integrated by eight points
_ROUGH, _ROUGH_SIZE = 128, 10_000  # bins in which maxima are looked for, and how closely
_GAUSS, _GAUSS_2 = (  # positions in [-1, 1], shares
    (points, weights / 2) for points, weights in map(np.polynomial.legendre.leggauss, (8, 2))
)
_GROUPS, _LEAST_GROUP = 50, 20  # of the binned goodness of fit, and weights in each at least


@dataclasses.dataclass(frozen=True)
class Goodness:
    """How well a law fits by itself: the likelihood ratio of up to 50 groups of |w|.

    Attributes:
      statistic: G = 2 sum observed ln(observed / expected), of chi squared were the law right.
      degrees: of freedom.
      p: small where the law is not right, by however little that many weights can tell.
      divergence: from the law to the weights, in nats per weight: (G - degrees) / (2 n), 0 at
        least.
    """

    statistic: float
    degrees: int
    p: float
    divergence: float


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
      limit: what the family comes to where it is most likely, if that is at its edge: "normal",
        "uniform", "log_normal", "power_law", or "power_function", x^(shape-1) up to an end. The
        family's own parameters are NaN there; those of the limit stand beside them.
      converged: whether the search ended at a maximum. Where not, there are no intervals.
      goodness: how well the law fits by itself.
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
    limit: str | None
    converged: bool
    goodness: Goodness

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
        law = LAWS[self.law]
        return (law.limits[self.limit] if self.limit else law).make(self.support, self.parameters)

    def vuong(self, other: "Fit") -> tuple[float, float]:
        """Vuong's test of this law against another one fitted to the same weights (1989).

        Its p is not valid where one contains the other: see `likelihood_ratio`.

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
        return z, float(2 * NUMPY.special.ndtr(-abs(z)))

    def contains(self, other: "Fit") -> bool:
        """Whether the other law is one of this family, or what it comes to at an edge."""
        return other.law in LAWS[self.law].contains

    def likelihood_ratio(self, smaller: "Fit") -> tuple[float, int, float]:
        """(statistic, degrees of freedom, p) of a law that this one contains (Wilks 1938).

        2 ln of the ratio of the likelihoods; p is halved where the smaller law lies at an edge of
        this one (Self & Liang 1987). An end point that this law has more counts two degrees: its
        statistic is exponential of mean 2. For a mixture, which has no regular edge, p is a guide.
        """
        if not self.contains(smaller):
            raise UserError(f"{self.law} does not contain {smaller.law}; compare them by `vuong`.")
        one, other = LAWS[self.law], LAWS[smaller.law]
        statistic = max(2 * (self.log_likelihood - smaller.log_likelihood), 0.0)
        degrees = len(one.links) - len(other.links) + 2 * (len(one.ends) - len(other.ends))
        if degrees < 1:  # generalized normal to uniform: an end for two parameters
            degrees = 1
        p = float(NUMPY.special.chdtrc(degrees, statistic))
        return statistic, degrees, p / 2 if smaller.law in one.limits else p


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
    least = counted.grid.least if counted.grid else 0.0
    estimated = bool(least) and counted.grid.kind == "pruned"
    rounded = bool(counted.largest < upper[-1])
    return Sample(lower / unit, upper / unit, counts, size, unit, least / unit, estimated, rounded)


class _Found(NamedTuple):
    """A law at its most likely parameters, in the units of a sample."""

    law: Law
    support: tuple[float, float]
    free: np.ndarray
    covariance: np.ndarray
    converged: bool
    masses: np.ndarray
    total: float


def _fit(sample: Sample, name: str) -> Fit:
    law, limit = LAWS[name], None
    found = _search(sample, law)
    for edge, at_edge in law.limits.items():
        # What does not gain on a limit of its family, or runs towards it without end, is there.
        other = _search(sample, at_edge)
        if other.total > found.total - (_EDGE if found.converged else 1.0):
            # Far behind a limit of its own, on the way to it or not, a search was lost.
            lost = not found.converged and other.total > found.total + 0.01 * sample.size
            covariance = np.full_like(other.covariance, np.nan) if lost else other.covariance
            found = other._replace(covariance=covariance, converged=not lost)
            limit = edge
    if not math.isfinite(found.total):
        raise UserError("no parameters were found that give these weights a likelihood.")
    estimates = found.law.report(found.free, found.covariance, sample.unit)
    if limit:  # the family's own parameters have no value there
        nothing = (math.nan, math.nan, (math.nan, math.nan))
        pairs = zip(nothing, estimates, strict=True)
        estimates = [dict.fromkeys(law.links, none) | some for none, some in pairs]
    ks, goodness = _absolute_fit(sample, found, law)
    return Fit(
        name,
        sample.size,
        *estimates,
        # Densities of w, not of |w| / unit: ln(1 / (2 unit)) a weight.
        found.total - sample.size * math.log(2 * sample.unit),
        len(law.links) + len(_ends(sample, law)),
        ks,
        tuple(float(end * sample.unit) for end in found.support),
        found.masses,
        sample.counts,
        limit,
        found.converged,
        goodness,
    )


def _ends(sample, law) -> set[str]:
    """The end points that are estimated by the extreme weights."""
    if sample.is_estimated:
        return {"a", *law.ends}
    return set(law.ends) - ({"a"} if sample.least else set())


def _search(sample: Sample, law: Law) -> _Found:
    low, high = sample.lower, sample.upper
    widths = high - low
    if "a" in law.ends and not low[0]:  # a cell that reaches 0, where no power law does
        low = np.append(0.5 * high[0], low[1:])
        sample = sample._replace(lower=low)
    support = (sample.least or low[0], high[-1] if law.links else _largest(sample))
    ends = _ends(sample, law)
    starts, axes, best = law.starts(sample), None, None
    if starts.shape[1] > 1:
        _, rough, _ = _objective(_merged(sample), law, support, ends, _GAUSS_2)
        best, axes = _best_start(rough, starts, min(sample.size, _ROUGH_SIZE))
    nodes = _GAUSS if len(low) < _COARSE else _GAUSS_2
    log_masses, objective, size = _objective(sample, law, support, ends, nodes)
    if best is None or not np.isfinite(objective(best[None])[0]):  # at the end of what floats hold
        best, axes = starts[int(np.argmax(objective(starts)))], None
    _, free, covariance, converged, _ = _climb(objective, best, size, axes)
    with np.errstate(all="ignore"):
        masses = log_masses(free[None])[0]
        if high[0] - low[0] < widths[0]:
            masses[0] += math.log((high[0] - low[0]) / widths[0])
        if support[1] < high[-1]:  # nor does a uniform law reach further than its end
            masses[-1] += math.log((support[1] - low[-1]) / widths[-1])
        total = float(sample.counts @ masses)
    total = total if math.isfinite(total) else -math.inf
    return _Found(law, support, free, covariance, converged, masses, total)


def _largest(sample: Sample) -> float:
    """Where a uniform law ends: at the largest weight, or within the bin that it was rounded to.

    Of n weights, m of them in the last bin, (b - lower)^m / b^n is largest at n / (n - m) lower.
    """
    if not sample.is_rounded:
        return sample.upper[-1]
    inside = sample.size - sample.counts[-1]
    return float(min(sample.lower[-1] * sample.size / inside, sample.upper[-1]))


def _merged(sample: Sample) -> Sample:
    """The sample in at most 128 bins, on which maxima are looked for."""
    first = np.arange(0, len(sample.lower), -(-len(sample.lower) // _ROUGH))
    last = np.append(first[1:], len(sample.lower)) - 1
    counts = np.add.reduceat(sample.counts, first)
    return sample._replace(lower=sample.lower[first], upper=sample.upper[last], counts=counts)


def _objective(sample, law, support, ends, gauss):
    """(log masses of the bins, mean log likelihood, size), functions of free parameters [m, p].

    The masses are [m, bins], over the bins' widths.
    """
    low, high = sample.lower, sample.upper
    positions, shares = gauss
    nodes = 0.5 * (low + high) + 0.5 * (high - low) * positions[:, None]
    log_shares = np.log(shares)[:, None]
    # Given the extreme weights that a law takes as its ends, the others are an exact sample of it.
    counts = sample.counts.astype(np.float64)
    counts[0] -= "a" in ends
    counts[-1] -= "b" in ends
    size = max(counts.sum(), 1.0)
    # Where a law ends in less than a bin, Gauss points lie on this side of the end or on that; and
    # in a cell that reaches 0, densities have poles.
    sharp = np.arange(len(low)) if law.center else np.empty(0, int)
    sharp = sharp[(sharp >= len(low) - _SHARP) | (low[sharp] == 0)]
    sharp = sharp[high[sharp] - low[sharp] > 1e-6 * high[sharp]]
    ends_of_sharp = np.stack([low[sharp], high[sharp]])
    log_widths = np.log(high[sharp] - low[sharp])

    def log_masses(free):
        parameters = [q[:, None, None] for q in law.parameters(free)]
        values = law.log_density(nodes, support, *parameters) + log_shares
        values = np.broadcast_to(values, (len(free), *nodes.shape))
        masses = np.logaddexp.reduce(values, axis=1)
        if sharp.size:
            above = law.above(ends_of_sharp, support, *parameters)
            masses[:, sharp] = np.log(above[:, 0] - above[:, 1]) - log_widths
        if sample.least and law.above:
            masses = masses - np.log(law.above(sample.least, support, *parameters)).reshape(-1, 1)
        return masses

    def objective(free):
        with np.errstate(all="ignore"):
            value = log_masses(free) @ counts / size
        return np.where(np.isfinite(value), value, -np.inf)

    return log_masses, objective, size


def _absolute_fit(sample, found, family):
    """(distance of Kolmogorov and Smirnov, binned goodness of fit) of |w| > least."""

    def below(x):
        with np.errstate(all="ignore"):
            return found.law.cdf(x, found.support, *found.law.parameters(found.free))

    hidden = float(below(np.float64(sample.least))) if sample.least else 0.0
    low, high = ((below(x) - hidden) / (1 - hidden) for x in (sample.lower, sample.upper))
    reached = np.cumsum(sample.counts)
    empirical = np.append(0, reached) / sample.size
    # Bins lie apart: both ends of the empty stretch before a bin have the same empirical value.
    ks = max(np.abs(low - empirical[:-1]).max(), np.abs(high - empirical[1:]).max())
    # About equally many weights a group, which ends where a bin does.
    groups = min(_GROUPS, sample.size // _LEAST_GROUP)
    last = np.unique(np.searchsorted(reached, np.arange(1, groups) * sample.size / groups))
    last = last[last < len(reached) - 1]
    observed = np.diff(np.concatenate([[0], reached[last], [sample.size]]))
    expected = np.diff(np.concatenate([[0.0], high[last], [1.0]])) * sample.size
    with np.errstate(divide="ignore"):
        statistic = float(2 * (observed * np.log(observed / np.maximum(expected, 1e-300))).sum())
    degrees = max(len(observed) - 1 - len(family.links), 0)
    p = float(NUMPY.special.chdtrc(degrees, statistic)) if degrees else math.nan
    return float(ks), Goodness(
        statistic, degrees, p, max(statistic - degrees, 0.0) / (2 * sample.size)
    )


def _best_start(objective, starts, size):
    """(free, axes): the highest of the maxima that are reached from the most likely starts."""
    tried, found = [], []
    for i in np.argsort(-objective(starts)):
        if len(tried) == _SEARCHES[starts.shape[1]]:
            break
        # From starts next to one that was searched the same maximum is found.
        if all(np.abs(starts[i] - other).max() > 1 for other in tried):
            tried.append(starts[i])
            found.append(_climb(objective, starts[i], size))
    _, free, _, _, axes = max(found, key=lambda result: result[0])
    return free, axes


def _climb(objective, free, size, axes=None):
    """(maximum, argmax, covariance, converged, axes) of a mean log likelihood of `size` weights.

    By damped Newton steps from one start. Derivatives are central differences, all of a step
    evaluated in one call, along axes on which the likelihood bends by about 1: those of the step
    before.
    """
    count = len(free)
    if not count:
        return 0.0, free, np.empty((0, 0)), True, None
    offsets, axes = _stencil(count), np.eye(count) if axes is None else axes
    before, idle, gain, hessian = -math.inf, 0, math.inf, np.full((count, count), np.nan)
    for _ in range(_MAX_ITERATIONS):
        values = objective(free + _STEP * offsets @ axes.T)
        if not np.isfinite(values).all():
            if (axes == np.eye(count)).all():
                break
            axes = np.eye(count)  # too long a step for a law whose density ends near by
            continue
        # Two steps that gain nothing worth telling: a ridge, as of a mixture of equal components.
        idle = idle + 1 if (values[0] - before) * size < 1e-3 else 0
        before = values[0]
        gradient, hessian = _derivatives(values, count)
        bends, turns = np.linalg.eigh(-hessian)
        # Where the likelihood is not concave, uphill all the same, by a step of about 1.
        curvatures = np.maximum(np.abs(bends), 1e-9)
        step = turns @ ((turns.T @ gradient) / curvatures)
        gain = gradient @ step * size
        if idle == 2 or gain < 1e-6:  # 1e-3 standard errors from the maximum
            break
        step = axes @ step
        step *= min(1.0, float((1.5 * np.maximum(1, np.abs(free)) / np.abs(step)).min()))
        candidates = free + step * np.array([1.0, 0.5, 0.25, 0.1, 0.01, 0.001])[:, None]
        first = objective(candidates[:1])
        if first[0] > values[0]:
            better = candidates[0]
        else:
            rest = objective(candidates[1:])
            best = int(np.argmax(rest))
            if not rest[best] > values[0]:
                break
            better = candidates[1 + best]
        free = better
        axes = axes @ turns / np.sqrt(curvatures)
        axes /= np.maximum(np.linalg.norm(axes, axis=0) / _LONGEST, 1)
    strict = np.isfinite(hessian).all() and np.linalg.eigvalsh(-hessian)[0] > 1e-7
    if not (strict and gain < _CLOSE):
        return before, free, np.full((count, count), np.nan), False, axes
    return before, free, axes @ np.linalg.inv(-hessian) @ axes.T / size, True, axes


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
