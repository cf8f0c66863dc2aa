"""Pictures of what a network does to a signal."""

import math
import pathlib
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from initjax.signal.layers import Signal
from initjax.support.text import drawable

_MOST_RIDGES = 14
# Okabe and Ito's, which the colour-blind tell apart; black last.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "os^Dvx"


def plot_variance(signals: Mapping[str, "Signal"], path: pathlib.Path, title: str) -> None:
    """Variance of the pre-activations against depth: measured, by theory, and its 95 % band.

    Args:
      signals: what was measured, by initializer.
      path: the PNG to write.
      title: the network.
    """
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axis = figure.subplots()
    for i, (name, signal) in enumerate(signals.items()):
        color = _color(i)
        depth = np.arange(1, len(signal.layers) + 1)
        predicted = [layer.predicted for layer in signal.layers]
        theory, low, high = (
            np.array([_number(getattr(p, field)) for p in predicted])
            for field in ("variance", "low", "high")
        )
        axis.fill_between(depth, low, high, color=color, alpha=0.15, linewidth=0)
        axis.plot(depth, theory, "--", color=color, linewidth=1)
        variance = [_number(layer.variance) for layer in signal.layers]
        _plot(axis, depth, variance, i, len(signals), name)
    axis.plot([], [], "--", color="gray", linewidth=1, label="theory, 95 % band")
    _finish(axis, "variance of the pre-activations", figure, title, path)


def plot_gradients(signals: Mapping[str, "Signal"], path: pathlib.Path, title: str) -> None:
    """Norm of the gradient against depth, that of the output's being 1.

    Args:
      signals: what was measured, by initializer.
      path: the PNG to write.
      title: the network.
    """
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axis = figure.subplots()
    for i, (name, signal) in enumerate(signals.items()):
        depth = np.arange(1, len(signal.layers) + 1)
        norms = np.array([_number(layer.gradient_norm) for layer in signal.layers])
        _plot(axis, depth, norms, i, len(signals), name)
        theory = []
        for layer, norm in zip(signal.layers, norms, strict=True):
            predicted, measured = layer.predicted.gradient_variance, layer.gradient_variance
            ratio = predicted / measured if predicted is not None and measured else math.nan
            theory.append(norm * math.sqrt(ratio))
        axis.plot(depth, theory, "--", color=_color(i), linewidth=1)
    axis.plot([], [], "--", color="gray", linewidth=1, label="theory")
    _finish(axis, "|dL/dz| / |dL/d output|", figure, title, path, is_left=True)


def plot_histograms(
    signals: Mapping[str, "Signal"], path: pathlib.Path, title: str, reach: float
) -> None:
    """Densities of the pre-activations, a ridge a layer from the input (top) to the output.

    Args:
      signals: what was measured, by initializer.
      path: the PNG to write.
      title: the network.
      reach: to how many root mean squares the histograms reach to both sides.
    """
    columns = len(signals)
    number = max(len(signal.layers) for signal in signals.values())
    shown = sorted({round(i) for i in np.linspace(0, number - 1, min(number, _MOST_RIDGES))})
    figure = Figure(figsize=(1 + 2.6 * columns, 1.4 + 0.36 * len(shown)), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, sharex=True)[0]
    panels = [[signal.layers[i] for i in shown] for signal in signals.values()]
    every = [math.hypot(layer.mean, layer.sd) for layers in panels for layer in layers]
    # One scale for all of them shows the spread; where it spans too much, each has its own.
    common = 0 < min(every) and max(every) < math.inf and max(every) <= 10 * min(every)
    for i, (axis, name, layers) in enumerate(zip(axes, signals, panels, strict=True)):
        color = _color(i)
        sizes = [math.hypot(layer.mean, layer.sd) for layer in layers]
        for row, (layer, size) in enumerate(zip(layers, sizes, strict=True)):
            counts = np.asarray(layer.histogram, float)
            edges = np.linspace(-reach, reach, len(counts) + 1)
            total = counts.sum()
            if common:
                edges = edges * size
            density = counts / total / np.diff(edges) if total else counts
            tallest = density.max() or 1.0
            scale = 1.6 / tallest
            axis.stairs(density * scale - row, edges, baseline=-row, fill=True, color="white")
            axis.stairs(
                density * scale - row, edges, baseline=-row, fill=True, color=color, alpha=0.5
            )
            axis.stairs(density * scale - row, edges, baseline=-row, color=color, linewidth=0.8)
            axis.text(
                1.0,
                -row,
                f" {layer.sd:.2g}",
                transform=axis.get_yaxis_transform(),
                fontsize="x-small",
                va="bottom",
            )
        axis.set_yticks([-row for row in range(len(layers))])
        axis.set_yticklabels([str(i + 1) for i in shown], fontsize="x-small")
        axis.set_xlabel("z" if common else "z / root mean square", fontsize="small")
        axis.set_title(drawable(name), fontsize="small")
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
    axes[0].set_ylabel("layer")
    figure.suptitle(f"{drawable(title)}: pre-activations (at the right: sd)", fontsize="medium")
    figure.savefig(path, dpi=120)


