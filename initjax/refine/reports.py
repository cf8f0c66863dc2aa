"""What a refinement did: numbers before and after, on data that it did not see."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from initjax.network.paths import get_layer
from initjax.refine.calibration import inputs_of
from initjax.refine.statistics import Statistics
from initjax.support.files import strict_json


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One layer before and after, on the held-out data; `objective` is the layer's part of it."""

    path: str
    before: Statistics
    after: Statistics
    objective_before: float | None = None
    objective_after: float | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """What a refinement did, measured on held-out data.

    It prints as a sentence, followed by what there is to note; `table()` shows every layer.

    Attributes:
      method: the method's name.
      objective: what is measured, in words; smaller is better.
      before: the objective with the parameters as they were given.
      after: the objective with the refined parameters.
      num_calibration: samples that the refinement saw.
      num_held_out: samples that the objective is measured on.
      layers: the layers in the order in which they compute.
      notes: what was skipped or could not be met.
    """

    method: str
    objective: str
    before: float
    after: float
    num_calibration: int
    num_held_out: int
    layers: tuple[LayerReport, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def worse(self) -> bool:
        """Whether the objective on the held-out data grew, or became no number."""
        return not math.isfinite(self.after) or self.after > self.before

    def __str__(self) -> str:
        verdict = ": this made it WORSE" if self.worse else ""
        sentence = (
            f"{self.method}: {self.objective} from {self.before:.4g} to {self.after:.4g} on"
            f" {self.num_held_out} held-out samples{verdict} (refined on {self.num_calibration})"
        )
        return "\n".join([sentence, *self.notes])

    def table(self) -> str:
        """The layers' statistics before and after, as text."""
        width = max([len("layer"), *(len(layer.path) for layer in self.layers)])
        lines = [
            f"{'layer':{width}}  {'mean':>21}  {'variance':>21}  {'total variance':>21}  objective"
        ]
        for layer in self.layers:
            cells = [
                f"{getattr(layer.before, name):9.3g} -> {getattr(layer.after, name):<8.3g}"
                for name in ("mean", "variance", "total_variance")
            ]
            if layer.objective_before is not None:
                cells.append(f"{layer.objective_before:.3g} -> {layer.objective_after:.3g}")
            lines.append("  ".join([f"{layer.path:{width}}", *cells]))
        return "\n".join(lines)

    def to_json(self, **more: Any) -> str:
        """All of it and what else a file should hold; numbers that are not finite become null."""
        return strict_json(dataclasses.asdict(self) | {"worse": self.worse} | more, indent=1)


def unit_variance_gap(statistics) -> float:
    """mean_l |Var(z_l) - 1|, the variance being that of all of a layer's values."""
    return float(np.mean([abs(layer.variance - 1) for layer in statistics.values()]))


def variance_report(method, network, params, refined, calibration, held_out, notes) -> Report:
    """The report of a method that wants pre-activations of unit variance."""
    before, after = (network.statistics(p, held_out) for p in (params, refined))
    return Report(
        method=method,
        objective="mean |variance - 1| of the layers",
        before=unit_variance_gap(before),
        after=unit_variance_gap(after),
        num_calibration=len(calibration),
        num_held_out=len(held_out),
        layers=layer_reports(
            before,
            after,
            {path: abs(layer.variance - 1) for path, layer in before.items()},
            {path: abs(layer.variance - 1) for path, layer in after.items()},
        ),
        notes=tuple(notes),
    )


def dead_layers(statistics: Mapping[str, Statistics]) -> tuple[str, ...]:
    """Notes that name the layers that are constant, and those with some constant channels."""
    notes = []
    dead = [path for path, layer in statistics.items() if layer.dead]
    if dead:
        notes.append(
            f"{len(dead)} of {len(statistics)} layers are dead (constant, no scale gives them a"
            f" variance) and were skipped: {', '.join(dead)}"
        )
    partly = {
        path: f"{path} ({layer.dead_channels} of {layer.num_channels})"
        for path, layer in statistics.items()
        if layer.dead_channels and not layer.dead
    }
    if partly:
        notes.append(f"dead channels were not rescaled: {', '.join(partly.values())}")
    return tuple(notes)


def normalized_layers(paths) -> tuple[str, ...]:
    """A note that names layers whose weights the model normalizes."""
    if not paths:
        return ()
    shown = ", ".join(sorted(paths))
    return (
        f"the model normalizes the weights of {shown}: no scale of them changes what they put out,"
        " and they were left as they are",
    )


def without_bias(params, paths) -> tuple[str, ...]:
    """A note that names the layers whose mean cannot be set."""
    found = [path for path in paths if "bias" not in get_layer(params, path)]
    if not found:
        return ()
    shown = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
    return (f"{len(found)} layers have no bias, so that their means cannot be set: {shown}",)


def layer_reports(before, after, parts_before=None, parts_after=None) -> tuple[LayerReport, ...]:
    """One `LayerReport` a layer from its statistics, and its parts of the objective if any."""
    parts = [
        {path: float(x) for path, x in (parts or {}).items()}
        for parts in (parts_before, parts_after)
    ]
    return tuple(
        LayerReport(path, before[path], after[path], *(part.get(path) for part in parts))
        for path in before
    )


def scalar_report(network, method, objective, params, batches, values, notes=()) -> Report:
    """The `Report` of a method whose objective is one number.

    Each pair is (before, after), but `batches` is (calibration, held-out).
    """
    calibration, held_out = map(inputs_of, batches)
    statistics = [network.statistics(p, held_out) for p in params]
    return Report(
        method=method,
        objective=objective,
        before=float(values[0]),
        after=float(values[1]),
        num_calibration=len(calibration),
        num_held_out=len(held_out),
        layers=layer_reports(*statistics),
        notes=tuple(notes),
    )
