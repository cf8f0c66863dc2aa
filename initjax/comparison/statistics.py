"""The statistics of a comparison: tests, intervals, effect sizes and numbers of seeds.

Pure functions of numbers. d always stands for the paired differences of two starts, one a seed;
S for their number, mean and sd for their mean and standard deviation (with S - 1). Functions that
say so take d of shape (..., S) and work along its last axis.

Why these and not others: a percentile bootstrap of S = 5 seeds calls 17 % of equal starts
different, and unadjusted t tests of all pairs of 5 starts 33 %. Differences of two runs that could
be exchanged are symmetric about 0, whatever the law of their accuracy, so the sign-flip test is
exact even where runs are skewed or fail.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

MOST_EXACT = 16  # seeds up to which all sign flips are tried
FLIPS = 10_000
LEAST_BOOTSTRAP = 20  # seeds below which a bootstrap's intervals are too short
MOST_SEEDS = 10_000  # where searches for a number of seeds give up


def t_quantile(probability: float, freedom: ArrayLike) -> np.ndarray:
    """Quantile of Student's t."""
    return special.stdtrit(freedom, probability)


def t_interval(d: ArrayLike, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, low, high): mean +- t((1 + level) / 2, S - 1) sd / sqrt(S), along the last axis.

    Student 1908. Of S = 1 the limits are -inf and inf.
    """
    d = np.asarray(d, float)
    n, mean = d.shape[-1], d.mean(-1)
    if n < 2:
        return mean, np.full_like(mean, -np.inf), np.full_like(mean, np.inf)
    radius = t_quantile((1 + level) / 2, n - 1) * d.std(-1, ddof=1) / math.sqrt(n)
    return mean, mean - radius, mean + radius


def t_p_value(d: ArrayLike) -> np.ndarray:
    """Two-sided p of the paired t test, t = mean sqrt(S) / sd, along the last axis (S >= 2)."""
    d = np.asarray(d, float)
    n = d.shape[-1]
    mean, error = d.mean(-1), d.std(-1, ddof=1) / math.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0, 0.0, np.abs(mean) / error)
    return 2 * special.stdtr(n - 1, -t)


def bootstrap_t_interval(
    d: ArrayLike, level: float = 0.95, resamples: int = 4000
) -> tuple[float, float] | None:
    """Interval of the mean by the bootstrap of t (Efron 1979; Hall 1988); None if all d are equal.

    With t* = (mean* - mean) sqrt(S) / sd* of resampled differences and its quantiles q, the limits
    are mean - q((1 + level) / 2) sd / sqrt(S) and mean - q((1 - level) / 2) sd / sqrt(S). Use it
    for `LEAST_BOOTSTRAP` seeds and more.
    """
    d = np.sort(np.asarray(d, float))  # the order of seeds changes nothing
    n, sd = len(d), d.std(ddof=1)
    if np.ptp(d) == 0:
        return None
    draws = d[np.random.default_rng(0).integers(n, size=(resamples, n))]
    errors = draws.std(-1, ddof=1) / math.sqrt(n)
    t = (draws.mean(-1) - d.mean())[errors > 0] / errors[errors > 0]
    low, high = np.quantile(t, [(1 - level) / 2, (1 + level) / 2])
    return float(d.mean() - high * sd / math.sqrt(n)), float(d.mean() - low * sd / math.sqrt(n))


@functools.lru_cache(maxsize=4)
def _flips(n: int) -> np.ndarray:
    """Signs of shape (flips, n): all with the first sign +, or random ones."""
    if n <= MOST_EXACT:
        bits = np.arange(2 ** (n - 1))[:, None] >> np.arange(n - 1)[None] & 1
        return np.concatenate([np.ones((len(bits), 1)), 1.0 - 2.0 * bits], 1)
    return np.random.default_rng(0).choice([-1.0, 1.0], size=(FLIPS, n))


def sign_flip_p(d: ArrayLike) -> np.ndarray:
    """Two-sided p of the sign-flip (permutation) test of the mean, along the last axis.

    Fisher 1935. Up to 16 differences: the share of all 2^S patterns of signs that make |sum| as
    large as it is. More: p = (1 + b) / (1 + B), b of B = 10,000 random patterns (Phipson & Smyth
    2010). The smallest possible p is 2 / 2^S, see `smallest_p`.
    """
    d = np.asarray(d, float)
    n = d.shape[-1]
    sums = np.abs(d @ _flips(n).T)
    observed = np.abs(d.sum(-1)) - 1e-12 * np.abs(d).sum(-1)  # sums are rounded
    reached = (sums >= observed[..., None]).sum(-1)
    # A pattern and its opposite have one |sum|: half of all patterns tell the share of all.
    return reached / sums.shape[-1] if n <= MOST_EXACT else (1 + reached) / (1 + FLIPS)


def smallest_p(n: int) -> float:
    """The smallest p that `sign_flip_p` can give of so many differences."""
    return min(1.0, 2.0 / 2**n) if n <= MOST_EXACT else 1 / (1 + FLIPS)


def least_seeds(alpha: float) -> int:
    """The fewest seeds of which the sign-flip test can give a p of at most alpha."""
    return math.ceil(1 - math.log2(alpha) - 1e-12)


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p (1979): max over j <= i of min(1, (m - j + 1) p_(j)), in p's order.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1)


def hedges_correction(n: int) -> float:
    """J = Gamma((S-1)/2) / (sqrt((S-1)/2) Gamma((S-2)/2)), for S >= 3 (Hedges 1981)."""
    half = (n - 1) / 2
    return math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / math.sqrt(half)


def effect_size(d: ArrayLike) -> tuple[float, float]:
    """(dz, g): dz = mean / sd (Cohen 1988) and g = J dz (Hedges 1981); S >= 3.

    Infinite where all d are equal and not 0.
    """
    d = np.asarray(d, float)
    mean, sd = float(d.mean()), float(d.std(ddof=1))
    dz = mean / sd if np.ptp(d) > 0 else math.copysign(math.inf, mean) if mean else 0.0
    return dz, dz * hedges_correction(len(d))


def improvement(a: ArrayLike, b: ArrayLike) -> float:
    """P(A > B) over paired seeds, ties counting 1/2 (Bouthillier et al. 2021, arXiv:2103.03098)."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return float(np.mean((a > b) + 0.5 * (a == b)))


