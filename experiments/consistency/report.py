"""Tables and pictures of the runs in runs.jsonl: python experiments/consistency/report.py

Writes results/results.json, results/*.png, and the table and the environment in README.md.
"""

import collections
import json

import numpy as np
from run import HERE, SETTINGS, STARTS, WINDOWS, read_runs
from scipy import stats

from initjax.comparison.bands import plot_bands
from initjax.support.files import strict_json, write_whole

BEGIN, END = "<!-- results: written by report.py -->", "<!-- end of results -->"


def numbers(values) -> np.ndarray:
    """What json holds as float64; null, which stands for a loss that is no number, is NaN."""
    return np.asarray(values, np.float64)


def interval(values) -> tuple[np.ndarray, np.ndarray]:
    """(mean, half width of the 95 % t interval) over the first axis."""
    values = numbers(values)
    n = len(values)
    if n < 2:
        return values.mean(0), np.full(values.shape[1:], np.nan)
    half = stats.t.ppf(0.975, n - 1) * values.std(0, ddof=1) / np.sqrt(n)
    return values.mean(0), half


def difference(cell, other, quantity) -> tuple[float, float, int]:
    """(mean, half width, n) of cell - other over the seeds that both have."""
    ours, theirs = ({r["seed"]: r[quantity] for r in runs} for runs in (cell, other))
    seeds = sorted(set(ours) & set(theirs))
    mean, half = interval([ours[s] - theirs[s] for s in seeds])
    return float(mean), float(half), len(seeds)


def shown(mean, half) -> str:
    return f"{mean:.3f} ± {half:.3f}" if np.isfinite(half) else f"{mean:.3f}"


