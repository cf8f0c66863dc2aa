"""Is the far tail a power law? The search for where it begins, and a bootstrap that repeats it."""

import dataclasses
import math

import numpy as np

from initjax.fit.histograms import Histogram, histogram
from initjax.support.arguments import count
from initjax.support.errors import UserError

_CANDIDATES = 200
_REFINED = 8  # local minima of the distance that are searched exactly
_MIN_TAIL = 10  # weights, and sizes of all
_MIN_SIZES = 5  # different ones within a tail: what lies in one bin has an exponent without end


@dataclasses.dataclass(frozen=True)
class Tail:
    """A power law p(w) ~ |w|^-alpha of the weights with |w| >= xmin.

    Attributes:
      alpha: the exponent, by maximum likelihood.
      standard_error: of alpha given xmin, (alpha - 1) / sqrt(size).
      xmin: where the tail begins: where the distance of Kolmogorov and Smirnov is least.
      xmax: the largest |w|.
      size: how many weights the tail has.
      fraction: of the weights that are not 0.
      distance: of Kolmogorov and Smirnov, between the tail and its power law.
      p: (1 + b) / (1 + B), where the distance of b of B samples of the fitted law, xmin searched
        anew, is as large; small values speak against a power law. None without a bootstrap.
      bootstraps: how many samples p is from.
      searched_error: the standard deviation of alpha over these samples: its standard error with
        xmin searched. None without a bootstrap.
    """

    alpha: float
    standard_error: float
    xmin: float
    xmax: float
    size: int
    fraction: float
    distance: float
    p: float | None = None
    bootstraps: int = 0
    searched_error: float | None = dataclasses.field(default=None, metadata={"left_out": True})


def fit_tail(weights, *, bootstraps: int = 0, seed: int = 0) -> Tail:
    """Finds the tail of |w| that is most like a power law (Clauset, Shalizi & Newman 2009).

    The exponent of weights from xmin on is alpha = 1 + n / sum ln(w / xmin); xmin is where the
    distance D = max |empirical - fitted distribution function| is least. Histograms are searched on
    their bin edges, 200 at first and then every edge around the best 8 local minima; in an array
    every weight is tried, but for those that cannot be better.

    Args:
      weights: an array of any shape, or a `Histogram`.
      bootstraps: how many samples to draw for p, in the bins of the weights' dtype: weights below
        xmin from their histogram, those above from the fitted law. Each is searched as the
        histogram was. The standard error of p is sqrt(p (1 - p) / bootstraps).
      seed: of the bootstrap.

    Raises:
      UserError (a ValueError): fewer than 10 different sizes or none that begins a tail of 10
        weights and 5 sizes; infinite weights, or NaN.

    >>> rng = np.random.default_rng(0)
    >>> tail = fit_tail(np.concatenate([rng.uniform(0, 1, 90_000), 1 + rng.pareto(1.5, 10_000)]))
    >>> abs(tail.alpha - 2.5) < 4 * tail.standard_error, 0.98 < tail.xmin < 1.1
    (True, True)
    """
    count(bootstraps, "bootstraps", 0)
    counted = weights if isinstance(weights, Histogram) else histogram(weights)
    if counted.not_finite:
        raise UserError(f"{counted.not_finite} of the weights are infinite or NaN.")
    lower, upper, counts = counted.magnitudes
    if len(counts) < _MIN_TAIL:
        raise UserError(f"|w| has {len(counts)} different sizes: too few for a tail.")
    search = _Search(lower, upper)
    best, minima = search.run(counts)
    if isinstance(weights, Histogram):
        tail = _tail(best, float(counted.largest), int(counts.sum()))
    else:
        values = np.sort(np.abs(np.asarray(weights, np.float64).ravel()))
        values = values[np.searchsorted(values, 0.0, side="right") :]
        tail = _exact(values, lower[minima])
    if bootstraps:
        rng = np.random.default_rng(seed)
        distances, alphas = search.bootstrap(counts, best, counted.edges, bootstraps, rng).T
        tail = dataclasses.replace(
            tail,
            p=(1 + int((distances >= best[0]).sum())) / (1 + bootstraps),
            bootstraps=bootstraps,
            searched_error=_sd(alphas[np.isfinite(alphas)]),
        )
    return tail