def equivalence(d: ArrayLike, margin: float, alpha: float = 0.05) -> tuple[float, float, float]:
    """(low, high, p) of two one-sided t tests against -margin and margin (Schuirmann 1987).

    low and high limit the interval of level 1 - 2 alpha; it lies inside (-margin, margin) just
    where p = max of both tests' is below alpha. S >= 2.
    """
    d = np.asarray(d, float)
    n = len(d)
    mean, low, high = (float(x) for x in t_interval(d, 1 - 2 * alpha))
    error = float(d.std(ddof=1)) / math.sqrt(n)
    nearest = margin - abs(mean)
    t = nearest / error if error else math.copysign(math.inf, nearest)
    return low, high, float(special.stdtr(n - 1, -t))


def power(n: int, dz: float, alpha: float = 0.05) -> float:
    """Power of the two-sided paired t test: P(|T| > t(1 - alpha/2)), T noncentral by dz sqrt(S)."""
    limit, center = t_quantile(1 - alpha / 2, n - 1), abs(dz) * math.sqrt(n)
    # SciPy's tails are nan where they are 0 to 20 digits.
    below_high, below_low = np.nan_to_num(special.nctdtr(n - 1, center, [limit, -limit]))
    return float(1 - below_high + below_low)


@functools.lru_cache(maxsize=1)
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(64)


def equivalence_power(n: int, ratio: float, alpha: float = 0.05) -> float:
    """Power of `equivalence` where the true difference is 0 and margin = ratio sd.

    The mean over u = estimated / true sd of P(|Z| < ratio sqrt(S) - t(1 - alpha, S - 1) u), where
    (S - 1) u^2 is chi-square (Owen 1965, as an integral; Phillips 1990).
    """
    t = t_quantile(1 - alpha, n - 1)
    largest = ratio * math.sqrt(n) / t  # above this u no interval lies inside
    top = special.chdtr(n - 1, (n - 1) * largest**2)
    nodes, weights = _quadrature()
    quantiles = top * (nodes + 1) / 2
    u = np.sqrt(special.chdtri(n - 1, 1 - quantiles) / (n - 1))
    inside = special.erf(np.maximum(ratio * math.sqrt(n) - t * u, 0) / math.sqrt(2))
    return float(top / 2 * weights @ inside)


def _fewest(reaches, least: int = 2) -> int | None:
    """The smallest n >= least for which a monotone `reaches(n)` holds, up to `MOST_SEEDS`."""
    high = least
    while not reaches(high):
        if high >= MOST_SEEDS:
            return None
        least, high = high + 1, min(2 * high, MOST_SEEDS)
    while least < high:
        middle = (least + high) // 2
        least, high = (least, middle) if reaches(middle) else (middle + 1, high)
    return high


def seeds_for_difference(dz: float, alpha: float = 0.05, at_least: float = 0.8) -> int | None:
    """The fewest seeds with which a true dz is found with this power; None: above 10,000."""
    return _fewest(lambda n: power(n, dz, alpha) >= at_least)


