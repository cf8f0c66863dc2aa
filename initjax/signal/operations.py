"""What stands between two layers where no `Link` does: normalization, pooling, attention.

Found, as links are, by comparing numbers; and what theory says of it. The correlations of positions
are not followed by theory: those measured in two examples are taken.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from initjax.signal.links import Link, Sample, is_same
from initjax.theory.moments import Moments, pair_moment
from initjax.theory.windows import attended_second_moment, max_moments

_REACH = 8
_LEAST_FEATURES = 8  # fewer may have one size by chance
_EPSILONS = (1e-5, 1e-6)  # of batch and layer normalization, in Flax


@dataclasses.dataclass(frozen=True)
class State:
    """A tensor of the network: its features are alike, its examples and positions are not.

    Attributes:
      second: E[x^2], [B, *positions].
      mean: E[x] over features, likewise.
      kernel: E[x_a x_b], [B, B], where there are no positions; else None.
      log_variance: variance, over draws of the weights, of the log of the mean of `second`.
      pair_variance: variance, over draws of the weights, of an entry of `kernel` off its diagonal.
    """

    second: np.ndarray
    mean: np.ndarray
    kernel: np.ndarray | None
    log_variance: float
    pair_variance: float = 0.0


@dataclasses.dataclass(frozen=True)
class Window:
    """A window of pooling, "average" or "max"; `size` None: all positions."""

    kind: str
    size: int | None = None
    stride: int = 1
    padded: bool = False

    def pool(self, x: np.ndarray) -> np.ndarray:
        """x [B, *positions, C] pooled; without positions where it takes all."""
        positions = tuple(range(1, x.ndim - 1))
        reduce = np.mean if self.kind == "average" else np.max
        if self.size is None:
            return reduce(x, axis=positions)
        if self.padded:
            pads = [_padding(x.shape[axis], self.size, self.stride) for axis in positions]
            x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=-np.inf)
        sizes = (self.size,) * len(positions)
        windows = np.lib.stride_tricks.sliding_window_view(x, sizes, axis=positions)
        every = (slice(None), *[slice(None, None, self.stride)] * len(positions))
        return reduce(windows[every], axis=tuple(range(x.ndim, x.ndim + len(positions))))

    def positions(self, shape: Sequence[int]) -> tuple[int, ...] | None:
        """The positions that are left of these; None where the window does not fit."""
        if self.size is None:
            return ()
        if self.padded:
            return tuple(math.ceil(n / self.stride) for n in shape)
        left = tuple((n - self.size) // self.stride + 1 for n in shape)
        return left if min(left) > 0 else None

    def number(self, shape: Sequence[int]) -> int:
        """How many positions a window has."""
        return math.prod(shape) if self.size is None else self.size ** len(shape)


def _padding(size, window, stride):
    """Flax's "SAME"."""
    total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


_WINDOWS = [
    Window("average"),
    Window("max"),
    *(
        Window(kind, size, stride, padded)
        for kind, size, stride in itertools.product(("average", "max"), (2, 3), (1, 2, 3))
        for padded in ((False, True) if kind == "max" else (False,))  # zeros count in an average
        if stride <= size
    ),
]


@dataclasses.dataclass(frozen=True)
class Operation:
    """How a layer's input is made of what earlier layers put out, in this order.

    Attributes:
      layer: the layer whose z it is made of; None where only its size is known: it is normalized.
      normalized: "layer" (also RMS) or "batch"; "" for none.
      gain: the factor of that normalization.
      share: of batch normalization, the part of z's mean square that is variance over the batch.
      activated: whether phi follows.
      window: the pooling that follows.
      correlation: mean correlation of positions: of z in a window, or of the values of attention.
      scores: the layers (queries, keys) of attention, `layer` being the values.
      key_correlation: of the keys, as `correlation`.
      is_causal: whether a position attends to those before it alone.
    """

    layer: int | None = None
    normalized: str = ""
    gain: float = 1.0
    share: float = 1.0
    activated: bool = False
    window: Window | None = None
    correlation: float = 0.0
    scores: tuple[int, int] | None = None
    key_correlation: float = 0.0
    is_causal: bool = False