def _tail(best, xmax, total) -> Tail:
    distance, alpha, xmin, size = best
    error = (alpha - 1) / math.sqrt(size)
    return Tail(alpha, error, xmin, xmax, size, size / total, distance)


class _Search:
    """The search on the edges of fixed bins."""

    def __init__(self, lower, upper):
        self.log_lower, self.log_upper = np.log(np.maximum(lower, 1e-300)), np.log(upper)
        self.log_middle = 0.5 * (self.log_lower + self.log_upper)
        self.edges = np.union1d(self.log_lower, self.log_upper)  # of neighbours only once
        self.edge_of_bin = np.searchsorted(self.edges, self.log_lower)
        self.bin_of_edge = np.searchsorted(self.log_lower, self.edges)

    def run(self, counts):
        """((distance, alpha, xmin, size) of the best edge, the bins of the best local minima)."""
        above = np.cumsum(counts[::-1])[::-1]  # weights in this bin and beyond
        log_sums = np.cumsum((counts * self.log_middle)[::-1])[::-1]
        reaching = np.append(above, 0)[self.bin_of_edge]
        possible = np.flatnonzero(above[: 1 - _MIN_SIZES] >= _MIN_TAIL)
        if not possible.size:
            raise UserError(f"no tail has {_MIN_TAIL} weights of {_MIN_SIZES} different sizes.")
        coarse = _spread(above[possible])
        found = {k: self._distance(k, above, log_sums, reaching) for k in possible[coarse]}
        tried = np.array(sorted(found))
        distances = np.array([found[k][0] for k in tried])
        padded = np.concatenate([[np.inf], distances, [np.inf]])
        minima = np.flatnonzero((distances <= padded[:-2]) & (distances <= padded[2:]))
        minima = minima[np.argsort(distances[minima])][:_REFINED]
        for i in minima:
            for k in range(tried[max(i - 1, 0)] + 1, tried[min(i + 1, len(tried) - 1)]):
                if k not in found and counts[k]:
                    found[k] = self._distance(k, above, log_sums, reaching)
        order = sorted(found, key=lambda k: found[k][0])
        k = order[0]
        best = (*found[k], math.exp(self.log_lower[k]), int(above[k]))
        return best, self._apart(order)

    def _apart(self, order):
        """The best bins that are not neighbours of better ones."""
        chosen = []
        for k in order:
            if len(chosen) == _REFINED:
                break
            if all(abs(k - other) > 2 for other in chosen):
                chosen.append(k)
        return chosen

    def _distance(self, k, above, log_sums, reaching):
        """(distance, alpha) of the tail that begins where bin k does."""
        size, start, first = above[k], self.log_lower[k], self.edge_of_bin[k]
        alpha = 1 + size / (log_sums[k] - size * start)
        model = np.exp((1 - alpha) * (self.edges[first:] - start))
        return float(np.abs(reaching[first:] / size - model).max()), float(alpha)

    def bootstrap(self, counts, best, edges, bootstraps, rng) -> np.ndarray:
        """float64[bootstraps, 2]: (distance, alpha) of samples of the law, xmin searched anew.

        Weights below xmin are drawn from their histogram, those above from the law, in the bins
        that begin at `edges`, which are all that such weights may lie in: on finer ones a sample is
        nearer to its law than rounded weights can be.
        """
        _, alpha, xmin, size = best
        start = math.log(xmin)
        edges = np.log(edges[edges > xmin * (1 + 1e-9)])
        edges = np.append(start, edges[: np.searchsorted(edges, start + _reach(alpha, size)) + 1])
        shares = -np.diff(np.append(np.exp((1 - alpha) * (edges - start)), 0.0))
        body = self.log_lower < start - 1e-9
        lower = np.exp(np.append(self.log_lower[body], edges))
        # What lies beyond the last edge is so improbable that its place does not matter.
        upper = np.exp(np.append(self.log_upper[body], np.append(edges[1:], edges[-1] + 1)))
        total, body_counts = int(counts.sum()), counts[body]
        found = np.empty((bootstraps, 2))
        for i in range(bootstraps):
            in_tail = rng.binomial(total, size / total)
            below = (
                rng.multinomial(total - in_tail, body_counts / body_counts.sum())
                if body_counts.size
                else body_counts
            )
            sample = np.append(below, rng.multinomial(in_tail, shares))
            used = np.flatnonzero(sample)
            try:
                found[i] = _Search(lower[used], upper[used]).run(sample[used])[0][:2]
            except UserError:  # so few sizes that a tail may have come by chance
                found[i] = math.inf, math.nan
        return found


