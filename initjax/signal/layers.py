"""What is known of a layer's signal, and of all layers'."""

import dataclasses
import math

from initjax.signal.prediction import Prediction as Prediction
from initjax.signal.verdict import HEALTHY, is_exponential, total_change
from initjax.theory.fixed_points import DepthScales


@dataclasses.dataclass(frozen=True)
class Layer:
    """One use of a layer. Statistics of its pre-activations z are over all examples, positions
    and units; None is for what cannot be said.

    Attributes:
      path: the path of its parameters, such as "Block_0/Conv_0".
      number: how many times it was used before.
      units: features that it puts out.
      mean: mean of z.
      variance: variance of z.
      kurtosis: fourth central moment / variance^2; 3 for a normal law.
      correlation: mean over pairs of examples a, b of <z_a, z_b> / (|z_a| |z_b|).
      dead: share of units that are flat for every example and position: |phi'(z)| is below 5 % of
        its largest value, so that hardly a gradient passes. For ReLU: never positive.
      saturated: share of values z that are flat in the same sense; for ReLU, the negative ones.
      gradient_variance: mean square of dL/dz, divided by that of dL/d output. L is the loss, or
        without one <r, output> with r drawn from N(0, 1) for every output of every example.
      gradient_norm: |dL/dz| / |dL/d output|, the norms of all examples together. He's rule keeps it
        (forward), whatever the widths.
      predicted: the same by theory.
      histogram: counts of z in bins of equal width from -4 to 4 root mean squares; the outermost
        also hold what lies beyond.
      verdict: "healthy", or of these, joined by commas: "vanishing" or "exploding" (variance less
        than 1/1000 or more than 1000 times the mean square of the network's input), "vanishing
        gradient" or "exploding gradient" (gradient_norm^2 likewise, against 1), "dead units" (more
        than half), "saturated" (more than 25 % of the values, of an activation that is flat on both
        sides), "overflow", "gradient overflow".
    """

    path: str
    number: int
    units: int
    mean: float
    variance: float
    kurtosis: float
    correlation: float
    dead: float | None
    saturated: float | None
    gradient_variance: float | None
    gradient_norm: float | None
    predicted: Prediction
    histogram: tuple[int, ...]
    verdict: str = ""

    @property
    def sd(self) -> float:
        """Standard deviation of z."""
        return math.sqrt(self.variance) if self.variance >= 0 else math.nan


@dataclasses.dataclass(frozen=True)
class Signal:
    """What a network does to a signal; see `measure`.

    Attributes:
      layers: every use of a layer, in execution order.
      activation: the activation's name, as given, as the model says or as found; None if unknown.
      num_inputs: examples.
      input_variance: mean square of the network's input.
      factor: by how much the variance grows per layer: exp of the slope of log variance against
        depth between the first layer and the last, exclusive of the last; None where the network
        has fewer than three.
      gradient_factor: by how much gradient_norm^2 grows per layer towards the input.
      chi_1: geometric mean, over the layers but the last, of theory's chi_1, by which gradients and
        distances of nearby inputs grow; None where theory says nothing.
      chi_q: the same of chi_q, the factor of a deviation of the variance from its fixed point.
      scales: theory's, of a plain network of one weight and one bias variance; else None.
      num_branches: residual branches.
      verdict: what is wrong in how many layers; or that the variance or the squared gradient
        changes by more than 5 from the first hidden layer to the last, by the fitted factors; else
        "healthy".
    """

    layers: tuple[Layer, ...]
    activation: str | None
    num_inputs: int
    input_variance: float
    factor: float | None
    gradient_factor: float | None
    chi_1: float | None
    chi_q: float | None
    scales: DepthScales | None
    num_branches: int
    verdict: str

    @property
    def depth_scale(self) -> float | None:
        """Layers in which the measured variance changes e-fold, 1 / |log factor|.

        None where it does not change by one factor a layer, as measured or, where theory's scale
        is more than all layers, as near criticality.
        """
        if self.scales is not None and self.scales.variance_scale > len(self.layers):
            return None
        constant = is_exponential([layer.variance for layer in self.layers[:-1]])
        return depth_scale(self.factor) if constant else None

    @property
    def correlation_depth_scale(self) -> float | None:
        """xi_c of theory's `scales`; infinite at criticality, where there is none."""
        return None if self.scales is None else self.scales.correlation_scale

    @property
    def variance_depth_scale(self) -> float | None:
        """xi_q of theory's `scales`; infinite at criticality, where there is none."""
        return None if self.scales is None else self.scales.variance_scale

    @property
    def change(self) -> float | None:
        """By how much the variance grows from the first hidden layer to the last, as fitted."""
        return total_change(self.factor, len(self.layers))

    @property
    def gradient_change(self) -> float | None:
        """By how much the squared gradient grows from the last hidden layer to the first."""
        return total_change(self.gradient_factor, len(self.layers))

    @property
    def is_healthy(self) -> bool:
        """Whether the verdict is "healthy"."""
        return self.verdict == HEALTHY


def depth_scale(factor: float | None) -> float | None:
    """1 / |log factor|; infinite for 1, None where there is none."""
    if factor is None or not 0 < factor < math.inf:
        return None
    return math.inf if factor == 1 else 1 / abs(math.log(factor))