def seeds_for_equivalence(ratio: float, alpha: float = 0.05, at_least: float = 0.8) -> int | None:
    """The fewest seeds with which no difference is shown to be within ratio sd; None: 10,000."""
    return _fewest(lambda n: equivalence_power(n, ratio, alpha) >= at_least)


def seeds_for_improvement(gamma: float, alpha: float = 0.05, beta: float = 0.05) -> int:
    """Seeds to tell P(A > B) = gamma from 1/2 (Noether 1987; Bouthillier et al. 2021).

    N = ((z(1 - alpha) + z(1 - beta)) / (sqrt(6) (gamma - 1/2)))^2, rounded up.
    """
    z = special.ndtri(1 - alpha) + special.ndtri(1 - beta)
    return math.ceil((z / (math.sqrt(6) * (gamma - 0.5))) ** 2)


def visible_effect(n: int, alpha: float = 0.05, at_least: float = 0.8) -> float:
    """The dz that so many seeds find with this power, by the noncentral t."""
    low, high = 0.0, 1.0
    while power(n, high, alpha) < at_least:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if power(n, middle, alpha) >= at_least else (middle, high)
    return high


def sd_upper_limit(sd: float, n: int, level: float = 0.8) -> float:
    """sd sqrt((S - 1) / chi2(1 - level, S - 1)): below it the true sd lies with this probability.

    An estimated sd itself is too small, and with it every number of seeds, half of the time.
    """
    return sd * math.sqrt((n - 1) / special.chdtri(n - 1, level))


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of the probability of which k in n were seen (Clopper & Pearson 1934)."""
    tail = (1 - level) / 2
    low = 0.0 if k == 0 else float(special.betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(special.betaincinv(k + 1, n - k, 1 - tail))
    return low, high


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Exact two-sided p that two paired rates are equal (McNemar 1947): a binomial test at 1/2.

    Args:
      only_a: pairs in which only the first failed.
      only_b: pairs in which only the second failed.
    """
    n = only_a + only_b
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), n, 0.5))) if n else 1.0


