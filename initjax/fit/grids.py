"""Are weights on a grid? Rounding steps, few sizes, pruning: where |w| cannot be.

Weights that were rounded to 0, or pruned, say nothing of a law's shape there; and what was rounded
to a size lay anywhere nearer to it than to its neighbours. Laws are fitted to that.
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal, NamedTuple

import ml_dtypes
import numpy as np

MOST_SIZES = 4096  # more are not counted one by one
_REPEATED = 4  # weights a size, at least, for sizes to be few
_MOST_STEPS = 2**15
_CHANNELS = 9  # that are looked at
_GROUP = 32  # weights of one scale, at least
_FLOATS = (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
_EDGE_COUNT, _MISSING = 100, 30  # weights next to a gap, and missing in it, to call it one


@dataclasses.dataclass(frozen=True)
class Grid:
    """What |w| may be, where that is not everything.

    Attributes:
      kind: "step", whole multiples of `step`; "channels", of a step of each channel's own, or of
        each group's; a float dtype, whose numbers all are; "sizes", few different ones; "pruned",
        no small ones but zeros; "gap", no small ones.
      sizes: how many different |w| > 0 there are; 0 where they are not few.
      step: NaN but for "step".
      least: laws are fitted conditionally on |w| > least; 0 for all.
    """

    kind: Literal[
        "step", "channels", "sizes", "pruned", "gap",
        "float8_e4m3fn", "float8_e5m2", "bfloat16", "float16",
    ]  # fmt: skip
    sizes: int
    step: float
    least: float


class Sizes(NamedTuple):
    """Different |w| > 0 in rising order, and how many weights have each."""

    values: np.ndarray
    counts: np.ndarray

    def __add__(self, other):
        values = np.union1d(self.values, other.values)
        counts = np.zeros(len(values), np.int64)
        for part in (self, other):
            counts[np.searchsorted(values, part.values)] += part.counts
        return Sizes(values, counts)


def few_sizes(chunks: Iterable[np.ndarray], sample: np.ndarray) -> Sizes | None:
    """The different |w| > 0 of float arrays, if few; of most that have many a sample tells it."""
    used = sample[sample != 0]
    if len(np.unique(np.abs(used))) > min(MOST_SIZES, len(used) / 2):
        return None
    found = Sizes(np.empty(0), np.empty(0, np.int64))
    for chunk in chunks:
        sizes = np.abs(chunk[chunk != 0])
        found = found + Sizes(*np.unique(sizes.astype(np.float64), return_counts=True))
        if len(found.values) > MOST_SIZES or not np.isfinite(found.values).all():
            return None
    return found if is_few(found) else None


def is_few(sizes: Sizes) -> bool:
    return 0 < _REPEATED * len(sizes.values) <= sizes.counts.sum()


def cells(sizes: Sizes, zeros: int, eps: float) -> tuple[Grid, np.ndarray, np.ndarray]:
    """(grid, where the cell of each size begins, where it ends).

    Args:
      sizes: few different ones.
      zeros: how many weights are 0.
      eps: the relative rounding error of the sizes.
    """
    values, counts = sizes
    step = _step(values, eps)
    middles = 0.5 * (values[1:] + values[:-1])
    first = middles[0] - values[0] if len(middles) else values[0]  # half of the first distance
    lower = np.append(0.5 * values[0] if zeros else max(values[0] - first, 0.0), middles)
    upper = np.append(middles, values[-1] + (values[-1] - middles[-1] if len(middles) else 0))
    kind = next((np.dtype(t).name for t in _FLOATS if _holds(t, values)), "sizes")
    if step and kind == "sizes":
        kind = "step"
        multiples = np.round(values / step)
        body = multiples[np.searchsorted(np.cumsum(counts), 0.8 * counts.sum())]
        if (multiples <= body).sum() > 0.9 * body:  # empty cells in the tail are cells as well
            lower, upper = (multiples - 0.5) * step, (multiples + 0.5) * step
    least = float(lower[0]) if zeros else 0.0
    return Grid(kind, len(values), step if kind == "step" else np.nan, least), lower, upper


def _holds(dtype, values) -> bool:
    with np.errstate(over="ignore"):
        return bool((values.astype(dtype).astype(np.float64) == values).all())


def _step(values, eps) -> float:
    """The largest step whose multiples all sizes are, to within rounding; 0 for none."""
    if len(values) < 3:
        return 0.0
    step = min(values[0], np.diff(values).min())
    if values[-1] / step > _MOST_STEPS or eps * values[-1] > 0.1 * step:
        return 0.0
    for most in (16, 256, 4096, _MOST_STEPS):  # each makes the step exact enough for the next
        multiples = np.round(values / step)
        used = multiples <= most
        if used.any():
            step = (values * multiples)[used].sum() / np.square(multiples[used]).sum()
    off = np.abs(values - np.round(values / step) * step)
    return float(step) if (off <= 0.01 * step + 2 * eps * values).all() else 0.0


def gap(lower, upper, counts) -> bool:
    """Whether |w| is bounded away from 0: the least weights are as dense as those next to them.

    A law that fades towards 0 has, below its least 100 weights, ever fewer; where as many lie on
    either half of a stretch next to the least one, and 30 would lie below it, there is an end.
    """
    reached = np.cumsum(counts)
    wanted = min(_EDGE_COUNT, reached[-1] / 20)
    k = int(np.searchsorted(reached, wanted))
    if wanted < 20 or k + 1 >= len(counts):
        return False
    width = upper[k] - lower[0]
    beyond = np.searchsorted(lower, lower[0] + 2 * width, side="right")
    inside, next_to = reached[k], reached[beyond - 1] - reached[k]
    return bool(next_to < 2 * inside and inside * lower[0] / width > _MISSING)


def channel_grid(kernel: np.ndarray) -> Grid | None:
    """The grid of weights quantized by channels or groups in them, (..., in, out); None for others.

    A few channels of either axis are looked at, whole and at their first 32 weights, of which a
    group of 4 bits has no more than 16: half of them, and more weights than sizes.
    """
    if kernel.ndim < 2 or kernel.dtype.itemsize < 4:
        return None
    flat = kernel.reshape(-1, kernel.shape[-1])
    for rows in (flat.T, flat):
        channels = rows[np.linspace(0, len(rows) - 1, min(len(rows), _CHANNELS)).astype(int)]
        for length in (channels.shape[1], _GROUP):
            if sum(_is_stepped(channel[:length]) for channel in channels) > len(channels) / 2:
                return Grid("channels", 0, np.nan, 0.0)
    return None


def _is_stepped(channel) -> bool:
    used = channel[channel != 0].astype(np.float64)
    values = np.unique(np.abs(used))
    return len(used) > 1.5 * len(values) and _step(values, np.finfo(np.float32).eps) > 0
