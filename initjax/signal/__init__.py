"""What a network does to a signal before a single step of training: measured, and by theory.

python -m initjax.signal --model="mlp(depth=50)" --activation=tanh --init=he_normal,nspl
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from initjax.activations import get_activation
from initjax.errors import UserError
from initjax.gains import evaluator
from initjax.meanfield import edge_of_chaos
from initjax.signal import verdict as verdicts
from initjax.signal.measurement import FLAT as FLAT, Observation, observe
from initjax.signal.prediction import Prediction as Prediction, predict_layers


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
      verdict: "healthy", or what is wrong in how many layers.
    """

    layers: tuple[Layer, ...]
    activation: str | None
    num_inputs: int
    input_variance: float
    factor: float | None
    gradient_factor: float | None
    chi_1: float | None
    chi_q: float | None
    verdict: str

    @property
    def depth_scale(self) -> float | None:
        """Layers in which the measured variance changes e-fold, 1 / |log factor|."""
        return depth_scale(self.factor)

    @property
    def correlation_depth_scale(self) -> float | None:
        """xi_c = 1 / |log chi_1|: layers in which distances of nearby inputs change e-fold."""
        return depth_scale(self.chi_1)

    @property
    def variance_depth_scale(self) -> float | None:
        """xi_q = 1 / |log chi_q|: layers in which a deviation of the variance changes e-fold."""
        return depth_scale(self.chi_q)

    @property
    def is_healthy(self) -> bool:
        """Whether every layer is."""
        return self.verdict == verdicts.HEALTHY


def depth_scale(factor: float | None) -> float | None:
    """1 / |log factor|; infinite for 1, None where there is none."""
    if factor is None or not 0 < factor < math.inf:
        return None
    return math.inf if factor == 1 else 1 / abs(math.log(factor))


def measure(
    model: Any,
    variables: Any,
    x: Any,
    *,
    activation: str | Callable | None = None,
    loss: Callable[[Any], jax.Array] | None = None,
    key: jax.Array | None = None,
    **apply_kwargs: Any,
) -> Signal:
    """Runs any Flax network once, and says of every layer what it does to the signal.

    One program runs forward and backward and computes all statistics; it is compiled once for
    every model and shape, so that other parameters cost milliseconds.

    Args:
      model: a Flax Linen or NNX module; see `initjax.taps.record` for what is supported.
      variables: its variables, or its parameters alone; of an NNX module a state, or None.
      x: a batch of inputs, floating-point [B, ...], 2 examples or more.
      activation: what the network applies to its pre-activations: a name or an elementwise
        function. Default: `model.activation` where the model has it; else the one of
        `initjax.activations` that explains what layers are given.
      loss: `loss(output)`, a scalar, for the gradients. Default: a random cotangent.
      key: the key of that cotangent.
      **apply_kwargs: for the model, such as `train=True, mutable=["batch_stats"]`.

    Returns:
      A `Signal`, with what `predict` says beside what was measured.

    Raises:
      UserError (a ValueError): what `initjax.taps.record` raises, an unknown activation, or inputs
        that are no batch of floating-point numbers.

    >>> from initjax.models import create_model
    >>> model = create_model("mlp(depth=4, width=64)", kernel_init="he_normal")
    >>> x = jax.random.normal(jax.random.key(0), (32, 8, 8, 1))
    >>> signal = measure(model, model.init(jax.random.key(1), x), x)
    >>> signal.verdict, [layer.path for layer in signal.layers][-1]
    ('healthy', 'Dense_4')
    """
    observation = observe(
        model,
        variables,
        x,
        activation=activation,
        loss=loss,
        key=key,
        apply_kwargs=apply_kwargs,
    )
    return _signal(observation)