def find_operations(
    sample: Sample,
    activation: Callable | None,
    links: Sequence[Link | None],
    channels: Sequence[tuple[np.ndarray, np.ndarray]],
) -> list[Operation | None]:
    """The operation before every layer that has no link; None where it is none of these.

    Args:
      sample: two examples.
      activation: the network's.
      links: what `find_links` found.
      channels: of every layer the mean and variance of its channels, over the batch.
    """
    return [
        None if link is not None else _find(sample, activation, channels, i)
        for i, link in enumerate(links)
    ]


def _find(sample, activation, channels, i) -> Operation | None:
    given = sample.inputs[i]
    if given is None or not np.isfinite(given).all():
        return None
    for j in range(i - 1, max(-1, i - 1 - _REACH), -1):
        for operation, z in _bases(sample, channels, j):
            for is_activated in (False, True) if activation is not None else (False,):
                x = np.asarray(activation(z), np.float32) if is_activated else z
                operation = dataclasses.replace(operation, activated=is_activated)
                if operation.normalized and is_same(given, x, sample):
                    return operation
                window = _find_window(given, x, sample)
                if window is not None:
                    correlation = _window_correlation(z, window)
                    return dataclasses.replace(operation, window=window, correlation=correlation)
    return _find_attention(sample, given, i) or _find_size(given, sample)


def _bases(sample, channels, j):
    """z of a layer as it is and normalized, each with its operation."""
    z = sample.outputs[j]
    if not np.isfinite(z).all():
        return
    yield Operation(j), z
    mean, variance = channels[j]
    total = float((variance + mean**2).mean())
    share = float(variance.mean()) / total if total > 0 else 0.0
    if share > 0:
        batch = (z - mean) / np.sqrt(variance + _EPSILONS[0])
        yield Operation(j, "batch", share=share), batch.astype(np.float32)
    if z.shape[-1] >= _LEAST_FEATURES:
        for centre in (z.mean(-1, keepdims=True), 0.0):
            size = np.sqrt(np.mean((z - centre) ** 2, -1, keepdims=True) + _EPSILONS[1])
            yield Operation(j, "layer"), ((z - centre) / size).astype(np.float32)


def _find_window(given, x, sample) -> Window | None:
    if x.ndim < 3:
        return None
    for window in _WINDOWS:
        positions = window.positions(x.shape[1:-1])
        if positions is None or given.size != x.shape[0] * math.prod(positions) * x.shape[-1]:
            continue
        if is_same(given, window.pool(x), sample):
            return window
    return None


def _window_correlation(z, window) -> float:
    """Of two positions in a window: z' z of a mean is q (1 + (n - 1) c) / n."""
    number = window.number(z.shape[1:-1])
    q = float((z.astype(np.float64) ** 2).mean())
    if number < 2 or q == 0:
        return 0.0
    mean = dataclasses.replace(window, kind="average", padded=False).pool(z.astype(np.float64))
    return float(np.clip((number * (mean**2).mean() / q - 1) / (number - 1), -1, 1))


def _find_attention(sample, given, i) -> Operation | None:
    """Softmax attention of the three layers before, [B, T, heads, size] each."""
    if i < 3:
        return None
    query, key, value = (np.asarray(z, np.float64) for z in sample.outputs[i - 3 : i])
    if value.ndim != 4 or not query.shape == key.shape == value.shape:
        return None
    scores = np.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(value.shape[-1])
    for is_causal in (False, True):
        if is_causal:
            scores = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        if is_same(given, np.einsum("bhqk,bkhd->bqhd", p, value).astype(np.float32), sample):
            return Operation(
                i - 1,
                correlation=_position_correlation(value),
                scores=(i - 3, i - 2),
                key_correlation=_position_correlation(key),
                is_causal=is_causal,
            )
    return None


def _position_correlation(z) -> float:
    """Mean correlation of two positions of [B, T, heads, size], head by head."""
    number = z.shape[1]
    size = np.sqrt((z**2).sum(-1, keepdims=True))
    unit = z / np.where(size > 0, size, 1)
    if number < 2:
        return 0.0
    return float((((unit.sum(1) ** 2).sum(-1) - number) / (number * (number - 1))).mean())


def _find_size(given, sample) -> Operation | None:
    """A layer or RMS normalization of whatever it is: every row has the same size."""
    if given.shape[-1] < _LEAST_FEATURES:
        return None
    sizes = (given.astype(np.float64) ** 2).mean(-1)
    if sizes.size < 2 or not np.ptp(sizes) <= 2 * sample.tolerance * sizes.max():
        return None
    return Operation(normalized="layer", gain=math.sqrt(sizes.mean()))


