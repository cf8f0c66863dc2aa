"""Are estimates the most likely ones?  python benchmarks/estimates.py --weights=DIR

Every law is fitted to 30 real layers, and 17 samples of it, drawn over the whole range of its
parameters. The log likelihood of single weights (not of bins) at the estimate is compared with the
highest that Nelder and Mead's search finds, from several starts, the truth and our estimate; the
densities are SciPy's, or written here anew. A gap above 0 is what a fit leaves on the table, in
nats. What was measured stays: a run that was stopped goes on; `--table` only writes the table of
docs/fit.md anew, from the json.
"""

import math
import time
import warnings

import common
import layers
import numpy as np
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats

from initjax.distributions.laws import LAWS
from initjax.fit import likelihood

_MOST = 5_000  # weights of a real layer
_PER_LAW = 17  # drawn samples
_ENOUGH = 1.0  # nats


def _mass(alpha, scale, low, high):
    """ln of the integral of x^-alpha e^(-x / scale) over [low, high], by y = ln x."""
    y = np.linspace(math.log(low), math.log(high), 20_001)
    value = (1 - alpha) * y - np.exp(y) / scale
    most = value.max()
    return most + math.log(scipy.integrate.simpson(np.exp(value - most), x=y))


def _mixture(x, scale, ratio, weight):
    narrow = scipy.stats.norm.logpdf(x, 0, scale) + math.log1p(-weight)
    return np.logaddexp(narrow, scipy.stats.norm.logpdf(x, 0, scale * ratio) + math.log(weight))


def _cutoff(x, alpha, scale):
    low, high = x.min(), min(scale * (700 + 20 * abs(alpha)) + x.max(), 1e300)
    return -alpha * np.log(x) - x / scale - _mass(alpha, scale, low, high) - math.log(2)


# Of w: law -> (x = |w|, parameters) -> ln p(w). An end is that of the sample.
DENSITIES = {
    "normal": lambda x, scale: scipy.stats.norm.logpdf(x, 0, scale),
    "uniform": lambda x: np.full(len(x), -math.log(2 * x.max())),
    "laplace": lambda x, scale: scipy.stats.laplace.logpdf(x, 0, scale),
    "logistic": lambda x, scale: scipy.stats.logistic.logpdf(x, 0, scale),
    "generalized_normal": lambda x, scale, power: scipy.stats.gennorm.logpdf(x, power, 0, scale),
    "student_t": lambda x, scale, df: scipy.stats.t.logpdf(x, df, 0, scale),
    "log_normal": lambda x, scale, sigma: (
        scipy.stats.lognorm.logpdf(x, sigma, 0, scale) - math.log(2)
    ),
    "generalized_gamma": lambda x, scale, shape, power: (
        scipy.stats.gengamma.logpdf(x, shape / power, power, 0, scale) - math.log(2)
    ),
    "power_function": lambda x, shape: (
        math.log(shape / 2) + (shape - 1) * np.log(x / x.max()) - math.log(x.max())
    ),
    "normal_mixture": _mixture,
    "power_law": lambda x, alpha: (
        math.log((alpha - 1) / 2) - math.log(x.min()) - alpha * np.log(x / x.min())
    ),
    "truncated_power_law": lambda x, alpha: (
        -alpha * np.log(x) - _mass(alpha, math.inf, x.min(), x.max()) - math.log(2)
    ),
    "cutoff_power_law": _cutoff,
}
# Where to begin, but for a scale, which begins at the median.
STARTS = {
    "generalized_normal": [(0.2,), (1.0,), (5.0,)],
    "student_t": [(0.3,), (2.0,), (20.0,)],
    "log_normal": [(0.5,), (3.0,)],
    "generalized_gamma": [(1.0, 1.0), (1.5, 0.3), (0.9, 3.0)],
    "normal_mixture": [(3.0, 0.2), (10.0, 0.8), (30.0, 0.05)],
    "power_law": [(1.5,), (4.0,)],
    "truncated_power_law": [(0.0,), (1.5,), (4.0,)],
    "cutoff_power_law": [(-1.0, 0.3), (0.5, 1.0), (1.5, 10.0)],
}


def unbinned(law, sizes, parameters):
    """The log likelihood of single weights; a very small number where there is none."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = float(DENSITIES[law](sizes, *parameters).sum())
        except (ValueError, ArithmeticError):
            return -1e300
    return value if math.isfinite(value) else -1e300


def direct_maximum(law, sizes, more):
    """The highest log likelihood that is found from the starts of a law and from `more`."""
    links = list(LAWS[law].links.items())
    if not links:
        return unbinned(law, sizes, ())

    def parameters(free):
        to = {"log": np.exp, "logit": scipy.special.expit, "identity": float}
        with np.errstate(all="ignore"):
            return [to[link](x) for x, (_, link) in zip(free, links, strict=True)]

    starts = list(more)
    scale = np.median(sizes)
    for shapes in STARTS.get(law, [()]):
        if law == "cutoff_power_law":
            starts.append((shapes[0], shapes[1] * scale))
        else:
            starts.append((scale, *shapes) if links[0][0] == "scale" else shapes)
    back = {"log": np.log, "logit": scipy.special.logit, "identity": float}
    best = -1e300
    for start in starts:
        free = [back[link](x) for x, (_, link) in zip(start, links, strict=True)]
        found = scipy.optimize.minimize(
            lambda free: -unbinned(law, sizes, parameters(free)),
            free,
            method="Nelder-Mead",
            options={"maxiter": 150 * len(links), "xatol": 1e-5, "fatol": 1e-3},
        )
        best = max(best, -found.fun)
    return best


def drawn_samples():
    """(name, law, true parameters, sizes) over the whole range of each law's parameters."""
    for law in LAWS:
        for i in range(_PER_LAW):
            rng = np.random.default_rng([list(LAWS).index(law), i])
            sizes, truth = _draw(law, rng, int(rng.choice([300, 1_000, 2_000])))
            unit = 10 ** rng.uniform(-6, 2) / np.median(sizes)
            if any(name == "scale" for name in LAWS[law].links):
                at = list(LAWS[law].links).index("scale")
                truth = (*truth[:at], truth[at] * unit, *truth[at + 1 :])
            with np.errstate(over="ignore"):
                sizes = np.float32(sizes * unit).astype(np.float64)
            sizes = sizes[(sizes > 1e-37) & np.isfinite(sizes)]
            yield f"{law} {i}", law, truth, sizes


