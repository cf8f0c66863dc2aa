"""Tables and pictures of results/source_weights: python experiments/nspl/source_weights_report.py

Writes the tables in README.md, results/source_weights/layers.md with a row a layer, and pictures.
"""

import json
import pathlib
from collections import Counter

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from initjax.support.files import write_whole

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "source_weights"
BEGIN = "<!-- weights of the sources: written by source_weights_report.py -->"
END = "<!-- end of weights of the sources -->"
TITLES = {
    "caffenet_conv1_conv2": "CaffeNet",
    "resnet18_bn_folded": "ResNet-18",
    "resnet152_part": "ResNet-152",
}
PANELS = 4  # layers in a picture of sides, evenly in depth


def title(found: dict) -> str:
    return TITLES.get(found["name"], found["name"])


def sides_of(found: dict) -> list[dict]:
    return [side for layer in found["layers"] for side in layer["sides"].values()]


def middle(values, digits: int = 2) -> str:
    """The median, and the range in brackets."""
    values = [float(value) for value in values if value is not None]
    if not values:
        return "-"
    low, mid, high = (f"{x:.{digits}f}" for x in (min(values), np.median(values), max(values)))
    return f"{mid} ({low} to {high})"


def of(values, condition) -> str:
    """For how many of the values that exist a condition holds: "3 of 4"."""
    values = [value for value in values if value is not None]
    return f"{sum(map(condition, values))} of {len(values)}"


def counted(laws) -> str:
    return ", ".join(f"{law} {times}" for law, times in Counter(laws).most_common())