def normalize(operation: Operation, state: State) -> State | None:
    """z after a normalization: its mean square over features, or over the batch, is gain^2.

    Layer and RMS normalization leave correlations, K_ab / sqrt(K_aa K_bb). Batch normalization
    takes the mean over the batch from z, which is K.. of K_aa; that share is taken as measured.
    """
    q = state.second.mean()
    if not q > 0 or not (state.second > 0).all():
        return None
    gain = operation.gain**2
    if operation.normalized == "layer":
        kernel = state.kernel
        if kernel is not None:
            norms = np.sqrt(np.diag(kernel))
            kernel = gain * kernel / np.outer(norms, norms)
        second = np.full_like(state.second, gain)
    else:
        kernel = state.kernel
        if kernel is not None:
            rows = kernel.mean(1)
            kernel = kernel - rows[:, None] - rows + kernel.mean()
            kernel = gain * kernel / np.diag(kernel).mean()
        second = gain * state.second / q if kernel is None else np.diag(kernel)
    pair_variance = (gain / q) ** 2 * state.pair_variance
    return State(second, np.zeros_like(second), kernel, 0.0, pair_variance)


def normalization_slope(operation: Operation, state: State) -> float:
    """By how much squared gradients grow through a normalization, towards z: gain^2 / Var(z)."""
    return float(operation.gain**2 / (operation.share * state.second.mean()))


def pool(
    operation: Operation, z: State, x: State, of: Moments, activation: Callable
) -> tuple[State, float | None]:
    """(the pooled state, by how much squared gradients grow through phi and pooling, towards z).

    Of n positions in a window, every two of z having the measured correlation c, an average has

        E[x'^2] = E[phi^2] / n + (1 - 1/n) E[phi(z_1) phi(z_2)],

    and a maximum what `max_moments` says. A gradient is spread over n positions, or goes to one of
    them; of windows that overlap, where those of neighbours add up, nothing is said.

    Args:
      operation: with its window.
      z: the state before the activation.
      x: the state after it.
      of: the moments of that.
      activation: phi.
    """
    window = operation.window
    assert window is not None
    shape = z.second.shape[1:]
    number = window.number(shape)
    average = dataclasses.replace(window, kind="average")
    if average.padded:  # of the same positions, but for the edges
        average = dataclasses.replace(average, padded=False, size=1)

    def mean_of(values):
        return average.pool(values[..., None])[..., 0]

    left = mean_of(x.second).size / x.second.size
    if window.kind == "average":
        series = of.series.reshape(-1, 1, of.series.shape[-1])
        c = np.full((1, 1), max(operation.correlation, -1.0))
        pairs = np.array([pair_moment(row, row, c)[0, 0] for row in series])
        second = mean_of(x.second) / number + (1 - 1 / number) * mean_of(
            pairs.reshape(x.second.shape)
        )
        mean, slope = mean_of(x.mean), float(of.slope.mean()) / number
    else:
        q = float(z.second.mean())
        found = max_moments(activation, q, number, operation.correlation)
        profile = mean_of(z.second) / q  # exact where phi is homogeneous
        mean, second, slope = found[0] * np.sqrt(profile), found[1] * profile, found[2]
    overlaps = window.size is not None and window.stride < window.size
    return State(second, mean, None, x.log_variance), None if overlaps else left * slope


def attend(operation: Operation, query: State, key: State, value: State) -> State:
    """What softmax attention makes of its values: see `attended_second_moment`.

    Scores q_a k_b / sqrt(size) are Gaussian, of variance E[q^2] E[k^2]; the part that the keys'
    correlation c makes common to all of a row does not count: E[q^2] E[k^2] (1 - c).
    """
    scores = query.second.mean() * key.second.mean() * max(1 - operation.key_correlation, 0.0)
    length = value.second.shape[1]
    numbers = range(1, length + 1) if operation.is_causal else [length]
    second = np.mean(
        [
            attended_second_moment(
                float(value.second.mean()), operation.correlation, float(scores), n
            )
            for n in numbers
        ]
    )
    whole = np.full_like(value.second, second)
    return State(whole, np.zeros_like(whole), None, value.log_variance)
