"""Words for what was measured of a network's signal."""

import math
from collections.abc import Sequence

import numpy as np

# A signal, or a gradient, that shrank or grew by more than this factor is vanishing or exploding.
LIMIT = 1e3
# Share of dead units. Where pre-activations have mean 0 and inputs have become alike, up to half of
# the units of a ReLU layer are negative for a whole batch, and no more.
DEAD = 0.5
SATURATED = 0.25  # share of saturated values

# From the first hidden layer to the last, by the fitted factor a layer, neither the variance nor
# the squared gradient of a healthy network changes by more than this.
CHANGE = 5.0

HEALTHY = "healthy"


def judge_layer(layer, input_variance: float, is_two_sided: bool) -> str:
    """One or more of the words of `initjax.signal.Layer.verdict`, for a measured layer."""
    if not math.isfinite(layer.variance):
        return "overflow"
    words = []
    if input_variance > 0:
        words += _size(layer.variance / input_variance, "")
    if layer.dead is not None and layer.dead > DEAD:
        words.append("dead units")
    if is_two_sided and layer.saturated is not None and layer.saturated > SATURATED:
        words.append("saturated")
    if layer.gradient_norm is not None:
        if not math.isfinite(layer.gradient_norm):
            words.append("gradient overflow")
        else:
            words += _size(layer.gradient_norm**2, " gradient")
    return ", ".join(words) or HEALTHY


def _size(ratio, what):
    if ratio < 1 / LIMIT:
        return [f"vanishing{what}"]
    return [f"exploding{what}"] if ratio > LIMIT else []


def judge_network(
    layers: Sequence, factor: float | None = None, gradient_factor: float | None = None
) -> str:
    """The words that hold for any of the layers, with how many they hold for.

    Without such words, what changes by more than `CHANGE` from the first hidden layer to the last:
    the variance by `factor` a layer, the squared gradient by `gradient_factor`.
    """
    counts: dict[str, int] = {}
    for layer in layers:
        for word in layer.verdict.split(", "):
            if word != HEALTHY:
                counts[word] = counts.get(word, 0) + 1
    if not counts:
        changes = (total_change(f, len(layers)) for f in (factor, gradient_factor))
        words = [
            f"{what} {'grows' if change > 1 else 'falls'} {max(change, 1 / change):.3g}-fold in"
            f" {len(layers) - 1} layers"
            for what, change in zip(("variance", "squared gradient"), changes, strict=True)
            if change is not None and not 1 / CHANGE <= change <= CHANGE
        ]
        return "; ".join(words) or HEALTHY
    return "; ".join(f"{word} in {n} of {len(layers)} layers" for word, n in counts.items())


def total_change(factor: float | None, num_layers: int) -> float | None:
    """From the first hidden layer to the last of a network, the last layer being its output."""
    if factor is None or num_layers < 3:
        return None
    return math.exp(min(max((num_layers - 2) * math.log(factor), -700.0), 700.0))


def is_exponential(values: Sequence[float | None]) -> bool:
    """Whether values change by one factor a layer: the slopes of the log of both halves agree.

    They do within a factor of 2. Those of a power of the depth do not, nor do those of chance.
    """
    half = len(values) // 2
    factors = [factor_per_layer(part) for part in (values[:half], values[half:])]
    if None in factors:
        return True
    first, second = (math.log(factor) for factor in factors)
    return first * second > 0 and 0.5 <= first / second <= 2


def factor_per_layer(values: Sequence[float | None]) -> float | None:
    """exp of the slope of log value against depth (least squares); None for fewer than 3 values."""
    points = [
        (i, math.log(value))
        for i, value in enumerate(values)
        if value is not None and 0 < value < math.inf
    ]
    if len(points) < 3:
        return None
    depth, logs = np.array(points).T
    return math.exp(np.polyfit(depth, logs, 1)[0])


def describe_factor(factor: float | None, what: str) -> str:
    """Such as "keeps the variance", "halves the variance each layer"."""
    if factor is None:
        return f"leaves no {what} to measure"
    if 0.95 <= factor <= 1.05:
        return f"keeps the {what}"
    for middle, verb in ((0.5, "halves"), (2.0, "doubles")):
        if 0.95 <= factor / middle <= 1.05:
            return f"{verb} the {what} each layer"
    if factor < 1:
        return f"shrinks the {what} to {factor:.3g} of it each layer"
    return f"multiplies the {what} by {factor:.3g} each layer"
