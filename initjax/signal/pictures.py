"""Pictures of what a network does to a signal."""

import math
import pathlib
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from initjax.signal.layers import Signal
from initjax.support.text import drawable

_MOST_RIDGES = 14


def plot_variance(signals: Mapping[str, "Signal"], path: pathlib.Path, title: str) -> None:
    """Variance of the pre-activations against depth: measured, by theory, and its 95 % band.

    Args:
      signals: what was measured, by initializer.
      path: the PNG to write.
      title: the network.
    """
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axis = figure.subplots()
    for color, (name, signal) in zip(_colors(signals), signals.items(), strict=True):
        depth = np.arange(1, len(signal.layers) + 1)
        predicted = [layer.predicted for layer in signal.layers]
        theory, low, high = (
            np.array([_number(getattr(p, field)) for p in predicted])
            for field in ("variance", "low", "high")
        )
        axis.fill_between(depth, low, high, color=color, alpha=0.15, linewidth=0)
        axis.plot(depth, theory, "--", color=color, linewidth=1)
        variance = [_number(layer.variance) for layer in signal.layers]
        axis.plot(depth, variance, color=color, marker=_marker(depth), label=drawable(name))
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
    for color, (name, signal) in zip(_colors(signals), signals.items(), strict=True):
        depth = np.arange(1, len(signal.layers) + 1)
        norms = np.array([_number(layer.gradient_norm) for layer in signal.layers])
        axis.plot(depth, norms, color=color, marker=_marker(depth), label=drawable(name))
        theory = []
        for layer, norm in zip(signal.layers, norms, strict=True):
            predicted, measured = layer.predicted.gradient_variance, layer.gradient_variance
            ratio = predicted / measured if predicted is not None and measured else math.nan
            theory.append(norm * math.sqrt(ratio))
        axis.plot(depth, theory, "--", color=color, linewidth=1)
    axis.plot([], [], "--", color="gray", linewidth=1, label="theory")
    _finish(axis, "|dL/dz| / |dL/d output|", figure, title, path)


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
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for color, axis, (name, signal) in zip(_colors(signals), axes, signals.items(), strict=True):
        layers = [signal.layers[i] for i in shown]
        sizes = [math.hypot(layer.mean, layer.sd) for layer in layers]
        usable = [size for size in sizes if 0 < size < math.inf]
        # One scale for all layers shows the spread; where it spans too much, each has its own.
        common = bool(usable) and max(usable) <= 10 * min(usable) and len(usable) == len(sizes)
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


def _colors(signals):
    return [f"C{i % 10}" for i in range(len(signals))]


def _marker(depth):
    return "." if len(depth) <= 60 else ""


def _number(value):
    """What a logarithmic axis can show."""
    return value if value is not None and 0 < value < math.inf else math.nan


def _finish(axis, label, figure, title, path):
    axis.set(xlabel="layer, from the input", ylabel=label, yscale="log")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
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
            color, marker = f"C{i % 10}", "os^Dvx"[i % 6]
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
