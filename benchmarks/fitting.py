"""Times the fits against `powerlaw` and igraph's plfit in one process: python benchmarks/fitting.py

    pip install -e '.[benchmark]'

The search for xmin at 1e5 weights, the fit of a power law with an exponential cut-off at 1e6, and
61.1 million weights (AlexNet's number) counted, fitted by all laws and searched for a tail, with
the memory that takes. The peers' fits take minutes and run once, between two halves of ours.
"""

import argparse
import os
import resource
import statistics
import time
import warnings

import common
import numpy as np

from initjax.distributions import laws
from initjax.fit import histograms, likelihood, tails


def seconds_of(function, repeats):
    """(result, seconds of each call)."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return result, times


def tail_sample(size=100_000, seed=2):
    """Uniform weights on [0, 1], and a power law of alpha 2.5 beyond for a tenth of them.

    The peers look at one side only of each step of the empirical distribution function. With this
    seed that does not move xmin; with seeds 0 and 1 it does, and alpha in its fourth and third
    digit.
    """
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(0, 1, size * 9 // 10), 1 + rng.pareto(1.5, size // 10)])


def cutoff_sample(size=1_000_000, alpha=1.5, scale=20.0, seed=0):
    """p(x) ~ x^-alpha e^(-x / scale), x >= 1: Pareto samples, kept by chance e^(-(x-1)/scale)."""
    rng = np.random.default_rng(seed)
    kept = []
    while sum(map(len, kept)) < size:
        x = 1 + rng.pareto(alpha - 1, size)
        kept.append(x[rng.random(size) < np.exp(-(x - 1) / scale)])
    return np.concatenate(kept)[:size]


def powerlaw_xmin(x):
    import powerlaw

    fit = powerlaw.Fit(x, verbose=False)
    return {"alpha": fit.power_law.alpha, "xmin": fit.power_law.xmin, "distance": fit.power_law.D}


def powerlaw_cutoff(x):
    import powerlaw

    fit = powerlaw.Fit(x, xmin=x.min(), verbose=False)
    law = fit.truncated_power_law
    return {"alpha": law.alpha, "scale": 1 / law.Lambda}


def plfit_xmin(x):
    import igraph

    # One resample for its p, the fewest that it allows: about twice the time of a search.
    fit = igraph.statistics.power_law_fit(x.tolist(), method="continuous", p_precision=0.5)
    return {"alpha": fit.alpha, "xmin": fit.xmin, "distance": fit.D}


def our_xmin(x):
    tail = tails.fit_tail(x)
    return {"alpha": tail.alpha, "xmin": tail.xmin, "distance": tail.distance}


def our_cutoff(x):
    return likelihood.fit(x, "cutoff_power_law").parameters


def side_by_side(label, ours, peers, sample, repeats):
    """Rows of one task: our median, and each peer's time with the ratio."""
    half = max(repeats // 2, 1)
    result, times = seconds_of(lambda: ours(sample), half + 1)
    times = times[1:]  # the first call imports and starts threads
    found = {}
    for name, function in peers.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name] = seconds_of(lambda f=function: f(sample), 1)
        except ImportError:
            print(f"{name} is not installed: pip install -e '.[benchmark]'")
    times += seconds_of(lambda: ours(sample), repeats - half)[1]
    median = statistics.median(times)
    rows = [{"task": label, "by": "initjax", "seconds": times, "found": _floats(result)}]
    for name, (peer_result, peer_times) in found.items():
        rows.append(
            {
                "task": label,
                "by": name,
                "seconds": peer_times,
                "found": _floats(peer_result),
                "times_slower": peer_times[0] / median,
            }
        )
    return rows


def _floats(found):
    return {key: float(value) for key, value in found.items()}


def whole_network(size, repeats):
    """Counts and fits `size` weights by every law and searches their tail.

    They are normal with scales that differ from channel to channel, as trained ones.
    """
    rng, channel = np.random.default_rng(0), 10_000
    weights = np.empty(size, np.float32)
    rng.standard_normal(size, np.float32, weights)
    for start in range(0, size, channel):
        weights[start : start + channel] *= 0.05 * rng.lognormal(0, 0.4)

    def fit_all(values):
        counted = histograms.histogram(values)
        fits = likelihood.compare(counted)
        return {"laws": len(fits), "alpha": tails.fit_tail(counted).alpha}

    fit_all(weights[:100_000])  # imports, threads
    before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    result, times = seconds_of(lambda: fit_all(weights), repeats)
    cpu = (time.process_time() - cpu) / repeats
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {
        "task": f"{len(laws.LAWS)} laws and the tail of {size:,} weights",
        "by": "initjax",
        "seconds": times,
        "found": _floats(result),
        "mebibytes": grown,
        "cpu_seconds": cpu,  # beside other programs, the seconds are theirs as well
        "load": os.getloadavg()[0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--size", type=int, default=61_100_000, help="of the whole network")
    parser.add_argument(
        "--network", action="store_true", help="that alone, as fitting-network.json: 1 minute"
    )
    args = parser.parse_args()
    rows = [whole_network(args.size, args.repeats)]
    if args.network:
        common.save("fitting-network", {"rows": rows}, table(rows))
        return
    rows += side_by_side(
        "xmin search, 1e5 weights",
        our_xmin,
        {"igraph plfit": plfit_xmin, "powerlaw": powerlaw_xmin},
        tail_sample(),
        args.repeats,
    )
    rows += side_by_side(
        "exponential cut-off, 1e6 weights",
        our_cutoff,
        {"powerlaw": powerlaw_cutoff},
        cutoff_sample(),
        args.repeats,
    )
    common.save("fitting", {"rows": rows}, table(rows))


def table(rows):
    lines = ["| task | by | seconds (median) | times slower | found |", "|---|---|---|---|---|"]
    for row in rows:
        found = ", ".join(f"{key} {value:.5g}" for key, value in row["found"].items())
        if "mebibytes" in row:
            found += f", {row['mebibytes']:.0f} MiB more memory, {row['cpu_seconds']:.2f} s of CPU"
            found += f", load {row['load']:.1f}"
        slower = f"{row['times_slower']:.0f}" if "times_slower" in row else ""
        median = statistics.median(row["seconds"])
        lines.append(f"| {row['task']} | {row['by']} | {median:.4g} | {slower} | {found} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
