"""What scaling of the weights does to a signal on its way through untrained networks.

    python experiments/signal_propagation/run.py

The source is the usual tutorial on weight initialization: variance through stacks of matrix
products without scaling, and with that of LeCun (1998), Glorot & Bengio (2010, "Xavier") and He et
al. (2015); and the point of Yang & Schoenholz (2017, arXiv:1712.08969) that none of these is right
for residual networks, whose weights must depend on depth. The tutorial gives pictures and words, no
numbers; README.md sets its claims beside what is found.

Writes results.json, propagation.png, residual.png and README.md (tables with n, standard errors,
95 % intervals, hardware, time) beside this file. Plain networks: width 512 (the unequal ones 512 in
the first six layers and 256 in the last four), 256 inputs, 50 seeds. Residual networks: width 1024,
20 branches, 64 inputs, 16 seeds. Two CPU cores need some two minutes when they do nothing else;
README.md has the time of the run that it shows.
"""

import argparse
import math
import pathlib
import time

import networks
from networks import Plain, Residual

from initjax.signal.pictures import plot_propagation
from initjax.support.environment import describe_environment
from initjax.support.files import strict_json, write_whole

HERE = pathlib.Path(__file__).resolve().parent
WIDTH, SEEDS, INPUTS = 512, 50, 256
RESIDUAL_WIDTH, RESIDUAL_LAYERS, RESIDUAL_SEEDS, RESIDUAL_INPUTS = 1024, 20, 16, 64
# Tables show these layers; results.json holds all.
SHOWN = (1, 2, 4, 6, 7, 10, 20, 50)


