"""Is one side of the weights of AlexNet and ResNet18 a truncated power law? Do scales make tails?

Source: Xing, Sun, Shao & Sui, "Research on Weight Initialization Method in Deep Learning", Computer
Engineering 48(7):104-113, 2022: one side of the weight distribution of AlexNet and ResNet18,
trained on ImageNet, looks like a truncated power law in a log-log fit. Follow-up: Jiang et al.,
Neural Computing and Applications 35:22431, 2023: slopes of -0.5 to -3.5, steeper with depth,
flatter at a kernel's centre.

    python experiments/nspl/source_weights.py --weights=DIR     the .npz in a folder, each by itself
    python experiments/nspl/source_weights.py --weights=alexnet --weights=resnet18     downloaded
    python experiments/nspl/source_weights_report.py            tables and pictures of the results

Layouts are found from names and shapes. Left out, and counted:
filters and inputs whose root mean square is below 1 % of the layer's median, which training has
switched off. Every layer is asked, at each side of 0: which of eleven laws (AIC), how far from the
weights it is (the distance of Kolmogorov and Smirnov, KS), alpha of the power laws, the line in a
double-log histogram; on both sides together the laws and the tail; each beside as many Gaussian
samples. Then how much kurtosis is left after one scale per position, input and output is divided
out, beside normal weights and the same weights in random order. Writes
results/source_weights/NAME.json. The three files take seven minutes on two cores of an AMD EPYC.
"""

import math
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from initjax import weights
from initjax.fit import likelihood
from initjax.fit.analysis import compare_laws
from initjax.fit.controls import (
    gaussian_histogram,
    gaussian_log_log_counts,
    log_log_counts,
    log_log_line,
    tail,
)
from initjax.fit.factors import divide_by_scales, kurtosis
from initjax.fit.findings import to_json
from initjax.fit.histograms import histogram
from initjax.fit.tails import fit_tail
from initjax.support import command
from initjax.support.environment import describe_environment
from initjax.support.errors import UserError
from initjax.support.files import strict_json, user_path, write_whole

RESULTS = pathlib.Path(__file__).parent / "results" / "source_weights"
# Normalization is folded into the convolutions: a filter's scale is no weight's. Each filter is
# divided by its root mean square, before anything else.
FOLDED = {"resnet18_bn_folded"}
# Inputs of one index are different channels in each group of outputs.
GROUPS = {("caffenet_conv1_conv2", "conv2.weight"): 2}
DEAD = 0.01
SIDES = {"w > 0": 1, "w < 0": -1}
POWER_LAWS = ("truncated_power_law", "cutoff_power_law")
QUANTILES = (0.0, 0.5, 0.9, 0.99)  # of |w| on one side, from which on a power law is looked for
MIN_SIDE = 50
MIN_POSITION = 1000  # weights at a position, for a line
# Axes of (group, output, input, position) along which a scale differs.
FACTORS = {"position": (3,), "input": (0, 2), "output": (0, 1), "pair": (0, 1, 2)}
DIVISIONS = (
    ("position",),
    ("input",),
    ("output",),
    ("input", "output"),
    ("position", "input", "output"),
    ("pair",),  # of an input and an output: a kernel of its own, as a depthwise one is
    ("position", "pair"),
)


class Kernel(NamedTuple):
    """The weights of one layer: float32[group, output, input, position] and what was left out."""

    path: str
    shape: tuple[int, ...]
    standardized: bool
    dead_outputs: int
    dead_inputs: int
    weights: np.ndarray


def kernels(source: str) -> Iterator[Kernel]:
    """The kernels of a checkpoint, as (group, output, input, position); dense ones come last.

    An .npz is in the order of its names, where a network's `fc` stands before its `layer1`.
    """
    name = pathlib.Path(source).stem
    checkpoint = weights.read(source)
    shapes = {tensor.path: tensor.shape for tensor in checkpoint.tensors}
    for tensor in sorted(checkpoint.tensors, key=lambda tensor: len(tensor.shape) == 2):
        if len(tensor.shape) < 2 or not jnp.issubdtype(jnp.dtype(tensor.dtype), jnp.floating):
            continue
        axes = weights.find_axes(tensor, shapes)
        if axes is None:
            raise UserError(f"{tensor.path} {list(tensor.shape)}: which axes are inputs?")
        w = weights.as_kernel(tensor.load().astype(np.float32), axes)
        w = np.ascontiguousarray(w.reshape(-1, *w.shape[-2:]).T)
        w, dead_outputs, dead_inputs = live(w)
        standardized = name in FOLDED and len(tensor.shape) > 2
        if standardized:
            w = (w / root_mean_square(w, (1, 2))).astype(np.float32)
        groups = GROUPS.get((name, tensor.path), 1)
        if groups > 1 and (dead_outputs or dead_inputs):
            raise UserError(f"{tensor.path}: dead channels in {groups} groups are not told apart.")
        w = w.reshape(groups, -1, *w.shape[1:])
        yield Kernel(tensor.path, tensor.shape, standardized, dead_outputs, dead_inputs, w)