def _draw(law, rng, size):
    """(|w| at some scale, parameters)."""

    def between(low, high):
        return float(np.exp(rng.uniform(math.log(low), math.log(high))))

    if law == "generalized_normal":
        power = between(0.05, 30)
        return rng.gamma(1 / power, size=size) ** (1 / power), (1.0, power)
    if law == "student_t":
        df = between(0.1, 300)
        return np.abs(rng.standard_t(df, size)), (1.0, df)
    if law == "log_normal":
        sigma = between(0.05, 6)
        return rng.lognormal(0, sigma, size), (1.0, sigma)
    if law == "generalized_gamma":
        k, power = between(0.1, 20), between(0.1, 30)
        return rng.gamma(k, size=size) ** (1 / power), (1.0, k * power, power)
    if law == "normal_mixture":
        ratio, weight = between(1.5, 1000), rng.uniform(0.02, 0.98)
        wide = np.where(rng.random(size) < weight, ratio, 1)
        return np.abs(rng.standard_normal(size) * wide), (1.0, ratio, weight)
    if law == "power_law":
        alpha = 1 + between(0.05, 20)
        return np.exp(rng.exponential(1 / (alpha - 1), size)), (alpha,)
    if law == "truncated_power_law":
        alpha, length = rng.uniform(-5, 8), math.log(between(1.5, 1e5))
        z = (1 - alpha) * length
        u = rng.random(size)
        return np.exp(np.log1p(u * math.expm1(z)) / (1 - alpha)), (alpha,)
    if law == "cutoff_power_law":
        alpha, scale = rng.uniform(-4, 4), between(0.3, 1e4)  # of the smallest
        y = np.linspace(0, math.log(1 + scale * (60 + 8 * abs(alpha))), 200_001)
        density = np.exp((1 - alpha) * y - np.exp(y) / scale + 1 / scale)
        below = scipy.integrate.cumulative_simpson(density, x=y, initial=0)
        return np.exp(np.interp(rng.random(size) * below[-1], below, y)), (alpha, scale)
    one = {"uniform": rng.uniform(0, 1, size), "laplace": rng.exponential(size=size)}
    one |= {"normal": rng.standard_normal(size), "logistic": rng.logistic(size=size)}
    return np.abs(one[law]), () if law == "uniform" else (1.0,)


def row_of(name, kind, law, sizes, truth=None):
    """What our fit of a law to a sample and direct maximization come to."""
    start = time.perf_counter()
    found = likelihood.fit(sizes, law)
    seconds = time.perf_counter() - start
    estimates = {k: v for k, v in found.parameters.items() if math.isfinite(v)}
    ours = unbinned(found.limit or law, sizes, tuple(estimates.values()))
    more = [] if truth is None else [truth]
    if not found.limit:
        more.append(tuple(found.parameters.values()))
    return {
        "sample": name,
        "kind": kind,
        "law": law,
        "size": len(sizes),
        "limit": found.limit,
        "converged": found.converged,
        "estimates": estimates,
        "seconds": seconds,
        "reported": found.log_likelihood,
        "at_estimate": ours,
        "direct": direct_maximum(law, sizes, more),
    }


def gap(row):
    return row["direct"] - row["at_estimate"]


def table(rows):
    lines = [
        "| law | real layers | drawn samples | largest gap, real | drawn | above 1 nat | at a limit"
        " | not converged |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for law in LAWS:
        mine = [row for row in rows if row["law"] == law]
        parts = [[row for row in mine if row["kind"] == kind] for kind in ("real", "drawn")]
        gaps = [f"{max(map(gap, part)):.3f}" if part else "-" for part in parts]
        above = sum(gap(row) > _ENOUGH for row in mine)
        limits = sum(row["limit"] is not None for row in mine)
        lost = sum(not row["converged"] for row in mine)
        numbers = f"{len(parts[0])} | {len(parts[1])} | {gaps[0]} | {gaps[1]}"
        lines.append(f"| {law} | {numbers} | {above} | {limits} | {lost} |")
    return "\n".join(lines)


def main():
    args = common.layer_arguments(__doc__, "estimates", table)
    tasks = [
        (name, "real", law, sizes, None)
        for name, sizes in layers.thirty_layers(args.weights, _MOST)
        for law in LAWS
    ]
    tasks += [(name, "drawn", law, sizes, truth) for name, law, truth, sizes in drawn_samples()]
    rows = common.earlier_rows("estimates")
    done = {(row["sample"], row["law"]) for row in rows}
    saved = time.monotonic()
    for name, kind, law, sizes, truth in tasks:
        if (name, law) in done:
            continue
        rows.append(row_of(name, kind, law, sizes, truth))
        if time.monotonic() - saved > 30:
            common.write("estimates", {"rows": rows}, table(rows))
            saved = time.monotonic()
    common.save("estimates", {"rows": rows}, table(rows))
    common.update_document("fit.md", "estimates", table(rows))


if __name__ == "__main__":
    main()
