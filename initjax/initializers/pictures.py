"""Pictures of a law of weights."""

import math
import pathlib

import numpy as np
from matplotlib.figure import Figure

from initjax.support.pictures import styled
from initjax.support.text import drawable


@styled
def plot_law(weights: np.ndarray, path: pathlib.Path, title: str) -> None:
    """Density and CCDF of weights in units of their standard deviation, beside the normal law's.

    Args:
      weights: an array of any shape.
      path: the PNG to write.
      title: the initializer's name.
    """
    values = np.asarray(weights, np.float64).ravel()
    values = values / values.std()
    figure = Figure(figsize=(7, 2.4), layout="constrained")
    density, ccdf = figure.subplots(1, 2)
    grid = np.linspace(-6, 6, 241)
    heights, _ = np.histogram(values, grid)
    heights = heights / (values.size * np.diff(grid))
    # The line shows a law of few values, whose bins are thinner than a dot.
    density.stairs(heights, grid, fill=True, alpha=0.5)
    density.stairs(heights, grid, linewidth=0.6, color="C0")
    density.plot(grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), "k--", linewidth=0.8)
    density.set(xlabel="w / sd", ylabel="density", yscale="log", ylim=(1e-5, None))
    sizes = np.sort(np.abs(values[values != 0]))
    share = np.arange(sizes.size, 0, -1) / values.size  # of all: zeros are below every size
    keep = np.unique(np.geomspace(1, sizes.size, 400).astype(int))  # denser where it is steep
    ccdf.plot(sizes[-keep], share[-keep])
    grid = np.geomspace(0.01, 6, 200)
    ccdf.plot(
        grid, [math.erfc(x / math.sqrt(2)) for x in grid], "k--", linewidth=0.8, label="normal law"
    )
    ccdf.set(xlabel="|w| / sd", ylabel="CCDF", xscale="log", yscale="log")
    ccdf.set(xlim=(0.01, 40), ylim=(1e-6, 1.5))
    ccdf.legend(fontsize="small", loc="lower left")
    for axis in (density, ccdf):
        axis.grid(alpha=0.3)
    figure.suptitle(drawable(title))
    figure.savefig(path, dpi=80)
