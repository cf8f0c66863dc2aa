"""Pictures of what was fitted to trained weights, from a fit file's content."""

import math
from collections.abc import Sequence

import numpy as np
import scipy.special
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from initjax.distributions.empirical import Empirical
from initjax.distributions.laws import LAWS
from initjax.fit.findings import Analysis, Findings, Layer
from initjax.support.text import printable

_MAX_PANELS = 12


def _chosen(layers: Sequence[Layer], most: int = _MAX_PANELS) -> list[Layer]:
    """At most `most` layers, evenly in depth."""
    if len(layers) <= most:
        return list(layers)
    return [layers[i] for i in np.linspace(0, len(layers) - 1, most).round().astype(int)]


def _grid_of(number: int, width: float, height: float):
    columns = min(number, 4)
    rows = math.ceil(number / columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis in axes[number:]:
        axis.set_axis_off()
    return figure, axes[:number]


def _short(path: str, most: int = 30) -> str:
    """The path without what all kernels' end in, shortened in front."""
    path = path.removesuffix(".weight").removesuffix("/kernel")
    return path if len(path) <= most else "..." + path[3 - most :]


def _set_title(axis, text: str, size: int) -> None:
    """A title that holds names from a file, in which $ and \\ mean nothing."""
    axis.set_title(printable(text, keep="\n"), size=size, parse_math=False)


def magnitude_ccdf(layer: Analysis, sizes: np.ndarray) -> np.ndarray:
    """P(|w| > sizes) of a layer, from its quantiles."""
    quantiles, probabilities = np.asarray(layer.quantiles), Empirical.probabilities()
    above = 1 - np.interp(sizes, quantiles, probabilities)
    below = np.interp(-sizes, quantiles, probabilities)
    outside = sizes >= max(abs(quantiles[0]), abs(quantiles[-1]))
    return np.where(outside, np.nan, above + below)


def law_ccdf(layer: Analysis, law: str, sizes: np.ndarray) -> np.ndarray:
    """P(|w| > sizes) of a law that was fitted to a layer."""
    return layer.laws[law].above(law, sizes)


def plot_ccdfs(found: Findings) -> Figure:
    """Log-log share of weights beyond |w|: weights, best law, sharp power law, normal control."""
    layers = [(layer.path, layer) for layer in _chosen(found.layers, _MAX_PANELS - 1)]
    layers.append(("all layers", found.pool))
    figure, axes = _grid_of(len(layers), 3.1, 2.5)
    for axis, (path, layer) in zip(axes, layers, strict=True):
        root_mean_square = math.hypot(layer.sd, layer.mean)
        largest = max(abs(layer.quantiles[0]), abs(layer.quantiles[-1]))
        sizes = np.geomspace(1e-3 * root_mean_square, largest, 300)
        x = sizes / root_mean_square
        axis.plot(x, magnitude_ccdf(layer, sizes), color="C0", linewidth=2.5, label="weights")
        laws = {layer.best: ("C1", "best law"), "truncated_power_law": ("C3", "truncated power")}
        for law, (color, label) in laws.items():
            if law in layer.laws:
                axis.plot(x, law_ccdf(layer, law, sizes), color=color, linewidth=1, label=label)
        axis.plot(x, 2 * scipy.special.ndtr(-x), "k--", linewidth=0.8, label="normal, same sd")
        axis.set(xscale="log", yscale="log", ylim=(0.3 / layer.size, 2))
        _set_title(axis, f"{_short(path)}\n{layer.best}, n = {layer.size:,}", 8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.supxlabel("|w| / root mean square", size=9)
    figure.supylabel("share of weights beyond", size=9)
    return figure


def plot_exponents(found: Findings) -> Figure:
    """Against depth: the tail's exponent with its standard error, and slopes beside controls."""
    layers = found.layers
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    tail_axis, slope_axis = figure.subplots(1, 2)
    tails = [(i, layer.tail) for i, layer in enumerate(layers) if layer.tail]
    if tails:
        depth = [i for i, _ in tails]
        alpha = [tail.alpha for _, tail in tails]
        error = [1.96 * tail.standard_error for _, tail in tails]
        tail_axis.errorbar(depth, alpha, error, fmt=".", linewidth=1, label="95 % interval")
        tail_axis.errorbar(
            depth,
            [tail.gaussian_mean for _, tail in tails],
            [2 * tail.gaussian_sd for _, tail in tails],
            fmt="_k",
            linewidth=0.8,
            label="as many Gaussian samples (2 sd)",
        )
        likely = [(i, tail.alpha) for i, tail in tails if tail.bootstraps and tail.p > 0.1]
        if likely:
            tail_axis.plot(
                *zip(*likely, strict=True), "o", color="C2", fillstyle="none", label="p > 0.1"
            )
        tail_axis.set_ylim(0, min(max(alpha) * 1.1, 20))
        tail_axis.legend(fontsize=8)
    tail_axis.set(xlabel="layer", ylabel="alpha", title="exponent of the tail beyond xmin")
    numbers = [i for i, layer in enumerate(layers) if layer.slope]
    slopes = [layers[i].slope for i in numbers]
    slope_axis.plot(numbers, [s.measured for s in slopes], "o", label="weights")
    slope_axis.errorbar(
        numbers,
        [s.gaussian_mean for s in slopes],
        [2 * s.gaussian_sd for s in slopes],
        fmt="_k",
        label="as many Gaussian samples (2 sd)",
    )
    slope_axis.set(xlabel="layer", title="slope of the log-log histogram, an unsound method")
    slope_axis.legend(fontsize=8)
    for axis in (tail_axis, slope_axis):
        axis.grid(alpha=0.3)
    return figure


def plot_cutoffs(found: Findings) -> Figure:
    """The exponent against the quantile from which on it is fitted; the normal law's beside it."""
    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axis = figure.subplots()
    layers = found.layers
    colors = np.linspace(0, 1, len(layers))
    control: dict[float, float] = {}
    for layer, color in zip(layers, colors, strict=True):
        rows = layer.cutoffs
        beyond = [1 - row.quantile for row in rows]
        axis.plot(
            beyond, [row.alpha for row in rows], color=colormaps["viridis"](color), linewidth=0.8
        )
        control |= {1 - row.quantile: row.gaussian_alpha for row in rows}
    share = sorted(control, reverse=True)
    axis.plot(share, [control[s] for s in share], "k--", label="normal law")
    axis.set(xscale="log", yscale="log", xlabel="share of weights beyond xmin", ylabel="alpha")
    axis.set_title("a power law's exponent would not depend on where one cuts", size=10)
    axis.invert_xaxis()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def plot_radial(found: Findings) -> Figure | None:
    """Root mean square weight at each kernel position, over the kernel's; None without any."""
    layers = [
        layer
        for layer in found.layers
        if layer.scales and layer.scales.position_scale.ndim == 2
        if layer.scales.position_scale.size > 1
    ]
    if not layers:
        return None
    layers = _chosen(layers)
    figure, axes = _grid_of(len(layers), 2.2, 2.3)
    for axis, layer in zip(axes, layers, strict=True):
        scale = layer.scales.position_scale
        image = axis.imshow(scale, vmin=0, vmax=2, cmap="coolwarm")
        if scale.size <= 25:
            for (i, j), value in np.ndenumerate(scale):
                axis.text(j, i, f"{value:.2f}", ha="center", va="center", size=7)
        _set_title(axis, _short(layer.path), 7)
        axis.set(xticks=[], yticks=[])
    figure.colorbar(image, ax=list(axes), shrink=0.6, label="scale / kernel's")
    return figure


def plot_aic(found: Findings) -> Figure:
    """How much worse than the best law each law is, in AIC a weight, by layer."""
    layers = found.layers
    laws = list(LAWS)
    excess = np.full((len(laws), len(layers)), np.nan)
    for j, layer in enumerate(layers):
        best = min(fit.aic for fit in layer.laws.values())
        for i, law in enumerate(laws):
            if law in layer.laws:
                excess[i, j] = (layer.laws[law].aic - best) / layer.size
    figure = Figure(figsize=(min(3 + 0.16 * len(layers), 12), 3.6), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(
        np.maximum(excess, 1e-5),
        aspect="auto",
        norm=LogNorm(1e-5, 3),
        cmap="magma_r",
        interpolation="nearest",
    )
    for j in range(len(layers)):
        axis.plot(j, int(np.nanargmin(excess[:, j])), ".", color="C0", markersize=4)
    axis.set_yticks(range(len(laws)), laws, size=8)
    axis.set(xlabel="layer", title="AIC a weight above the best law's (dot: the best)")
    figure.colorbar(image, ax=axis)
    return figure


def plot_kurtosis(found: Findings) -> Figure | None:
    """Kurtosis of each layer, and with the scales of positions and channels divided out."""
    layers = [layer for layer in found.layers if layer.scales]
    if not layers:
        return None
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    axis = figure.subplots()
    for name, label, style in (
        ("kurtosis", "as it is", "o"),
        ("kurtosis_without_position", "positions' scales divided out", "1"),
        ("kurtosis_without_channel", "channels' scales divided out", "2"),
        ("kurtosis_without_both", "both divided out", "x"),
        ("normal_floor", "normal weights, channels' scales divided out", "_k"),
    ):
        axis.plot([getattr(layer.scales, name) for layer in layers], style, label=label)
    axis.axhline(3, color="k", linewidth=0.8, linestyle="--")
    axis.set(xlabel="layer", ylabel="kurtosis (3: normal)", yscale="log")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure
