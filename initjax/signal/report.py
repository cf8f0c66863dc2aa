"""A `Signal` as a table, as JSON, in pictures, and beside others."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from initjax.signal import pictures
from initjax.signal.layers import Layer, Signal
from initjax.signal.measure import advise
from initjax.signal.program import BINS, FLAT, REACH
from initjax.signal.verdict import describe_factor
from initjax.support.environment import describe_environment
from initjax.support.errors import UserError
from initjax.support.files import strict_json, write_whole
from initjax.support.version import __version__
from initjax.theory.fixed_points import predict_residual_variance

VERSION = 1
_MOST_ROWS = 16

_COLUMNS = (
    ("layer", "<"),
    ("mean", ">"),
    ("variance", ">"),
    ("theory", ">"),
    ("95 % band", ">"),
    ("kurt", ">"),
    ("dead", ">"),
    ("flat", ">"),
    ("corr", ">"),
    ("theory", ">"),
    ("grad var", ">"),
    ("theory", ">"),
    ("verdict", "<"),
)


def table(signal: Signal) -> str:
    """The layers as lines of text; of deep networks about sixteen, evenly chosen.

    Columns: mean and variance of the pre-activations, the variance by theory and its 95 % band,
    kurtosis, share of dead units, share of flat (saturated) values, correlation of inputs and the
    same by theory, gradient variance and the same by theory.
    """
    rows = [[name for name, _ in _COLUMNS]]
    shown = _chosen(len(signal.layers))
    rows += [_row(signal.layers[i]) for i in shown]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = (
        "  ".join(
            f"{cell:{side}{width}}"
            for cell, width, (_, side) in zip(row, widths, _COLUMNS, strict=True)
        ).rstrip()
        for row in rows
    )
    rest = len(signal.layers) - len(shown)
    note = [f"({rest} layers between these are in signal.json)"] if rest else []
    return "\n".join([*aligned, *note, _summary(signal)])


def _chosen(number, most=_MOST_ROWS) -> list[int]:
    if number <= most:
        return list(range(number))
    return sorted({round(i * (number - 1) / (most - 1)) for i in range(most)})


def _row(layer: Layer) -> list[str]:
    p = layer.predicted
    band = "-" if p.low is None else f"{_short(p.low)}..{_short(p.high)}"
    name = (layer.path or "model") + (f" (use {layer.number + 1})" if layer.number else "")
    return [
        name,
        _short(layer.mean),
        _short(layer.variance),
        _short(p.variance),
        band,
        _short(layer.kurtosis),
        _share(layer.dead),
        _share(layer.saturated),
        _decimals(layer.correlation),
        _decimals(p.correlation),
        _short(layer.gradient_variance),
        _short(p.gradient_variance),
        layer.verdict,
    ]


def _short(number) -> str:
    return "-" if number is None else f"{number:.3g}"


def _decimals(number) -> str:
    return "-" if number is None else f"{round(number, 2) + 0.0:.2f}"  # no -0.00


def _share(number) -> str:
    return "-" if number is None else f"{100 * number:.0f}%"


def _summary(signal: Signal) -> str:
    parts = []
    if signal.factor is not None:
        parts.append(f"measured: variance x {signal.factor:.4g} a layer")
        scale = signal.depth_scale
        parts.append(
            "not by one factor a layer" if scale is None else f"e-fold in {_layers(scale)}"
        )
    if signal.gradient_factor is not None:
        parts.append(f"squared gradient x {signal.gradient_factor:.4g} a layer towards the input")
    lines = ["; ".join(parts)]
    scales = signal.scales
    if scales is not None:
        lines.append(
            f"theory: chi_1 {scales.chi_1:.4g}, gradients change e-fold in"
            f" {_layers(scales.gradient_scale)}, correlations in"
            f" {_layers(scales.correlation_scale)} (to {scales.correlation:.3g});"
            f" chi_q {scales.chi_q:.4g}, variances in {_layers(scales.variance_scale)}"
            f" (to {scales.q:.3g})"
        )
    elif signal.chi_1 is not None:
        lines.append(f"theory: chi_1 {signal.chi_1:.4g}, chi_q {signal.chi_q:.4g} a layer")
    return "\n".join(filter(None, lines))


def _layers(scale) -> str:
    if scale > 1e6:
        return "no number of layers (critical: as a power of the depth)"
    return "over 1000 layers" if scale > 1000 else f"{scale:.3g} layers"


def comparison(
    signals: Mapping[str, Signal],
    activation: str,
    recommended: tuple[str, Signal] | None = None,
) -> str:
    """Which initializer does what to the variance, ranked, and what to change.

    Args:
      signals: what was measured, by name.
      activation: its name.
      recommended: a start that was not asked for, and what was measured of it; it is named where it
        halves the change of the best of the others.
    """
    ranked = sorted(
        signals, key=lambda name: (not signals[name].is_healthy, _distance(signals[name]))
    )
    lines = []
    for number, name in enumerate(ranked, 1):
        signal = signals[name]
        words = [describe_factor(signal.factor, "variance")]
        if signal.gradient_factor is not None:
            words.append(describe_factor(signal.gradient_factor, "squared gradient"))
        place = f"{number}. " if len(ranked) > 1 else ""
        lines.append(f"{place}{name} {' and '.join(words)}{_totals(signal)}: {signal.verdict}")
    healthy = [name for name in ranked if signals[name].is_healthy]
    best = ranked[0]
    better = recommended is not None and (
        (recommended[1].is_healthy, -2 * _distance(recommended[1]))
        > (bool(healthy), -_distance(signals[best]))
    )
    if not healthy:
        lines.append("None of these keeps the signal.")
    if better:
        name, signal = recommended
        lines.append(f"Start from {name}{_totals(signal)}: {signal.verdict}.")
    if healthy:
        first = "Of those asked for, take" if better else "Start from"
        others = ", ".join(healthy[1:])
        lines.append(f"{first} {best}" + (f"; {others} will do too." if others else "."))
    branches = max(signal.num_branches for signal in signals.values())
    try:
        if branches:
            lines.append(_of_branches(branches, activation))
        elif not healthy and not better:
            lines.append(advise(activation))
    except UserError:
        pass
    return "\n".join(lines)


def _totals(signal) -> str:
    """Such as " (in all x 0.98, x 3.1)"."""
    changes = [f"x {x:.3g}" for x in (signal.change, signal.gradient_change) if x is not None]
    return f" (in all {', '.join(changes)})" if changes else ""


def _distance(signal) -> float:
    """How far signal and gradient are from being kept, in factors e over all layers."""
    changes = (signal.change, signal.gradient_change)
    return sum(abs(math.log(x)) for x in changes if x is not None)


def _of_branches(number, activation) -> str:
    """What scales the branches of a residual network, and by theory what that changes."""
    plain, scaled = (
        predict_residual_variance(number, activation, output_variance=v)[-1]
        for v in (1.0, 1 / number)
    )
    return (
        f"{number} residual branches add up, by theory to {plain:.3g} times the stream with"
        f" sv^2 = 1 and to {scaled:.3g} times with sv^2 = 1 / {number}:"
        f" mean_field_residual(num_layers={number}) in the last layer of each."
    )


def to_json(signals: Mapping[str, Signal], command: Mapping[str, Any]) -> dict[str, Any]:
    """The content of signal.json.

        {"version": 1, "initjax": "...", "jax": "...", "device": "...",
         "environment": {see `describe_environment`},
         "command": {flag: value},
         "flat_below": 0.05,                    share of the steepest slope, see `Layer`
         "histogram": {"bins": 80, "reach": 4.0},   in root mean squares of z
         "signals": {initializer: {
             "verdict", "activation", "num_inputs", "input_variance", "factor", "gradient_factor",
             "chi_1", "chi_q", "scales": {the fields of `initjax.theory.DepthScales`} or null,
             "num_branches", "change", "gradient_change", "depth_scale", "correlation_depth_scale",
             "variance_depth_scale",
             "layers": [{the fields of `initjax.signal.Layer`, "sd", and
                         "predicted": {the fields of `initjax.signal.Prediction`}}]}}}

    null stands for what cannot be said; the strings "inf", "-inf" and "nan" for numbers that JSON
    does not have. A later version adds fields without a new number, and changes them with one.
    """
    return {
        "version": VERSION,
        "initjax": __version__,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "environment": describe_environment(),
        "command": dict(command),
        "flat_below": FLAT,
        "histogram": {"bins": BINS, "reach": REACH},
        "signals": {name: _plain(_fields(signal)) for name, signal in signals.items()},
    }


def _fields(signal):
    fields = dataclasses.asdict(signal)
    for layer, values in zip(signal.layers, fields["layers"], strict=True):
        values["sd"] = layer.sd
    scales = ("depth_scale", "correlation_depth_scale", "variance_depth_scale")
    for name in (*scales, "change", "gradient_change"):
        fields[name] = getattr(signal, name)
    return fields


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def save(
    signals: Mapping[str, Signal], folder: pathlib.Path, command: Mapping[str, Any]
) -> list[str]:
    """Writes signal.json and the pictures; returns their names."""
    write_whole(folder / "signal.json", strict_json(to_json(signals, command), indent=1) + "\n")
    title = f"{command.get('model', '')}, {command.get('activation', '')}".strip(", ")
    pictures.plot_variance(signals, folder / "variance.png", title)
    pictures.plot_gradients(signals, folder / "gradients.png", title)
    pictures.plot_histograms(signals, folder / "histograms.png", title, REACH)
    return ["signal.json", "variance.png", "gradients.png", "histograms.png"]