def _sd(values):
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _reach(alpha, size):
    """How far, in ln|w|, from xmin on the largest of a million samples may lie."""
    return (math.log(size) + 14) / (alpha - 1)


def _spread(above):
    """Indices of up to 200 candidates: half evenly in rank, half evenly in the log of the tail."""
    if len(above) <= _CANDIDATES:
        return np.arange(len(above))
    half = _CANDIDATES // 2
    by_rank = np.searchsorted(-above, -np.linspace(above[0], above[-1], half))
    by_log = np.searchsorted(-above, -np.geomspace(above[0], above[-1], half))
    return np.unique(np.minimum(np.append(by_rank, by_log), len(above) - 1))


class _Exact:
    """The search among single weights: `values` are |w| > 0, sorted."""

    def __init__(self, values):
        self.values, self.logs = values, np.log(values)
        self.log_sums = np.cumsum(self.logs[::-1])[::-1]
        # Equal weights step together: how many lie at or above, and above, each.
        first = np.append(True, values[1:] != values[:-1])
        run = np.cumsum(first) - 1
        starts = np.append(np.flatnonzero(first), len(values))
        self.starts, self.reaching = starts[:-1], len(values) - starts[run]
        self.exceeding = len(values) - starts[run + 1]

    def distance(self, i, known):
        """(distance, alpha) of the tail that begins at the i-th weight.

        Where it is more than `known`, a lower bound of it: the distance at every 512th of the tail.
        The weights between two of those can exceed it only if a bound on their stretch does.
        """
        size, start = len(self.values) - i, self.logs[i]
        spread = self.log_sums[i] - size * start
        if spread <= 0:
            return math.inf, math.inf
        alpha = 1 + size / spread
        stride = max(size // 512, 1)
        at = np.append(np.arange(i, len(self.values) - 1, stride), len(self.values) - 1)
        model, before, after, distance = self._deviation(at, start, alpha, size)
        if distance > known or stride == 1:
            return distance, alpha
        bound = np.maximum(before[:-1] - model[1:], model[:-1] - after[1:])
        inside = (at[:-1][bound > distance][:, None] + np.arange(1, stride)).ravel()
        inside = inside[inside < len(self.values)]
        return max(distance, self._deviation(inside, start, alpha, size)[3]), alpha

    def _deviation(self, at, start, alpha, size):
        model = np.exp((1 - alpha) * (self.logs[at] - start))
        before, after = self.reaching[at] / size, self.exceeding[at] / size
        both = np.maximum(np.abs(before - model), np.abs(after - model))
        return model, before, after, float(both.max(initial=0.0))


def _exact(values, first_guesses) -> Tail:
    """Every weight is tried as xmin, but for those that cannot be better.

    From one weight to the next the distance changes by about 1 / size, so that from a weight that
    is worse by d than the best so far the search skips d * size / 3 weights.
    """
    search = _Exact(values)
    last = min(len(values) - _MIN_TAIL, int(search.starts[-_MIN_SIZES]))
    guesses = np.searchsorted(values, first_guesses)
    best = (math.inf, math.nan, 0)
    for i in guesses[guesses <= last]:
        i = int(search.starts[np.searchsorted(search.starts, i)])
        best = min(best, (*search.distance(i, best[0]), i))
    run = 0
    while run < len(search.starts) and search.starts[run] <= last:
        i = int(search.starts[run])
        distance, alpha = search.distance(i, best[0])
        best = min(best, (distance, alpha, i))
        skip = int(min((distance - best[0]) / 3, 1) * (len(values) - i))
        run = max(int(np.searchsorted(search.starts, i + skip)), run + 1)
    distance, alpha, i = best
    found = (distance, float(alpha), float(values[i]), len(values) - i)
    return _tail(found, float(values[-1]), len(values))
