"""Curves of a training run."""

import pathlib
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from initjax.support.pictures import styled
from initjax.support.text import drawable


@styled
def plot_curves(rows: Sequence[dict], path: pathlib.Path, title: str) -> None:
    """Loss and accuracy of one run against the epoch, on training and test data.

    Args:
      rows: the rows of metrics.jsonl.
      path: the PNG to write.
      title: what was trained.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for axis, quantity in zip(axes, ("loss", "accuracy"), strict=True):
        for split, label in (("train", "training"), ("eval", "test")):
            values = [row[f"{split}_{quantity}"] for row in rows]
            axis.plot(epochs, values, label=label, marker="." if len(rows) < 40 else "")
        axis.set(xlabel="epoch", ylabel=quantity)
        axis.xaxis.set_major_locator(MaxNLocator(integer=epochs[-1] >= 2))
        axis.grid(alpha=0.3)
        axis.legend()
    axes[0].set_yscale("log")
    figure.suptitle(drawable(title))
    figure.savefig(path, dpi=120)