def summarize(runs) -> list[dict]:
    """One row a cell."""
    cells = collections.defaultdict(list)
    for run in runs:
        for name in ("test_loss", "test_accuracy"):
            run[name] = float(numbers(run[name]))
        run["loss"] = numbers(run["loss"]).tolist()
        run["end_loss"] = float(np.mean(run["loss"][-WINDOWS // 5 :]))
        run["mean_loss"] = float(np.mean(run["loss"]))
        cells[run["dataset"], run["setting"], run["start"]].append(run)
    rows = []
    datasets = dict.fromkeys(run["dataset"] for run in runs)
    for dataset, setting, start in (
        (d, setting, start) for d in datasets for setting in SETTINGS for start in STARTS
    ):
        cell = cells.get((dataset, setting, start))
        if not cell:
            continue
        row = {"dataset": dataset, "setting": setting, "start": start, "n": len(cell)}
        row |= {name: cell[0][name] for name in ("learning_rate", "batch_size", "steps")}
        for name in ("mean_loss", "end_loss", "test_loss", "test_accuracy"):
            mean, half = interval([run[name] for run in cell])
            row[name] = [float(mean), float(half)]
        for name in ("gap_before", "gap_after"):
            if cell[0][name] is not None:
                row[name] = [float(x) for x in interval([run[name] for run in cell])]
        for reference in ("zeros", "N(0, 0.01^2)"):
            other = cells.get((dataset, setting, reference))
            if start == "consistency" and other:
                row[f"accuracy_over_{reference}"] = difference(cell, other, "test_accuracy")
        rows.append(row)
    return rows


def table(rows, runs) -> str:
    """Markdown."""
    lines = [
        "| data | setting | steps | start | n | loss, mean of all steps | loss, last fifth"
        " | test accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['dataset']} | {row['setting']} | {row['steps']} | {row['start']} | {row['n']}"
            f" | {shown(*row['mean_loss'])} | {shown(*row['end_loss'])}"
            f" | {shown(*row['test_accuracy'])} |"
        )
    if not any(row["dataset"].startswith("svhn") for row in rows):
        lines.append("| svhn_cropped | all | | | 0 | not run: the data could not be had here | | |")
    lines += [
        "",
        "Test accuracy of consistency less that of the other start, on the same data and seeds:",
        "",
        "| data | setting | less zeros | less N(0, 0.01^2) |",
        "|---|---|---|---|",
    ]
    for row in rows:
        if row["start"] == "consistency":
            cells = [
                "{:+.3f} ± {:.3f} (n = {})".format(*row[key]) if key in row else "not run"
                for key in ("accuracy_over_zeros", "accuracy_over_N(0, 0.01^2)")
            ]
            lines.append(f"| {row['dataset']} | {row['setting']} | {' | '.join(cells)} |")
    gaps = [row for row in rows if "gap_after" in row]
    lines += [
        "",
        "The consistency gap (mean squared 2-Wasserstein distance of the layers' channels to"
        " N(0, 1), as normal laws) on 128 held-out images, before and after the pass: "
        + "; ".join(
            f"{row['setting']} {row['gap_before'][0]:.3f} to {row['gap_after'][0]:.3f}"
            for row in gaps
        )
        + ".",
    ]
    kinds = dict.fromkeys(
        json.dumps({k: v for k, v in run["environment"].items() if k not in ("date", "command")})
        for run in runs
    )
    for kind in kinds:
        facts = json.loads(kind)
        lines += ["", ", ".join(f"{name} {value}" for name, value in facts.items()) + "."]
    seconds = sum(run["seconds"] for run in runs)
    lines[-1] += f" {len(runs)} runs took {seconds / 60:.0f} minutes on a shared machine."
    return "\n".join(lines)


def curves(runs, dataset, quantity, path, title) -> None:
    """A panel a setting, a line a start."""
    panels = {}
    for setting in SETTINGS:
        lines = {}
        for start in STARTS:
            cell = [
                run
                for run in runs
                if (run["dataset"], run["setting"], run["start"]) == (dataset, setting, start)
            ]
            if cell:
                mean, half = interval([run[quantity] for run in cell])
                images = cell[0]["steps"] * cell[0]["batch_size"]
                x = (np.arange(WINDOWS) + 0.5) * images / WINDOWS
                lines[start] = (x, mean, mean - half, mean + half)
        if lines:
            panels[setting] = lines
    plot_bands(
        panels,
        path,
        title,
        xlabel="training images seen",
        ylabels=[quantity] * len(panels),
    )


def statistics(runs, dataset, path, title) -> None:
    """A panel a layer and quantity, in the first setting."""
    setting = next(iter(SETTINGS))
    cells = {
        start: [
            run
            for run in runs
            if (run["dataset"], run["setting"], run["start"]) == (dataset, setting, start)
        ]
        for start in STARTS
    }
    cells = {start: cell for start, cell in cells.items() if cell}
    layers = list(next(iter(cells.values()))[0]["statistics"]["0"])
    panels, labels, log = {}, [], []
    for name in ("mean", "variance", "total_variance"):
        for layer in layers:
            lines = {}
            for start, cell in cells.items():
                steps = list(cell[0]["statistics"])
                values = [[run["statistics"][step][layer][name] for step in steps] for run in cell]
                if name != "mean":
                    # On a logarithmic axis: geometric means; zero has no place there.
                    values = np.log10(np.maximum(numbers(values), 1e-6))
                mean, half = interval(values)
                band = [mean, mean - half, mean + half]
                if name != "mean":
                    band = [10.0**x for x in band]
                lines[start] = ([int(step) for step in steps], *band)
            panels[f"{layer}: {name.replace('_', ' ')}"] = lines
            labels.append(name.replace("_", " "))
            log.append(name != "mean")
    plot_bands(panels, path, title, xlabel="step", ylabels=labels, log=log, columns=len(layers))


def main():
    folder = HERE / "results"
    runs = read_runs(folder / "runs.jsonl")
    if not runs:
        raise SystemExit("error: there are no runs yet: python experiments/consistency/run.py")
    rows = summarize(runs)
    write_whole(folder / "results.json", strict_json(rows, indent=1) + "\n")
    for dataset in dict.fromkeys(run["dataset"] for run in runs):
        name = f"{dataset}: mean and 95 % t interval over seeds"
        curves(runs, dataset, "loss", folder / f"{dataset}-loss.png", f"Training loss, {name}")
        curves(
            runs,
            dataset,
            "accuracy",
            folder / f"{dataset}-accuracy.png",
            f"Accuracy on each batch before its step, {name}",
        )
        statistics(
            runs,
            dataset,
            folder / f"{dataset}-statistics.png",
            f"Pre-activations through training (variances from 1e-6), {name}",
        )
    readme = HERE / "README.md"
    text = readme.read_text()
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    write_whole(readme, f"{head}{BEGIN}\n\n{table(rows, runs)}\n\n{END}{tail}")


if __name__ == "__main__":
    main()