def rank_differences(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Differences of a's and b's mid-ranks among all values, for a sign-flip test of ranks.

    Make failures -inf (or times never reached inf): they then come last and tie.
    """
    values = np.concatenate([np.asarray(a, float), np.asarray(b, float)])
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks[: len(ranks) // 2] - ranks[len(ranks) // 2 :]


def t_e_value(d: ArrayLike, tau: float = 1.0) -> np.ndarray:
    """Evidence E against mean 0 that may be looked at after every seed: stop at E >= 1 / alpha.

    With A = 1 + S tau^2: E = A^(-1/2) [(1 + t^2/(S-1)) / (1 + t^2/((S-1) A))]^(S/2), the mixture of
    t likelihood ratios over dz ~ N(0, tau^2) (Wang & Ramdas 2023, arXiv:2310.03722). Valid for
    paired differences. Along the last axis; 1 of fewer than two.
    """
    d = np.asarray(d, float)
    n = d.shape[-1]
    if n < 2:
        return np.ones(d.shape[:-1])
    a = 1 + n * tau**2
    among = ((d - d.mean(-1, keepdims=True)) ** 2).sum(-1)
    signal = n * d.mean(-1) ** 2  # t^2 / (S - 1) = signal / among
    with np.errstate(invalid="ignore"):
        ratio = np.where(signal > 0, (among + signal) / (among + signal / a), 1.0)
    return np.exp(0.5 * n * np.log(ratio) - 0.5 * np.log(a))


def anytime_p(d: ArrayLike, tau: float = 1.0) -> float:
    """p that is valid however S was chosen: 1 / the largest `t_e_value` on the way, at most 1.

    By Ville's inequality; Holm's adjustment of such p is the e-Holm procedure.

    Args:
      d: differences, in the order in which they were seen.
      tau: as in `t_e_value`.
    """
    d = np.asarray(d, float)
    seen = [1.0, *(float(t_e_value(d[:n], tau)) for n in range(2, len(d) + 1))]
    return 1 / max(seen)


def failure_e_value(only_a: int, only_b: int) -> float:
    """Evidence against equal rates of failure that may be looked at after every seed.

    E = 2^n B(only_a + 1, only_b + 1) with n = only_a + only_b: of the seeds at which one of two
    starts failed, the likelihood ratio of Bernoulli(q), q uniform, against 1/2 (Ville 1939).
    """
    n = only_a + only_b
    return float(np.exp(n * math.log(2) + special.betaln(only_a + 1, only_b + 1)))


def sequence_radius(n: int, alpha: float = 0.05, tau: float = 1.0) -> float:
    """Radius, in sd, of the confidence sequence mean +- radius sd that inverts `t_e_value`.

    sqrt((S-1)/S (q-1)/(1-q/A)) with q = (A / alpha^2)^(1/S), infinite while q >= A. It covers the
    mean at all S at once with probability 1 - alpha (Howard et al. 2018, arXiv:1810.08240).
    """
    a = 1 + n * tau**2
    q = (a / alpha**2) ** (1 / n)
    return math.inf if q >= a else math.sqrt((n - 1) / n * (q - 1) / (1 - q / a))


def symmetric_e_value(d: ArrayLike, rho: float) -> float:
    """Evidence against any law symmetric about 0, without normality: stop at E >= 1 / alpha.

    E = (1 + rho^2 V)^(-1/2) exp(rho^2 s^2 / (2 (1 + rho^2 V))), s = sum d, V = sum d^2 (de la Pena
    1999); rho, about 1 / the difference looked for, is fixed beforehand.
    """
    d = np.asarray(d, float)
    spread = 1 + rho**2 * float(d @ d)
    return math.exp(rho**2 * float(d.sum()) ** 2 / (2 * spread)) / math.sqrt(spread)


def first_look(
    d: ArrayLike, looks: Sequence[int] = (5, 10, 20, 50), alpha: float = 0.05
) -> int | None:
    """The first planned look, a number of seeds, at which the t test's p <= alpha / len(looks)."""
    d = np.asarray(d, float)
    reached = (n for n in looks if n <= len(d) and t_p_value(d[:n]) <= alpha / len(looks))
    return next(reached, None)


def expected_best(values: ArrayLike, trials: int) -> float:
    """Expected best of so many trials: sum_i v_(i) [(i/N)^B - ((i-1)/N)^B], v sorted upwards.

    Dodge et al. 2019, arXiv:1909.03004: what tuning with B of these N trials would have given.
    """
    v = np.sort(np.asarray(values, float))
    shares = (np.arange(len(v) + 1) / len(v)) ** trials
    return float(v @ np.diff(shares))


def interquartile_mean(values: ArrayLike) -> float:
    """Mean of the middle half, a quarter of the values cut off below and above (rounded down).

    Agarwal et al. 2021, arXiv:2108.13264.
    """
    v = np.sort(np.ravel(np.asarray(values, float)))
    cut = len(v) // 4
    return float(v[cut : len(v) - cut].mean())


def first_step(steps: ArrayLike, accuracy: ArrayLike, level: float) -> float:
    """The first evaluated step at which the accuracy is at least `level`; inf if none is."""
    reached = np.flatnonzero(np.asarray(accuracy, float) >= level)
    return float(np.asarray(steps)[reached[0]]) if len(reached) else math.inf


def kaplan_meier_median(times: ArrayLike, reached: ArrayLike) -> float:
    """Median time of an event that some were not watched long enough to reach; inf if unknown.

    The first time at which prod_i (1 - events_i / at risk_i) <= 1/2 (Kaplan & Meier 1958).

    Args:
      times: of the event, or of the end of the watch.
      reached: whether the event was seen.
    """
    times, reached = np.asarray(times, float), np.asarray(reached, bool)
    left = 1.0
    for time in np.unique(times[reached]):
        left *= 1 - (reached & (times == time)).sum() / (times >= time).sum()
        if left <= 0.5 + 1e-12:
            return float(time)
    return math.inf


def mean_log_loss(steps: ArrayLike, loss: ArrayLike) -> float:
    """Area under the logarithm of the loss by the trapezoid rule, over the steps' range.

    A difference of .1 is a loss 10 % lower over the whole run.
    """
    steps, logs = np.asarray(steps, float), np.log(np.maximum(np.asarray(loss, float), 1e-12))
    if len(steps) == 1:
        return float(logs[0])
    return float(np.trapezoid(logs, steps) / (steps[-1] - steps[0]))


def profile_area(times: ArrayLike, most: float = 4.0) -> np.ndarray:
    """Area under each row's performance profile up to tau = `most`, over its largest, so in [0, 1].

    rho(tau) is the share of settings (columns) in which a start (row) takes at most tau times as
    long as the fastest (Dolan & More 2002; AlgoPerf, Dahl et al. 2023, arXiv:2306.07179).
    Times never reached are inf.
    """
    times = np.asarray(times, float)
    fastest = times.min(0)
    with np.errstate(invalid="ignore"):
        ratio = np.where(np.isinf(times), np.inf, times / fastest)
    return np.clip((most - ratio) / (most - 1), 0, 1).mean(-1)