def root_mean_square(w: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.sqrt(np.square(w, dtype=np.float64).mean(axes, keepdims=True))


def live(w: np.ndarray) -> tuple[np.ndarray, int, int]:
    """(output, input, position) without dead outputs, then without dead inputs; how many each."""
    dead = []
    for axis in (0, 1):
        scale = root_mean_square(w, (1 - axis, 2)).ravel()
        alive = scale >= DEAD * np.median(scale)
        w = np.compress(alive, w, axis)
        dead.append(int((~alive).sum()))
    return w, *dead


def measure(kernel: Kernel, bootstraps: int, resamples: int, seed: int = 0) -> dict:
    """All that is asked about one layer."""
    w = kernel.weights
    counted = histogram(w)
    rng = np.random.default_rng(seed)
    found = {
        "path": kernel.path,
        "shape": kernel.shape,
        "size": w.size,
        "standardized": kernel.standardized,
        "dead_outputs": kernel.dead_outputs,
        "dead_inputs": kernel.dead_inputs,
        "kurtosis": kurtosis(w),
        **measure_laws(counted),
        "tail": to_json(tail(counted, bootstraps, seed)),
        "gaussian_tail": vars(
            fit_tail(gaussian_histogram(w.size, rng), bootstraps=bootstraps, seed=seed)
        ),
        "sides": {
            name: measure_side(sign * w, resamples, seed)
            for name, sign in SIDES.items()
            if (sign * w > 0).sum() >= MIN_SIDE
        },
        "divisions": measure_divisions(w, rng),
    }
    if centre := measure_centre(kernel):
        found["centre_slope"], found["other_slopes"] = centre
    return found


def measure_laws(counted) -> dict:
    """Eleven laws, each by AIC, KS, and how much better than the normal law it is.

    Laws are fitted to |w|: of weights of one side these are the one-sided laws (normal is
    half-normal, laplace exponential, student_t half-t, ...).
    """
    laws = compare_laws(counted)
    best = next(iter(laws.values())).aic
    return {
        "best": next(iter(laws)),
        "laws": {
            name: {
                "aic_over_best": law.aic - best,
                "ks": law.ks,
                "nats_over_normal": law.nats_over_normal,
                "parameters": law.parameters,
                "standard_errors": law.standard_errors,
            }
            for name, law in laws.items()
        },
    }


def measure_side(w: np.ndarray, resamples: int, seed: int) -> dict:
    """The weights above 0: laws, exponents from several quantiles on, the double-log histogram.

    Weights of one filter are not independent. Beside the standard errors of maximum likelihood,
    which take them so, stand those over `resamples` samples of whole filters.
    """
    above = w[w > 0]
    counted = histogram(above)
    counts = log_log_counts(counted)
    gaussian = gaussian_log_log_counts(above.size, seed=seed)
    lines = np.array([log_log_line(row) for row in gaussian])
    return {
        "size": above.size,
        **measure_laws(counted),
        "from_quantiles": [measure_from(above, q, seed) for q in QUANTILES],
        "filters_errors": filters_errors(w, resamples, seed),
        "line": log_log_line(counts)._asdict(),
        "gaussian_line": dict(zip(("slope", "intercept", "r_squared"), lines.mean(0), strict=True)),
        "gaussian_slope_sd": float(lines[:, 0].std(ddof=1)),
        "histogram": {"largest": counted.largest, "counts": counts, "gaussian": gaussian[0]},
    }


def measure_from(above: np.ndarray, quantile: float, seed: int) -> dict | None:
    """The truncated power law of the weights from a quantile on, and of Gaussian samples' likewise.

    A power law's exponent does not depend on where one cuts, and its KS is about 1.36 / sqrt(n) at
    most (95 %; less, as alpha is fitted).
    """
    if above.size * (1 - quantile) < MIN_SIDE:
        return None
    found = {"quantile": quantile}
    normal = np.abs(np.random.default_rng(seed).standard_normal(above.size, np.float32))
    for prefix, values in (("", above), ("gaussian_", normal)):
        beyond = values[values >= np.quantile(values, quantile)]
        fit = likelihood.fit(beyond, "truncated_power_law")
        found |= {
            f"{prefix}size": fit.size,
            f"{prefix}alpha": fit.parameters["alpha"],
            f"{prefix}standard_error": fit.standard_errors["alpha"],
            f"{prefix}ks": fit.ks,
        }
    return found


def filters_errors(w: np.ndarray, resamples: int, seed: int) -> dict:
    """Standard errors over samples of whole filters, drawn with replacement."""
    rng = np.random.default_rng(seed)
    filters = w.reshape(-1, w.shape[2] * w.shape[3])
    rows = []
    for _ in range(resamples):
        sample = filters[rng.integers(len(filters), size=len(filters))]
        counted = histogram(sample[sample > 0])
        alphas = (likelihood.fit(counted, law).parameters["alpha"] for law in POWER_LAWS)
        rows.append([*alphas, log_log_line(log_log_counts(counted)).slope])
    names = (*POWER_LAWS, "slope")
    return {"resamples": resamples} | dict(zip(names, np.std(rows, 0, ddof=1), strict=True))


def measure_divisions(w: np.ndarray, rng: np.random.Generator) -> dict:
    """Kurtosis after divisions by scales; of the weights, normal ones, and the weights shuffled.

    If scales explain the tails, what is left is the normal weights'; if they explain none, it is
    the shuffled weights'. `explained` is the share of the way, in the logarithm.
    """
    normal = rng.standard_normal(w.shape, np.float32)
    shuffled = rng.permutation(w.ravel()).reshape(w.shape)
    found = {}
    for names in DIVISIONS:
        if w.shape[3] == 1 and {"position", "pair"} & set(names):
            continue
        factors = [FACTORS[name] for name in names]
        divided = divide_by_scales(w, factors)
        left, of_normal, of_shuffled = (
            kurtosis(divided),
            kurtosis(divide_by_scales(normal, factors)),
            kurtosis(divide_by_scales(shuffled, factors)),
        )
        row = {"kurtosis": left, "normal": of_normal, "shuffled": of_shuffled}
        if of_shuffled > 1.05 * of_normal:  # else there are no tails to explain
            row["explained"] = math.log(of_shuffled / left) / math.log(of_shuffled / of_normal)
        if names[-1] == "output" and len(names) > 1:
            laws = measure_laws(histogram(divided))
            row["best"] = laws["best"]
            row["nats_over_normal"] = laws["laws"][laws["best"]]["nats_over_normal"]
        found[", ".join(names)] = row
    return found


def measure_centre(kernel: Kernel) -> tuple[float, float] | None:
    """Slopes of |w| at a kernel's centre, and at the other positions in the mean.

    Positions have equally many weights, so that what slopes owe to that number is the same.
    """
    positions = kernel.shape[2:]
    weights_at = np.moveaxis(kernel.weights, 3, 0).reshape(kernel.weights.shape[3], -1)
    if len(weights_at) == 1 or any(n % 2 == 0 for n in positions):
        return None
    if weights_at.shape[1] < MIN_POSITION:
        return None
    slopes = [log_log_line(log_log_counts(histogram(np.abs(v)))).slope for v in weights_at]
    centre = slopes.pop(len(slopes) // 2)
    return centre, float(np.mean(slopes))


def sources(text: str) -> list[str]:
    """What one --weights names: a folder of .npz files, or what `weights.read` reads."""
    path = user_path(text)
    files = sorted(path.glob("*.npz")) if path.is_dir() else ()
    return [str(file) for file in files] or [text]


def rounded(value):
    """Six digits are more than the standard errors leave."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    if isinstance(value, np.ndarray):
        return [int(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main() -> None:
    parser = command.Parser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--weights", action="append", required=True, help="DIR, PATH or NAME; repeatable"
    )
    parser.add_argument("--bootstraps", type=int, default=100, help="samples for a tail's p")
    parser.add_argument("--resamples", type=int, default=20, help="samples of filters")
    parser.add_argument("--out", type=user_path, default=RESULTS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for source in [source for text in args.weights for source in sources(text)]:
        name = pathlib.Path(source).stem
        layers = []
        for kernel in kernels(source):
            layers.append(measure(kernel, args.bootstraps, args.resamples))
            command.show(f"{name} {kernel.path}: {layers[-1]['best']}")
        if not layers:
            raise UserError(f"{source} holds no kernels.")
        found = {"name": name, "environment": describe_environment(), "layers": rounded(layers)}
        write_whole(args.out / f"{name}.json", strict_json(found) + "\n")


if __name__ == "__main__":
    command.run(main)