def markdown(header: str, rows: list[list]) -> str:
    lines = [f"| {header} |", "|---" * (header.count("|") + 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def alphas(sides: list[dict], law: str) -> str:
    """Of all sides, with the median standard error over resampled filters."""
    error = np.median([side["filters_errors"][law] for side in sides])
    return f"{middle(side['laws'][law]['parameters']['alpha'] for side in sides)}, {error:.3f}"


def laws_table(networks: list[dict]) -> str:
    rows = []
    for found in networks:
        sides = sides_of(found)
        truncated = [side["laws"]["truncated_power_law"] for side in sides]
        cutoff = [side["laws"]["cutoff_power_law"] for side in sides]
        rows.append(
            [
                title(found),
                f"{len(found['layers'])}, {sum(layer['size'] for layer in found['layers']):,}",
                counted(side["best"] for side in sides),
                of(sides, lambda side: side["best"] == "truncated_power_law"),
                of(truncated, lambda law: law["nats_over_normal"] > 0),
                alphas(sides, "truncated_power_law"),
                middle(law["ks"] for law in truncated),
                alphas(sides, "cutoff_power_law"),
                middle((law["ks"] for law in cutoff), 3),
                middle((side["laws"][side["best"]]["ks"] for side in sides), 3),
            ]
        )
    header = (
        "network | layers, weights | best law of a side | truncated is best"
        " | truncated beats half-normal | alpha, truncated, its standard error | KS"
        " | alpha, cut-off, its standard error | KS"
        " | KS of the best law"
    )
    return markdown(header, rows)


def is_steeper(side: dict) -> bool:
    """By more than two standard errors, of resampled filters and of Gaussian samples together."""
    error = np.hypot(side["filters_errors"]["slope"], side["gaussian_slope_sd"])
    return side["line"]["slope"] < side["gaussian_line"]["slope"] - 2 * error


def correlation(x, y) -> str:
    """Spearman's, with a 95 % interval by Fisher's z (its error 1.03 / sqrt(n - 3))."""
    n = len(x)
    if n < 6:
        return f"- (n = {n})"
    r = float(stats.spearmanr(x, y).statistic)
    half = 1.96 * 1.03 / np.sqrt(n - 3)
    low, high = np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)
    return f"{r:.2f} ({low:.2f} to {high:.2f}, n = {n})"


def lines_table(networks: list[dict]) -> str:
    rows = []
    for found in networks:
        sides = sides_of(found)
        slopes = [side["line"]["slope"] for side in sides]
        control = [side["gaussian_line"]["slope"] for side in sides]
        above = [layer["sides"]["w > 0"] for layer in found["layers"] if "w > 0" in layer["sides"]]
        depth = range(len(above))
        rows.append(
            [
                title(found),
                len(sides),
                middle(slopes),
                middle(control),
                of(sides, is_steeper),
                middle(side["line"]["r_squared"] for side in sides),
                middle(side["gaussian_line"]["r_squared"] for side in sides),
                correlation([-side["line"]["slope"] for side in above], depth),
                correlation([-side["gaussian_line"]["slope"] for side in above], depth),
                correlation(
                    [s["gaussian_line"]["slope"] - s["line"]["slope"] for s in above], depth
                ),
            ]
        )
    header = (
        "network | sides | slope | Gaussian slope | steeper than Gaussian | R² of the line"
        " | Gaussian R² | Spearman of steepness with depth | of the Gaussian steepness"
        " | of the difference"
    )
    return markdown(header, rows)


def quantiles_table(networks: list[dict]) -> str:
    rows = []
    for found in networks:
        fits = [fit for side in sides_of(found) for fit in side["from_quantiles"] if fit]
        for quantile in dict.fromkeys(fit["quantile"] for fit in fits):
            here = [fit for fit in fits if fit["quantile"] == quantile]
            rows.append(
                [
                    title(found),
                    f"{1 - quantile:.0%}",
                    middle((fit["size"] for fit in here), 0),
                    middle(fit["alpha"] for fit in here),
                    middle((fit["standard_error"] for fit in here), 3),
                    middle(fit["gaussian_alpha"] for fit in here),
                    of(here, lambda fit: fit["ks"] < 1.36 / np.sqrt(fit["size"])),
                    of(here, lambda f: f["gaussian_ks"] < 1.36 / np.sqrt(f["gaussian_size"])),
                ]
            )
    header = (
        "network | largest | weights | alpha | its standard error | Gaussian alpha"
        " | KS below 1.36 / √n | Gaussian KS below it"
    )
    return markdown(header, rows)


def tails_table(networks: list[dict]) -> str:
    rows = []
    for found in networks:
        tails = [layer["tail"] for layer in found["layers"]]
        control = [layer["gaussian_tail"] for layer in found["layers"]]
        rows.append(
            [
                title(found),
                counted(layer["best"] for layer in found["layers"]),
                of(tails, lambda tail: tail["p"] > 0.1),
                of(control, lambda tail: tail["p"] > 0.1),
                middle(tail["alpha"] for tail in tails),
                middle(tail["standard_error"] for tail in tails),
                middle(tail["alpha"] for tail in control),
                middle((100 * tail["fraction"] for tail in tails), 1),
            ]
        )
    header = (
        "network | best law, both sides | tails with p > 0.1 | Gaussian tails with p > 0.1"
        " | alpha | its standard error | Gaussian alpha | % of the weights"
    )
    return markdown(header, rows)


def divisions_table(networks: list[dict]) -> str:
    rows = []
    for found in networks:
        layers = found["layers"]
        before = middle(layer["kurtosis"] for layer in layers)
        rows.append([title(found), "nothing", len(layers), before, "3", before, "0"])
        for name in max((layer["divisions"] for layer in layers), key=len):
            here = [layer["divisions"][name] for layer in layers if name in layer["divisions"]]
            rows.append(
                [
                    title(found),
                    name,
                    len(here),
                    *(middle(d[key] for d in here) for key in ("kurtosis", "normal", "shuffled")),
                    middle(d.get("explained") for d in here),
                ]
            )
    header = (
        "network | divided by scales of | layers | kurtosis | of normal weights"
        " | of the same weights shuffled | share explained"
    )
    return markdown(header, rows)


def left_table(networks: list[dict]) -> str:
    """What law is left after the division by all scales."""
    rows = []
    for found in networks:
        left = [fullest(layer) for layer in found["layers"]]
        before = [layer["laws"][layer["best"]]["nats_over_normal"] for layer in found["layers"]]
        rows.append(
            [
                title(found),
                len(left),
                counted(d["best"] for d in left),
                middle(before, 3),
                middle((d["nats_over_normal"] for d in left), 3),
            ]
        )
    header = "network | layers | best law after it | nats per weight over normal, before | after"
    return markdown(header, rows)


def fullest(layer: dict) -> dict:
    """The division by the scales of positions, where there are several, inputs and outputs."""
    divisions = layer["divisions"]
    return divisions.get("position, input, output") or divisions["input, output"]


def centres(networks: list[dict]) -> str:
    """A sentence: the slope at the centre less that at the other positions."""
    parts = []
    for found in networks:
        layers = [layer for layer in found["layers"] if "centre_slope" in layer]
        difference = [layer["centre_slope"] - layer["other_slopes"] for layer in layers]
        n = len(difference)
        if n > 2:
            half = stats.t.ppf(0.975, n - 1) * np.std(difference, ddof=1) / np.sqrt(n)
            text = f"{np.mean(difference):+.2f} ± {half:.2f}"
        else:
            text = ", ".join(f"{x:+.2f}" for x in difference) or "-"
        parts.append(f"{title(found)} {text} (n = {n})")
    return (
        "Slope at a kernel's centre less the mean slope at its other positions, where as many"
        f" weights are (positive: flatter at the centre; n layers): {'; '.join(parts)}."
    )


def layers_page(networks: list[dict]) -> str:
    parts = [
        "# Every layer\n\nWritten by source_weights_report.py. In brackets after an alpha: its"
        " standard error by maximum likelihood, and over resampled filters; after a slope that over"
        " resampled filters, then the mean of 20 Gaussian samples of as many weights. Kurtosis is"
        " around 0; N: of normal weights, S: of the same weights shuffled, after the same division."
    ]
    for found in networks:
        rows, divided = [], []
        for layer in found["layers"]:
            shape = "x".join(map(str, layer["shape"]))
            for name, side in layer["sides"].items():
                errors = side["filters_errors"]
                cells = []
                for law in ("truncated_power_law", "cutoff_power_law"):
                    fit = side["laws"][law]
                    alpha, error = (fit[k]["alpha"] for k in ("parameters", "standard_errors"))
                    shown = "-" if error is None else f"{error:.3f}"
                    cells += [f"{alpha:.2f} ({shown}, {errors[law]:.3f})", f"{fit['ks']:.3f}"]
                line, control = side["line"], side["gaussian_line"]
                best = side["best"]
                rows.append(
                    [
                        f"{layer['path']} {shape}",
                        name,
                        f"{side['size']:,}",
                        f"{best} {side['laws'][best]['ks']:.3f}",
                        *cells,
                        f"{line['slope']:.2f} ({errors['slope']:.2f}), {control['slope']:.2f}",
                        f"{line['r_squared']:.2f}, {control['r_squared']:.2f}",
                    ]
                )
            tail = layer["tail"]
            divided.append(
                [
                    f"{layer['path']} {shape}",
                    f"{layer['size']:,}",
                    f"{layer['dead_outputs']}, {layer['dead_inputs']}",
                    layer["best"],
                    f"{tail['alpha']:.2f} ({tail['standard_error']:.2f}), {tail['size']}, "
                    f"{tail['p']:.2f}",
                    f"{layer['kurtosis']:.2f}",
                    *(
                        _division(layer["divisions"].get(name))
                        for name in ("position", "input", "output")
                    ),
                    _division(fullest(layer)),
                    _division(layer["divisions"].get("position, pair")),
                ]
            )
        parts += [
            f"## {title(found)}",
            markdown(
                "layer | side | weights | best law, KS | alpha, truncated | KS | alpha, cut-off"
                " | KS | slope, Gaussian | R², Gaussian",
                rows,
            ),
            markdown(
                "layer | weights | dead outputs, inputs | best law | tail: alpha, weights, p"
                " | kurtosis | over positions | over inputs | over outputs | over all three"
                " | over positions and pairs",
                divided,
            ),
        ]
    return "\n\n".join(parts) + "\n"


def _division(row: dict | None) -> str:
    if row is None:
        return "-"
    return f"{row['kurtosis']:.2f} (N {row['normal']:.2f}, S {row['shuffled']:.2f})"


def plot_sides(found: dict) -> Figure:
    """Double-log histograms of both sides of a few layers, the line, and the Gaussian control."""
    layers = found["layers"]
    chosen = sorted({round(x) for x in np.linspace(0, len(layers) - 1, PANELS)})
    figure = Figure(figsize=(3.6 * len(chosen), 7), layout="constrained")
    axes = figure.subplots(2, len(chosen), squeeze=False)
    for column, layer in zip(axes.T, (layers[i] for i in chosen), strict=True):
        for axis, (name, side) in zip(column, layer["sides"].items(), strict=False):
            for counts, line, color, label in (
                (side["histogram"]["gaussian"], side["gaussian_line"], "0.6", "Gaussian"),
                (side["histogram"]["counts"], side["line"], "C0", "weights"),
            ):
                counts = np.array(counts)
                used = np.flatnonzero(counts)
                x = (used + 0.5) / len(counts)
                axis.loglog(x, counts[used], ".", color=color, markersize=4)
                fitted = np.exp(line["intercept"]) * (x * len(counts)) ** line["slope"]
                axis.loglog(x, fitted, color=color, label=f"{label}: slope {line['slope']:.2f}")
            axis.set_title(f"{layer['path'].removesuffix('.weight')}, {name}", size=10)
            axis.set_title(f"n = {side['size']:,}", size=8, loc="right", y=0.93, x=0.97)
            axis.legend(fontsize=8, loc="lower left")
            axis.grid(alpha=0.3)
            axis.set_ylim(0.5)
    for axis in axes[:, 0]:
        axis.set_ylabel("weights in one of 100 bins")
    for axis in axes[-1]:
        axis.set_xlabel("|w| / the largest")
    figure.suptitle(f"{title(found)}: double-log histograms, lines, and as many Gaussian samples")
    return figure


def plot_slopes(networks: list[dict]) -> Figure:
    """Slopes against how many weights a side has."""
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axis = figure.subplots()
    control = {}
    for found in networks:
        sides = sides_of(found)
        sizes = [side["size"] for side in sides]
        errors = [2 * side["filters_errors"]["slope"] for side in sides]
        slopes = [side["line"]["slope"] for side in sides]
        axis.errorbar(sizes, slopes, errors, fmt=".", label=title(found), elinewidth=0.7)
        control |= {side["size"]: side["gaussian_line"]["slope"] for side in sides}
    sizes = sorted(control)
    axis.plot(sizes, [control[n] for n in sizes], "k-", linewidth=1, label="Gaussian samples")
    axis.axhspan(-3.5, -0.5, color="0.93", zorder=0, label="the follow-up's range")
    axis.set(xscale="log", xlabel="weights on the side", ylabel="slope of the double-log histogram")
    axis.set_title("Each side of each layer; bars: two standard errors over filters", size=10)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    return figure


def plot_kurtosis(networks: list[dict]) -> Figure:
    """Kurtosis before and after the division by scales, beside the two controls."""
    sizes = [len(found["layers"]) for found in networks]
    figure = Figure(figsize=(3 + 0.22 * sum(sizes), 4.2), layout="constrained")
    axes = figure.subplots(
        1, len(networks), sharey=True, squeeze=False, width_ratios=[max(n, 5) for n in sizes]
    )[0]
    for axis, found in zip(axes, networks, strict=True):
        layers = found["layers"]
        x = np.arange(1, len(layers) + 1)
        left = [fullest(layer) for layer in layers]
        axis.plot(x, [layer["kurtosis"] for layer in layers], "o", label="as it is")
        axis.plot(x, [d["shuffled"] for d in left], "_", color="0.5", label="divided, shuffled")
        axis.plot(x, [d["kurtosis"] for d in left], "x", color="C3", label="divided")
        axis.plot(x, [d["normal"] for d in left], "_", color="k", label="divided, normal")
        axis.set_yscale("log")
        axis.set_yticks([2, 3, 5, 10, 20, 50, 100, 200], [2, 3, 5, 10, 20, 50, 100, 200])
        axis.minorticks_off()
        axis.set_xticks([n for n in (1, 2, 5, 10, 15, 20, 25, 30) if n <= len(x)])
        axis.set_xlim(0.5, max(len(x), 5) + 0.5)
        axis.set_title(title(found), size=10)
        axis.set_xlabel("layer")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("kurtosis (3: normal)")
    axes[-1].legend(fontsize=8)
    figure.suptitle("Kurtosis, divided by one scale per position, input and output", size=11)
    return figure


def section(networks: list[dict]) -> str:
    parts = [
        "**One side, eleven laws** (two sides a layer; medians, ranges in brackets; of standard"
        " errors over resampled filters the median)",
        laws_table(networks),
        "**The double-log line of one side**",
        lines_table(networks),
        centres(networks),
        "**A truncated power law from a quantile of one side on**",
        quantiles_table(networks),
        "**Both sides: laws and tails**",
        tails_table(networks),
        "**Kurtosis after a division by scales**",
        divisions_table(networks),
        "**The law that is left** after the scales of positions, inputs and outputs",
        left_table(networks),
        "\n".join(
            f"{title(found)}: `{found['environment']['command']}`; "
            + ", ".join(f"{k} {v}" for k, v in found["environment"].items() if k != "command")
            + "; left out as dead: "
            + ", ".join(
                f"{sum(layer[key] for layer in found['layers'])} {name}"
                for key, name in (("dead_outputs", "filters"), ("dead_inputs", "inputs"))
            )
            + ".\n"
            for found in networks
        ),
    ]
    return "\n\n".join(parts)


def main() -> None:
    networks = [json.loads(file.read_text()) for file in RESULTS.glob("*.json")]
    if not networks:
        raise SystemExit("error: no results: python experiments/nspl/source_weights.py --weights=")
    order = list(TITLES)
    networks.sort(key=lambda f: (order.index(f["name"]) if f["name"] in order else 99, f["name"]))
    for found in networks:
        plot_sides(found).savefig(RESULTS / f"{found['name']}-sides.png", dpi=90)
    plot_slopes(networks).savefig(RESULTS / "slopes.png", dpi=100)
    plot_kurtosis(networks).savefig(RESULTS / "kurtosis.png", dpi=100)
    write_whole(RESULTS / "layers.md", layers_page(networks))
    readme = HERE / "README.md"
    head, _, rest = readme.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    write_whole(readme, f"{head}{BEGIN}\n\n{section(networks)}\n{END}{tail}")


if __name__ == "__main__":
    main()
