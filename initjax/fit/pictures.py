"""Pictures of what was fitted to trained weights, from a fit file's content."""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.special
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from initjax.distributions.empirical import Empirical
from initjax.distributions.laws import LAWS
from initjax.fit.findings import Analysis, Findings, Layer
from initjax.support.pictures import COLORS, styled
from initjax.support.text import printable

_MAX_PANELS = 12
_MAX_TICKS = 45  # names of layers along an axis
_MAX_ALPHA = 20  # above it, exponents are drawn on a logarithmic axis
_CONTAINER = re.compile(r"([^/.]+[/.])?")
_ENDINGS = (".weight", "/kernel", "/embedding")


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


def short_names(paths: Sequence[str], most: int) -> list[str]:
    """Paths to be read: printable, and cut in front where that leaves them different."""
    names = [printable(path) for path in paths]
    cut = [name if len(name) <= most else f"...{name[3 - most :]}" for name in names]
    count = Counter(cut)
    return [short if count[short] == 1 else name for short, name in zip(cut, names, strict=True)]


def _names(layers: Sequence[Layer], most: int = 32) -> list[str]:
    """Of layers, without the containers that all of them are in, and what kernels end in."""
    paths = [layer.path for layer in layers]
    for ending in _ENDINGS:
        paths = [path.removesuffix(ending) for path in paths]
    while len(paths) > 1 and len({_CONTAINER.match(path)[0] for path in paths}) == 1:
        start = _CONTAINER.match(paths[0]).end()
        if not start:
            break
        paths = [path[start:] for path in paths]
    return short_names(paths, most)


def _set_title(axis, text: str, size: int) -> None:
    """A title that holds names from a file, in which $ and \\ mean nothing."""
    axis.set_title(text, size=size, parse_math=False)


def _plain_ticks(axis) -> None:
    """Numbers, and not powers of ten, along a logarithmic axis of less than two decades."""
    axis.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))  # more labels would touch
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.tick_params(axis="y", which="minor", labelsize=7)


def _set_layers(axis, layers: Sequence[Layer], most: int = _MAX_TICKS) -> None:
    """Layers along the horizontal axis: by name, evenly where there are too many for all."""
    shown = np.unique(np.linspace(0, len(layers) - 1, most).round().astype(int))
    names = _names(layers)
    axis.set_xticks(shown, [names[i] for i in shown], rotation=90, size=7, parse_math=False)
    axis.set_xlim(-0.7, len(layers) - 0.3)


def _legend(figure: Figure, axis, side: str) -> None:
    """Above the axes: inside there may be no room, and looking for it among 900 layers is slow."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc=f"outside upper {side}", ncols=3, fontsize=8)


def _width(layers: Sequence[Layer]) -> float:
    """Of a figure with layers along the horizontal axis, which has a title of one line."""
    return min(max(8.0, 3 + 0.2 * len(layers)), 13)


def side_ccdfs(layer: Analysis, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P(w > sizes), P(w < -sizes)) of the weights that are not 0; NaN beyond a side's last one."""
    quantiles, probabilities = np.asarray(layer.quantiles), Empirical.probabilities()
    nonzero = 1 - layer.zeros / layer.size
    above = 1 - np.interp(sizes, quantiles, probabilities)
    below = np.interp(-sizes, quantiles, probabilities)
    above = np.where(sizes >= quantiles[-1], np.nan, above)
    return above / nonzero, np.where(-sizes <= quantiles[0], np.nan, below) / nonzero


def magnitude_ccdf(layer: Analysis, sizes: np.ndarray) -> np.ndarray:
    """P(|w| > sizes) of the weights of a layer that are not 0, from its quantiles."""
    sides = np.array(side_ccdfs(layer, sizes))
    return np.where(np.isnan(sides).all(0), np.nan, np.nansum(sides, 0))


def law_ccdf(layer: Analysis, law: str, sizes: np.ndarray) -> np.ndarray:
    """P(|w| > sizes) of a law that was fitted to a layer."""
    return layer.laws[law].above(law, sizes)


@styled
def plot_ccdfs(found: Findings) -> Figure:
    """Log-log share of weights beyond |w|: weights, their sides, laws, and a normal control."""
    layers: list[Analysis] = [*_chosen(found.layers, _MAX_PANELS - 1), found.pool]
    names = [*_names(layers[:-1]), "all layers"]
    figure, axes = _grid_of(len(layers), 3.1, 2.7)
    for axis, name, layer in zip(axes, names, layers, strict=True):
        root_mean_square = math.hypot(layer.sd, layer.mean)
        largest = max(abs(layer.quantiles[0]), abs(layer.quantiles[-1]))
        sizes = np.geomspace(1e-3 * root_mean_square, largest, 300)
        x = sizes / root_mean_square
        axis.plot(x, magnitude_ccdf(layer, sizes), color=COLORS[0], linewidth=2.5, label="weights")
        for side, label, style in zip(
            side_ccdfs(layer, sizes), ("w > 0", "w < 0"), ("-", ":"), strict=True
        ):
            axis.plot(x, side, style, color=COLORS[4], linewidth=1.2, label=label)
        laws = {
            layer.best: (COLORS[1], "best law"),
            "truncated_power_law": (COLORS[3], "truncated power"),
        }
        for law, (color, label) in laws.items():
            if law in layer.laws:
                axis.plot(x, law_ccdf(layer, law, sizes), color=color, linewidth=1, label=label)
        axis.plot(x, 2 * scipy.special.ndtr(-x), "k--", linewidth=0.8, label="normal, same sd")
        axis.set(xscale="log", yscale="log", ylim=(0.3 / layer.size, 2))
        zeros = f", {layer.zeros / layer.size:.1%} zeros" if layer.zeros else ""
        law = f"{layer.best}, KS {layer.best_law.ks:.3f}"
        _set_title(axis, f"{name}\n{law}\nn = {layer.size:,}{zeros}", 8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=6)
    figure.supxlabel("|w| / root mean square", size=9)
    figure.supylabel("share of weights beyond", size=9)
    return figure