def predict(
    model: Any,
    variables: Any,
    x: Any,
    *,
    activation: str | Callable | None = None,
    key: jax.Array | None = None,
    **apply_kwargs: Any,
) -> tuple[Prediction, ...]:
    """What mean-field theory says of a network with these weight variances and these inputs.

    With m2 and mb2 the mean squares of a layer's weights and biases, and K_ab = E[x_a x_b] of what
    it is given for the examples a, b,

        E[z_a z_b] = fan_in m2 K_ab + mb2,     K'_ab = E[phi(z_a) phi(z_b)],

    where z is Gaussian, as in layers of infinitely many units with independent weights of mean 0;
    the kernels of a residual stream and its branch add. K of the first layer is that of the inputs.
    In convolutions the second moments are followed position by position, padding included, but not
    the correlations.

    The band is what a finite width leaves to chance. Given the layer before, the mean square of the
    z of N units has the variance 2 mean_ab K_ab^2 / N, and that of their phi(z) has
    mean_ab Cov(phi(z_a)^2, phi(z_b)^2) / N, which the next layers pass on by chi_q. These add up
    over layers, in the log of the variance: the band is exp(+-1.96 sd). In convolutions positions
    and examples count as one, so that the band is wide.

    Which layer feeds which is found from a run with these inputs. Predictions end where an input is
    neither the network's, nor z or phi(z) of an earlier layer, nor a residual sum of those: after
    pooling or normalization, where weights are used twice, and where they have a common mean.

    Args:
      model: as `measure`.
      variables: as `measure`.
      x: as `measure`.
      activation: as `measure`.
      key: as `measure`.
      **apply_kwargs: as `measure`.

    Returns:
      A `Prediction` for every use of a layer, in execution order.

    Raises:
      UserError (a ValueError): as `measure`.

    >>> import flax.linen as nn
    >>> from initjax.initializers import he_normal
    >>> model = nn.Dense(512, kernel_init=he_normal(), use_bias=False)
    >>> x = jax.random.normal(jax.random.key(0), (64, 512))
    >>> (layer,) = predict(model, model.init(jax.random.key(1), x), x)
    >>> round(layer.variance, 1)  # 2 / fan_in, times 512 inputs of variance 1
    2.0
    """
    signal = measure(model, variables, x, activation=activation, key=key, **apply_kwargs)
    return tuple(layer.predicted for layer in signal.layers)


def _signal(observation: Observation) -> Signal:
    activation = observation.activation
    phi = None if activation is None else get_activation(activation)
    predictions = predict_layers(
        observation.x, observation.facts, observation.links, phi, observation.output
    )
    input_variance = float((observation.x**2).mean())
    is_two_sided = phi is not None and _is_flat_on_both_sides(phi)
    layers = []
    for measured, prediction in zip(observation.layers, predictions, strict=True):
        layer = Layer(
            path=measured.path,
            number=measured.number,
            units=measured.units,
            **measured.numbers,
            predicted=prediction,
            histogram=tuple(int(count) for count in measured.histogram),
        )
        words = verdicts.judge_layer(layer, input_variance, is_two_sided)
        layers.append(dataclasses.replace(layer, verdict=words))
    hidden = layers[:-1]
    squares = [layer.gradient_norm and layer.gradient_norm**2 for layer in hidden]
    gradient = verdicts.factor_per_layer(squares)
    return Signal(
        layers=tuple(layers),
        activation=_name(activation),
        num_inputs=len(observation.x),
        input_variance=input_variance,
        factor=verdicts.factor_per_layer([layer.variance for layer in hidden]),
        gradient_factor=None if gradient is None else 1 / gradient,
        chi_1=_geometric_mean([p.chi_1 for p in predictions[:-1]]),
        chi_q=_geometric_mean([p.chi_q for p in predictions[:-1]]),
        verdict=verdicts.judge_network(layers),
    )


def _name(activation) -> str | None:
    if activation is None or isinstance(activation, str):
        return activation
    return getattr(activation, "__name__", None) or repr(activation)


def _geometric_mean(values) -> float | None:
    positive = [value for value in values if value is not None and 0 < value < math.inf]
    return math.exp(np.mean(np.log(positive))) if positive else None


def _is_flat_on_both_sides(phi) -> bool:
    slopes = np.abs(evaluator(phi, derivative=True)(np.array([-30.0, 30.0]))[1])
    return bool((slopes < 1e-3).all())


def advise(activation: str | Callable) -> str:
    """Which weights keep the signal of a deep plain network with this activation.

    Raises:
      UserError (a ValueError): an unknown activation.

    >>> advise("relu").rpartition(": ")[2]
    'weight variance 2 / fan_in.'
    """
    get_activation(activation)
    name = _name(activation)
    try:
        point = edge_of_chaos(activation)
    except UserError as error:
        return str(error)
    biases = f", bias variance {point.bias_variance:.4g}" if point.bias_variance else ""
    return (
        f"{name} keeps the variance with edge_of_chaos_kernel(activation={name}): weight variance"
        f" {point.weight_variance:.4g} / fan_in{biases}."
    )
