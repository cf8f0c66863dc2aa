"""How much of a heavy tail is unequal scales of kernel positions and channels."""

import math
from collections.abc import Sequence

import numpy as np

from initjax.fit import likelihood
from initjax.fit.findings import Exponent, Position, Scales
from initjax.fit.histograms import histogram
from initjax.fit.likelihood import MIN_SIZE

MIN_POSITION_SIZE = 100  # fewer weights at a kernel position are not fitted
_BLOCK = 1 << 22  # weights squared at a time


def scales(kernel: np.ndarray) -> Scales | None:
    """How much of a heavy tail is a mixture of positions and output channels of other scales.

    Args:
      kernel: (..., in, out), the axes before being kernel positions.

    Returns:
      `Scales`; None for fewer than two axes, and where all squares are 0.
    """
    if kernel.ndim < 2:
        return None
    positions, outputs = kernel.shape[:-2], kernel.shape[-1]
    flat = kernel.reshape(math.prod(positions), -1, outputs)
    second, fourth = np.zeros((2, len(flat), outputs))
    step = max(_BLOCK // (len(flat) * outputs), 1)
    for start in range(0, flat.shape[1], step):
        square = np.square(flat[:, start : start + step].astype(np.float64))
        second += square.sum(1)
        fourth += np.square(square).sum(1)
    second, fourth = second / flat.shape[1], fourth / flat.shape[1]
    if not second.any():
        return None
    second, fourth = second / second.mean(), fourth / second.mean() ** 2
    unit = np.ones_like(second)
    position = np.broadcast_to(_positive(second.mean(1, keepdims=True)), second.shape)
    channel = np.broadcast_to(_positive(second.mean(0, keepdims=True)), second.shape)
    both = channel
    for _ in range(10):  # variances of positions times those of channels, fitted in turns
        of_position = _positive((second / both).mean(1, keepdims=True))
        of_channel = _positive((second / of_position).mean(0, keepdims=True))
        both = of_channel
    both = of_position * of_channel

    def kurtosis(variance):
        return float((fourth / variance**2).mean() / (second / variance).mean() ** 2)

    per_channel = len(flat) * flat.shape[1]
    return Scales(
        position_scale=np.sqrt(position[:, 0]).reshape(positions),
        position_spread=float(0.5 * np.log(position[:, 0]).std()),
        channel_spread=float(0.5 * np.log(channel[0]).std()),
        kurtosis=kurtosis(unit),
        kurtosis_without_position=kurtosis(position),
        kurtosis_without_channel=kurtosis(channel),
        kurtosis_without_both=kurtosis(both),
        normal_floor=3 * per_channel / (per_channel + 2),
    )


def _positive(variance):
    """Scales of channels that are all 0 are 1: there is nothing to divide."""
    return np.where(variance > 0, variance, 1.0)


def position_fits(kernel: np.ndarray, laws: Sequence[str]) -> tuple[Position, ...]:
    """The best law, the exponent and the scale at every kernel position of a convolution."""
    positions = kernel.shape[:-2]
    if math.prod(positions) < 2 or math.prod(kernel.shape[-2:]) < MIN_POSITION_SIZE:
        return ()
    rows = []
    for index in np.ndindex(positions):
        counted = histogram(kernel[index])
        if len(counted.magnitudes.counts) < MIN_SIZE:
            continue
        found = {fit.law: fit for fit in likelihood.compare(counted, laws)}
        _, variance, _, kurtosis = counted.moments
        exponents = {
            law: Exponent(found[law].parameters["alpha"], found[law].standard_errors["alpha"])
            for law in ("truncated_power_law", "cutoff_power_law")
            if law in found
        }
        best = next(iter(found))
        rows.append(Position(index, math.sqrt(variance), kurtosis, best, **exponents))
    return tuple(rows)
