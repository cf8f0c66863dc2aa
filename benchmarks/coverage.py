"""Do 95 % intervals cover 95 %?  python benchmarks/coverage.py

Fits 500 samples of every law of the table and counts how often the interval holds the truth; beside
truncated power laws, what `powerlaw` says of one sample of each (where it is installed: pip install
-e '.[benchmark]'). The standard error of a coverage of .95 over 500 samples is .010.
"""

import argparse
import warnings

import common
import numpy as np

from initjax.fit import likelihood


def truncated(alpha, ratio):
    """A sampler of p(x) ~ x^-alpha on [1, ratio], by inversion."""

    def draw(rng, size):
        u = rng.random(size)
        if alpha == 1:
            return ratio**u
        return (1 + u * (ratio ** (1 - alpha) - 1)) ** (1 / (1 - alpha))

    return draw


def cutoff(alpha):
    """A sampler of p(x) ~ x^-alpha e^-x: a gamma law, for alpha < 1."""
    return lambda rng, size: rng.gamma(1 - alpha, size=size)


CASES = (
    *(
        (f"truncated, ratio {ratio}", "truncated_power_law", truncated(alpha, ratio), alpha)
        for ratio in (10, 100, 1000)
        for alpha in (0.5, 1.0, 1.5, 2.0, 2.5, 3.4, 3.5)
    ),
    *(("exponential cut-off", "cutoff_power_law", cutoff(a), a) for a in (0.2, 0.5, 0.8)),
    *(
        ("Student-t", "student_t", lambda rng, size, df=df: rng.standard_t(df, size), df)
        for df in (3.0, 5.0, 8.0)
    ),
)


def coverage(law, draw, truth, size, replications, seed=0):
    """Share of samples whose interval for the law's shape holds the truth."""
    rng = np.random.default_rng(seed)
    name = "df" if law == "student_t" else "alpha"
    held = 0
    for _ in range(replications):
        low, high = likelihood.fit(draw(rng, size), law).intervals[name]
        held += low <= truth <= high
    return held / replications


def peer(draw, size):
    """What `powerlaw` finds in a sample with both ends given; None where it is not installed."""
    try:
        import powerlaw
    except ImportError:
        return None
    sample = draw(np.random.default_rng(0), size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = powerlaw.Fit(sample, xmin=sample.min(), xmax=sample.max(), verbose=False)
        return float(fit.power_law.alpha)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10_000, help="weights a sample")
    parser.add_argument("--replications", type=int, default=500)
    args = parser.parse_args()
    rows = []
    lines = ["| law | truth | ours, one sample | powerlaw, the same | coverage of 95 % |"]
    lines.append("|---|---|---|---|---|")
    for label, law, draw, truth in CASES:
        share = coverage(law, draw, truth, args.size, args.replications)
        name = "df" if law == "student_t" else "alpha"
        ours = likelihood.fit(draw(np.random.default_rng(0), args.size), law)
        theirs = peer(draw, args.size) if law == "truncated_power_law" else None
        estimate, error = ours.parameters[name], ours.standard_errors[name]
        rows.append(
            {
                "law": label,
                "truth": truth,
                "estimate": estimate,
                "standard_error": error,
                "powerlaw": theirs,
                "coverage": share,
            }
        )
        shown = "-" if theirs is None else f"{theirs:.3f}"
        lines.append(
            f"| {label} | {name} {truth} | {estimate:.3f} ({error:.3f}) | {shown} | {share:.3f} |"
        )
        print(lines[-1], flush=True)
    result = {"size": args.size, "replications": args.replications, "rows": rows}
    common.save("coverage", result, "\n".join(lines))


if __name__ == "__main__":
    main()
