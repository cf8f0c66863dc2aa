"""Fits of 30 real layers beside powerlaw's and weightwatcher's: python benchmarks/peers_fit.py

    pip install powerlaw==2.0.0 weightwatcher==0.7.7

All get the same sizes |w|, at most 1,000 of a layer (the peers' searches take time that grows with
the square of their number): the tail that is most like a power law, and from the smallest |w| on a
log-normal law and a power law with an exponential cut-off. Errors are standard errors, from the
likelihood where a package gives them. weightwatcher's search is that of its eigenvalues, given |w|.
What was measured stays; `--table` only writes the table of docs/fit.md anew, from the json.
"""

import contextlib
import io
import math
import statistics
import time
import warnings

import common
import layers
import numpy as np

from initjax.fit import likelihood, tails

_MOST = 1_000


def _ours_tail(x):
    found = tails.fit_tail(x)
    return {"alpha": found.alpha, "xmin": found.xmin, "distance": found.distance,
            "error": found.standard_error}  # fmt: skip


def _powerlaw_tail(x):
    import powerlaw

    law = powerlaw.Fit(x, verbose=False).power_law
    return {"alpha": law.alpha, "xmin": law.xmin, "distance": law.D, "error": law.sigma}


def _weightwatcher_tail(x):
    from weightwatcher.WW_powerlaw import pl_fit

    found = pl_fit(x)
    return {"alpha": found.alpha, "xmin": found.xmin, "distance": found.D, "error": found.sigma}


def _ours_law(x, law):
    found = likelihood.fit(x, law)
    values = {name: value for name, value in found.parameters.items() if math.isfinite(value)}
    errors = {f"error of {name}": found.standard_errors[name] for name in values}
    total = found.log_likelihood + len(x) * math.log(2)  # of |w|
    return {**values, **errors, "log_likelihood": total, "limit": found.limit}


def _powerlaw_law(x, law):
    import powerlaw

    fit = powerlaw.Fit(x, xmin=x.min(), verbose=False)
    if law == "log_normal":
        found = fit.lognormal
        values = {"scale": math.exp(found.mu), "sigma": found.sigma}
    else:
        found = fit.truncated_power_law
        values = {"alpha": found.alpha, "scale": 1 / found.Lambda}
    return {**values, "log_likelihood": float(np.sum(found.loglikelihoods(x)))}


TASKS = {
    "tail": {
        "initjax": _ours_tail,
        "powerlaw": _powerlaw_tail,
        "weightwatcher": _weightwatcher_tail,
    },
    **{
        law: {
            "initjax": lambda x, law=law: _ours_law(x, law),
            "powerlaw": lambda x, law=law: _powerlaw_law(x, law),
        }
        for law in ("log_normal", "cutoff_power_law")
    },
}


def measure(function, x):
    """What a fit finds, or why it does not, and the seconds it takes."""
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            found = function(x)
    except ImportError:
        raise
    except Exception as error:  # of a peer
        found = {"failed": repr(error)}
    seconds = time.perf_counter() - start
    return {k: float(v) if isinstance(v, np.floating) else v for k, v in found.items()}, seconds


def table(rows):
    """A row a task and package: median seconds, and the distance from ours in standard errors."""
    lines = [
        "| task | by | layers | seconds (median) | times slower | alpha, or sigma: difference from"
        " initjax's, in its standard errors (median, largest) | KS or log likelihood worse than"
        " initjax's (median, largest) | standard errors | failed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task, functions in TASKS.items():
        ours = {r["layer"]: r for r in rows if r["task"] == task and r["by"] == "initjax"}
        for by in functions:
            mine = [r for r in rows if r["task"] == task and r["by"] == by]
            good = [r for r in mine if "failed" not in r["found"]]
            if not mine:
                continue
            slower = statistics.median(r["seconds"] / ours[r["layer"]]["seconds"] for r in mine)
            key, worse = ("sigma" if task == "log_normal" else "alpha"), "log_likelihood"
            error, unit = (f"error of {key}", " nats") if task != "tail" else ("error", "")
            shifts, losses = [], []
            for row in good:
                other = ours[row["layer"]]["found"]
                if key in row["found"] and other.get(error):
                    shifts.append(abs(row["found"][key] - other[key]) / other[error])
                if task == "tail":
                    losses.append(row["found"]["distance"] - other["distance"])
                else:
                    losses.append(other[worse] - row["found"][worse])
            cells = ["-", "-"]
            if by != "initjax":
                cells = [
                    f"{statistics.median(values):.3g}, {max(values):.3g}{end}"
                    for values, end in ((shifts, ""), (losses, unit))
                ]
            errors = sum(any(k.startswith("error") and math.isfinite(v or math.nan)
                             for k, v in r["found"].items()) for r in good)  # fmt: skip
            seconds = statistics.median(r["seconds"] for r in mine)
            lines.append(
                f"| {task} | {by} | {len(mine)} | {seconds:.3g} | {slower:.3g} | {cells[0]}"
                f" | {cells[1]} | {errors} of {len(mine)} | {len(mine) - len(good)} |"
            )
    return "\n".join(lines)


def main():
    args = common.layer_arguments(__doc__, "peers_fit", table)
    rows = common.earlier_rows("peers_fit")
    done = {(row["layer"], row["task"], row["by"]) for row in rows}
    warm = set()
    for name, x in layers.thirty_layers(args.weights, _MOST):
        for task, functions in TASKS.items():
            for by, function in functions.items():
                if (name, task, by) in done:
                    continue
                if function not in warm:
                    measure(function, x[:100])  # imports, and threads
                    warm.add(function)
                found, seconds = measure(function, x)
                rows.append(
                    {
                        "layer": name,
                        "size": len(x),
                        "task": task,
                        "by": by,
                        "found": found,
                        "seconds": seconds,
                    }
                )
        common.write("peers_fit", {"rows": rows}, table(rows))
    common.save("peers_fit", {"rows": rows}, table(rows))
    common.update_document("fit.md", "peers_fit", table(rows))


if __name__ == "__main__":
    main()