@styled
def plot_exponents(found: Findings) -> Figure:
    """Against depth: the tail's exponent with its standard error, and slopes beside controls."""
    layers = found.layers
    figure = Figure(figsize=(13, 5), layout="constrained")
    tail_axis, slope_axis = figure.subplots(1, 2)
    tails = [(i, layer.tail) for i, layer in enumerate(layers) if layer.tail]
    tails = [(i, tail) for i, tail in tails if math.isfinite(tail.alpha)]
    faint = min(1.0, (_MAX_TICKS / len(layers)) ** 0.5)  # controls, which else hide the weights
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
            alpha=faint,
            label="as many Gaussian samples (2 sd)",
        )
        likely = [(i, tail.alpha) for i, tail in tails if tail.bootstraps and tail.p > 0.1]
        if likely:
            tail_axis.plot(
                *zip(*likely, strict=True), "o", color=COLORS[2], fillstyle="none", label="p > 0.1"
            )
        if max(alpha) > _MAX_ALPHA:
            tail_axis.set_yscale("log")
            tail_axis.set_ylim(1, 1.5 * max(alpha))
            _plain_ticks(tail_axis)
        else:
            tail_axis.set_ylim(0, 1.1 * max(alpha))
    tail_axis.set(ylabel="alpha", title="exponent of the tail beyond xmin")
    numbers = [i for i, layer in enumerate(layers) if layer.slope]
    slopes = [layers[i].slope for i in numbers]
    slope_axis.plot(numbers, [s.measured for s in slopes], "o", label="weights")
    slope_axis.errorbar(
        numbers,
        [s.gaussian_mean for s in slopes],
        [2 * s.gaussian_sd for s in slopes],
        fmt="_k",
        alpha=faint,
        label="as many Gaussian samples (2 sd)",
    )
    slope_axis.set(title="slope of the log-log histogram, an unsound method")
    for axis in (tail_axis, slope_axis):
        axis.margins(y=0.15)
        _set_layers(axis, layers, _MAX_TICKS // 2)
        axis.grid(alpha=0.3)
    _legend(figure, tail_axis, "left")
    _legend(figure, slope_axis, "right")
    return figure


@styled
def plot_cutoffs(found: Findings) -> Figure:
    """The exponent against the quantile from which on it is fitted; the normal law's beside it."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    layers = found.layers
    colors = np.linspace(0, 0.85, len(layers))  # the last ones are too bright for white
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


@styled
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
    for axis, name, layer in zip(axes, _names(layers), layers, strict=True):
        scale = layer.scales.position_scale
        image = axis.imshow(scale, vmin=0, vmax=2, cmap="coolwarm")
        if scale.size <= 25:
            for (i, j), value in np.ndenumerate(scale):
                axis.text(j, i, f"{value:.2f}", ha="center", va="center", size=7)
        _set_title(axis, name, 7)
        axis.set(xticks=[], yticks=[])
    figure.colorbar(image, ax=list(axes), shrink=0.6, label="scale / kernel's")
    return figure


@styled
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
    figure = Figure(figsize=(_width(layers), 5), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(
        np.maximum(excess, 1e-5),
        aspect="auto",
        norm=LogNorm(1e-5, 3),
        cmap="magma_r",
        interpolation="nearest",
    )
    for j in range(len(layers)):
        axis.plot(j, int(np.nanargmin(excess[:, j])), ".", color=COLORS[0], markersize=4)
    axis.set_yticks(range(len(laws)), laws, size=8)
    _set_layers(axis, layers)
    axis.set_xlim(-0.5, len(layers) - 0.5)
    axis.set_title("AIC a weight above the best law's (dot: the best)", size=10)
    figure.colorbar(image, ax=axis)
    return figure


@styled
def plot_kurtosis(found: Findings) -> Figure | None:
    """Kurtosis of each layer, and with the scales of positions and channels divided out."""
    layers = [layer for layer in found.layers if layer.scales]
    if not layers:
        return None
    figure = Figure(figsize=(_width(layers), 5), layout="constrained")
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
    axis.set(ylabel="kurtosis (3: normal)", yscale="log")
    _plain_ticks(axis)
    _set_layers(axis, layers)
    axis.grid(alpha=0.3)
    _legend(figure, axis, "center")
    return figure
