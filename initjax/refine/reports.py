"""What a refinement did: numbers before and after, on data that it did not see."""

import dataclasses
import math
from typing import Any

from initjax.files import strict_json


@dataclasses.dataclass(frozen=True)
class Statistics:
    """A layer's pre-activations z over a batch: rows are samples (and pixels), columns channels.

    Attributes:
      mean: the mean of all values.
      variance: the variance of all values.
      total_variance: the trace of the channels' covariance, the sum of the channels' variances.
      dead_channels: channels that are constant over the batch; no scale gives them a variance.
      num_channels: all channels.
    """

    mean: float
    variance: float
    total_variance: float
    dead_channels: int
    num_channels: int

    @property
    def dead(self) -> bool:
        """Whether every channel is constant."""
        return self.dead_channels == self.num_channels


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
