"""Means of several runs with their intervals."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from initjax.support.pictures import styled


@styled
def plot_bands(
    panels: Mapping[str, Mapping[str, tuple[Sequence, Sequence, Sequence, Sequence]]],
    path: pathlib.Path,
    title: str,
    *,
    xlabel: str,
    ylabels: Sequence[str],
    log: Sequence[bool] = (),
    columns: int = 3,
) -> None:
    """One panel a quantity or setting, in each a line a method with a band around it.

    Args:
      panels: {panel's title: {method: (x, mean, low, high)}}.
      path: the PNG to write.
      title: of the whole.
      xlabel: of all panels.
      ylabels: one a panel.
      log: which panels have a logarithmic axis; default: none.
      columns: panels side by side.
    """
    num_rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * min(columns, len(panels)), 3.1 * num_rows), layout="constrained")
    axes = np.ravel(figure.subplots(num_rows, min(columns, len(panels)), squeeze=False))
    for axis in axes[len(panels) :]:
        axis.remove()
    labels = dict.fromkeys(label for lines in panels.values() for label in lines)
    colors = {label: f"C{i}" for i, label in enumerate(labels)}  # the same in every panel
    for i, (name, lines) in enumerate(panels.items()):
        axis = axes[i]
        for label, (x, mean, low, high) in lines.items():
            color = colors[label]
            axis.plot(x, mean, label=label, color=color, marker="." if len(x) < 12 else "")
            axis.fill_between(x, low, high, alpha=0.2, color=color, linewidth=0)
        axis.set(title=name, xlabel=xlabel, ylabel=ylabels[i])
        if i < len(log) and log[i]:
            axis.set_yscale("log")
        else:  # the range of the means: bands of few runs can be very wide
            means = np.concatenate([np.ravel(line[1]) for line in lines.values()])
            margin = 0.15 * (np.ptp(means) or 1)
            axis.set_ylim(means.min() - margin, means.max() + margin)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize="small")
    figure.suptitle(title)
    figure.savefig(path, dpi=100)