def plain_networks(width: int) -> dict[str, list[Plain]]:
    """The plain networks, by section."""

    def equal(layers):
        return (width,) * (layers + 1)

    unequal = (width,) * 7 + (width // 2,) * 4
    return {
        "Matrix products": [Plain(w, "linear", equal(10)) for w in ("N(0, 1)", "LeCun")],
        "Small weights": [
            Plain("N(0, 0.01^2)", activation, equal(10))
            for activation in ("linear", "tanh", "relu")
        ],
        "Xavier, equal widths": [
            Plain("Xavier", activation, equal(10)) for activation in ("linear", "tanh", "relu")
        ],
        "Xavier, unequal widths": [
            Plain("Xavier", activation, unequal) for activation in ("linear", "tanh", "relu")
        ],
        "He": [Plain("He", "relu", equal(layers)) for layers in (10, 50)],
        "Xavier where He is meant": [Plain("Xavier", "relu", equal(50))],
    }


def residual_networks(num_layers: int) -> list[Residual]:
    """The residual networks."""
    return [
        Residual("ReLU, W and V Xavier (sw^2 = sv^2 = 1)", "relu", 1.0, 1.0),
        Residual("ReLU, W and V He (sw^2 = sv^2 = 2)", "relu", 2.0, 2.0),
        Residual("ReLU, sv^2 = 1/L", "relu", 1.0, 1.0 / num_layers),
        Residual("tanh, W and V Xavier", "tanh", 1.0, 1.0),
        Residual("tanh, sv^2 = 1/L", "tanh", 1.0, 1.0 / num_layers),
        Residual("tanh, reduced, W Xavier", "tanh", 1.0, None),
    ]


def run_plain(width: int, num_seeds: int, num_inputs: int) -> list[dict]:
    """Measures and predicts every plain network."""
    found = []
    for section, group in plain_networks(width).items():
        for network in group:
            start = time.perf_counter()
            values = networks.measure_plain(network, num_seeds, num_inputs, seed=len(found))
            theory = networks.predict_plain(network)
            found.append(
                {
                    "section": section,
                    "weights": network.weights,
                    "activation": network.activation,
                    "widths": network.widths,
                    "seconds": time.perf_counter() - start,
                }
                | {
                    name: networks.summarize(values[..., i], theory[:, i])
                    for i, name in enumerate(networks.STATISTICS)
                }
            )
            print(f"{section}: {network.weights}, {network.activation}", flush=True)
    return found


def run_residual(num_layers: int, width: int, num_seeds: int, num_inputs: int) -> list[dict]:
    """Measures and predicts every residual network."""
    group = residual_networks(num_layers)
    values = networks.measure_residual(group, num_layers, width, num_seeds, num_inputs, seed=1000)
    print("residual networks", flush=True)
    return [
        {"name": network.name, "width": width, "num_layers": num_layers}
        | {"stream": networks.summarize(value, networks.predict_residual(network, num_layers))}
        for network, value in zip(group, values, strict=True)
    ]


def table(title: str, rows: list[tuple[str, list[dict]]]) -> str:
    """One line a network and shown layer."""
    lines = [
        f"| {title} | layer | mean | SE | 95 % interval | theory | (mean - theory) / SE |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, layers in rows:
        for row in layers:
            if row["layer"] in SHOWN or row["layer"] == len(layers):
                lines.append(
                    f"| {name} | {row['layer']} | {row['mean']:.4g} | {row['standard_error']:.2g}"
                    f" | {row['low']:.4g} to {row['high']:.4g} | {row['theory']:.4g}"
                    f" | {row['z']:+.1f} |"
                )
    return "\n".join(lines)


def at(results: list[dict], section: str, activation: str, layers: int) -> dict:
    """The plain network of a section."""
    return next(
        r
        for r in results
        if (r["section"], r["activation"], len(r["widths"]) - 1) == (section, activation, layers)
    )


def interval(row: dict) -> str:
    """Mean and interval of one layer."""
    return f"{row['mean']:.3g} (95 % {row['low']:.3g} to {row['high']:.3g})"


def relative_sd(row: dict) -> float:
    """Standard deviation over seeds / mean."""
    return row["standard_error"] * row["n"] ** 0.5 / row["mean"]


def findings(plain: list[dict], residual: list[dict]) -> str:
    """The source's claims beside what was measured; numbers, not verdicts from memory."""

    def variance(section, activation, layer, layers=10):
        return at(plain, section, activation, layers)["variance"][layer - 1]

    unscaled = next(r for r in plain if r["weights"] == "N(0, 1)")["variance"]
    lecun = next(r for r in plain if r["weights"] == "LeCun")["variance"]
    he = at(plain, "He", "relu", 50)
    shift = he["output_mean"]
    deep = at(plain, "Xavier where He is meant", "relu", 50)["variance"][-1]
    equal, unequal = "Xavier, equal widths", "Xavier, unequal widths"
    xavier, he_stream, by_depth = (residual[i]["stream"][-1] for i in range(3))
    rows = [
        (
            "Without scaling the signal of plain matrix products explodes by the second layer.",
            f"Variance {interval(unscaled[0])} after one layer and {interval(unscaled[1])} after"
            f" two: a factor {unscaled[0]['theory']:.0f}, the width, a layer;"
            f" {unscaled[-1]['mean']:.1e} after ten.",
        ),
        (
            "LeCun's scaling keeps the variance of matrix products.",
            f"{interval(lecun[-1])} after ten layers. Kept on average over seeds; one network's"
            f" wanders, with a relative sd of"
            f" {relative_sd(lecun[-1]):.2f}.",
        ),
        (
            "Weights from N(0, 0.01^2) make the signal vanish with depth.",
            f"Variance {variance('Small weights', 'linear', 10)['mean']:.1e} (linear),"
            f" {variance('Small weights', 'tanh', 10)['mean']:.1e} (tanh),"
            f" {variance('Small weights', 'relu', 10)['mean']:.1e} (ReLU) after ten layers.",
        ),
        (
            "Xavier keeps the variance, with equal widths as with unequal ones.",
            f"Linear layers: {interval(variance(equal, 'linear', 10))} with equal widths; with"
            f" unequal ones {interval(variance(unequal, 'linear', 6))} after layer 6, then"
            f" {interval(variance(unequal, 'linear', 7))} after layer 7, where the width halves:"
            " there 2 / (fan_in + fan_out) is a compromise, fan_in Var(w) = 4/3, and the variance"
            " grows by a third, once.",
        ),
        (
            "Xavier suits tanh.",
            f"Only for few layers: {interval(variance(equal, 'tanh', 10))} after ten of equal"
            f" width, {interval(variance(unequal, 'tanh', 10))} of unequal. tanh takes some off in"
            " every layer, as theory says: its gain is 1.59, not 1. The decay is algebraic, not"
            " exponential.",
        ),
        (
            "Xavier does not suit ReLU.",
            f"It halves the variance each layer: {interval(variance(equal, 'relu', 10))} after ten"
            f" (2^-9 = {2**-9:.3g}), {deep['mean']:.1e} after fifty.",
        ),
        (
            "He keeps the variance of ReLU layers, at 10 and at 50 of them.",
            f"{interval(variance('He', 'relu', 10))} after ten (theory 2),"
            f" {interval(he['variance'][-1])} after fifty: kept on average over seeds, while single"
            " networks spread with depth (relative sd"
            f" {relative_sd(he['variance'][-1]):.2f} at layer 50).",
        ),
        (
            "He's rule shifts the mean of the activations.",
            f"Mean of phi(z) {interval(shift[0])} in layer 1 and {interval(shift[9])} in layer 10;"
            f" theory at this width {shift[0]['theory']:.4f} and {shift[9]['theory']:.4f}, and"
            f" {shift[-1]['theory']:.4f} in layer 50; sqrt(1/pi) = {(1 / math.pi) ** 0.5:.4f} at an"
            " infinite one. The shift does not add up: it is that of one layer in every layer,"
            " because the next weights have mean 0.",
        ),
        (
            "Neither Xavier nor He is right for residual networks; the variance must depend on"
            " depth.",
            f"Mean square of the stream after {residual[0]['num_layers']} branches, from 1:"
            f" {interval(xavier)} with Xavier (theory 1.5^20 = {xavier['theory']:.0f}),"
            f" {interval(he_stream)} with He (theory {he_stream['theory']:.3g}),"
            f" {interval(by_depth)} with sv^2 = 1/L (theory {by_depth['theory']:.4f}).",
        ),
    ]
    lines = ["| claim of the source | found here |", "|---|---|"]
    return "\n".join(lines + [f"| {claim} | {finding} |" for claim, finding in rows])


def agreement(plain: list[dict], residual: list[dict]) -> str:
    """How many layers lie within 3 standard errors of theory, and which do not."""
    lines = []
    groups = {
        "residual networks": [(r["name"], r["stream"]) for r in residual],
        "plain networks": [(f"{r['section']}, {r['activation']}", r["variance"]) for r in plain],
    }
    for title, rows in groups.items():
        layers = [(name, row) for name, group in rows for row in group]
        outside = [(name, row) for name, row in layers if abs(row["z"]) > 3]
        inside = len(layers) - len(outside)
        text = f"{title}: {inside} of {len(layers)} layers within 3 SE of theory"
        if outside:
            shown = "; ".join(f"{n}, layer {r['layer']} ({r['z']:+.1f} SE)" for n, r in outside[:6])
            text += f". Outside: {shown}" + ("; ..." if len(outside) > 6 else "")
        lines.append(f"- {text}.")
    return "\n".join(lines)


def readme(results: dict) -> str:
    """The README of this experiment."""
    plain, residual = results["plain"], results["residual"]
    environment = "\n".join(f"- {key}: {value}" for key, value in results["environment"].items())
    sections: dict[str, list] = {}
    for r in plain:
        depth = len(r["widths"]) - 1
        sections.setdefault(r["section"], []).append((f"{r['activation']}, {depth} layers", r))
    tables = []
    for section, rows in sections.items():
        tables.append(f"### {section}: variance of z\n")
        tables.append(
            table("network", [(f"{r['weights']}, {n}", r["variance"]) for n, r in rows]) + "\n"
        )
        if section == "He":
            tables.append("### He: mean of the activations\n")
            tables.append(table("network", [(n, r["output_mean"]) for n, r in rows]) + "\n")
    tables.append("### Residual networks: mean square of the stream\n")
    tables.append(table("network", [(r["name"], r["stream"]) for r in residual]))
    n_plain, n_residual = plain[0]["variance"][0]["n"], residual[0]["stream"][0]["n"]
    return f"""# Signal propagation

{__doc__.split("Writes ")[0].strip()}

{environment}
- time: {results["seconds"]:.0f} s, of the processor {results["processor_seconds"]:.0f} s
- n: {n_plain} seeds (plain), {n_residual} seeds (residual); every seed draws inputs and weights
  anew. Residual networks of one seed share their inputs and, scaled, their weights.

![Plain networks](propagation.png)
![Residual networks](residual.png)

## Claims and findings

{findings(plain, residual)}

Mean over seeds; 95 % intervals by Student's t over seeds.

## Agreement with theory

{agreement(plain, residual)}

Theory is that of infinitely wide layers. It is exact in the mean square for linear and ReLU layers
of any width, and the mean of ReLU's activations is that of the width at hand; for tanh a width N
leaves an error of order 1/N, which enough seeds make visible. Layers of one network are not
independent: a network that is above theory in one layer is so in the next. The variance of a deep
ReLU network is a product of many random factors, so its law over seeds is skewed (near log-normal):
its mean hangs on few seeds, and intervals by Student's t are too short there.

## Tables

{chr(10).join(tables)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    start, processor = time.perf_counter(), time.process_time()
    plain = run_plain(WIDTH, SEEDS, INPUTS)
    residual = run_residual(RESIDUAL_LAYERS, RESIDUAL_WIDTH, RESIDUAL_SEEDS, RESIDUAL_INPUTS)
    results = {
        "environment": describe_environment(),
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - processor,
        "inputs": {"plain": INPUTS, "residual": RESIDUAL_INPUTS},
        "plain": plain,
        "residual": residual,
    }
    write_whole(HERE / "results.json", strict_json(results, indent=1) + "\n")
    draw(results)
    write_whole(HERE / "README.md", readme(results))
    print(f"{results['seconds']:.0f} s; wrote README.md, results.json and pictures in {HERE.name}/")


def draw(results: dict) -> None:
    """propagation.png and residual.png."""
    panels: dict[str, dict[str, list[dict]]] = {}
    for r in results["plain"]:
        if len(r["widths"]) > 11:
            panel = "50 layers"
        elif r["weights"] in ("Xavier", "He"):
            panel = "Xavier and He, 10 layers"
        else:
            panel = "others, 10 layers"
        widths = ", unequal widths" if len(set(r["widths"])) > 1 else ""
        panels.setdefault(panel, {})[f"{r['weights']}, {r['activation']}{widths}"] = r["variance"]
    plot_propagation(panels, HERE / "propagation.png", "variance of z")
    streams = {r["name"]: r["stream"] for r in results["residual"]}
    panels = {
        name: {key: rows for key, rows in streams.items() if key.startswith(name)}
        for name in ("ReLU", "tanh")
    }
    plot_propagation(panels, HERE / "residual.png", "mean square of the residual stream")


if __name__ == "__main__":
    main()