def _color(i):
    return _COLORS[i % len(_COLORS)]


def _plot(axis, depth, values, i, number, name):
    """A line that shows where another covers it: the first is the widest, markers take turns."""
    step = max(1, len(depth) // 8)
    axis.plot(
        depth,
        values,
        color=_color(i),
        linewidth=1.2 + 2.7 * (number - 1 - i) / max(number - 1, 3),
        marker=_MARKERS[i % len(_MARKERS)],
        markevery=(i * step // number, step),
        markersize=5,
        label=drawable(name),
    )


def _label_ends(axis, is_left):
    """Names at the ends of the lines, moved apart where these are close."""
    axis.figure.draw_without_rendering()  # its limits are known only then
    to_axes = axis.transData + axis.transAxes.inverted()
    places = []
    for line in axis.get_lines():
        values = np.asarray(line.get_ydata(), float)
        values = values[np.isfinite(values)]
        if line.get_marker() in _MARKERS and len(values):
            end = values[0] if is_left else values[-1]
            places.append((float(to_axes.transform((1, end))[1]), line))
    lowest = -math.inf
    for height, line in sorted(places, key=lambda place: place[0]):
        lowest = max(height, lowest + 0.05)
        axis.text(
            -0.01 if is_left else 1.01,
            lowest,
            line.get_label(),
            color=line.get_color(),
            transform=axis.transAxes,
            ha="right" if is_left else "left",
            va="center",
            fontsize="small",
        )


def _number(value):
    """What a logarithmic axis can show."""
    return value if value is not None and 0 < value < math.inf else math.nan


def _finish(axis, label, figure, title, path, is_left=False):
    axis.set(xlabel="layer, from the input", ylabel=label, yscale="log")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
    if is_left:  # where the lines part
        axis.yaxis.tick_right()
        axis.yaxis.set_label_position("right")
    _label_ends(axis, is_left)
    theory = [line for line in axis.get_lines() if line.get_label().startswith("theory")]
    axis.legend(handles=theory, fontsize="small")
    figure.suptitle(drawable(title))
    figure.savefig(path, dpi=120)


def plot_propagation(
    panels: Mapping[str, Mapping[str, list[dict]]], path: pathlib.Path, label: str
) -> None:
    """Means over seeds with 95 % intervals against depth, beside theory.

    Args:
      panels: by title, by network, the rows of its layers: mean, low, high and theory.
      path: the PNG to write.
      label: the quantity.
    """
    figure = Figure(figsize=(5.6 * len(panels), 4.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, networks) in zip(axes, panels.items(), strict=True):
        for i, (name, rows) in enumerate(networks.items()):
            depth = np.arange(1, len(rows) + 1)
            mean, low, high, theory = (
                np.array([row[field] for row in rows])
                for field in ("mean", "low", "high", "theory")
            )
            color, marker = _color(i), _MARKERS[i % len(_MARKERS)]
            reach = np.stack([mean - np.maximum(low, mean * 1e-3), high - mean])
            axis.errorbar(
                depth,
                mean,
                reach,
                color=color,
                fmt=marker,
                markersize=4,
                fillstyle="none",
                linewidth=1,
                label=name,
            )
            axis.plot(depth, theory, color=color, linewidth=1)
        axis.set(xlabel="layer", ylabel=label, yscale="log", title=title)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="x-small")
    figure.suptitle("points: mean and 95 % interval over seeds; lines: theory", fontsize="small")
    figure.savefig(path, dpi=120)
