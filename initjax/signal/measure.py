"""A network's signal, measured or predicted, by layer."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from initjax.initializers.edge_of_chaos import edge_of_chaos
from initjax.signal import verdict as verdicts
from initjax.signal.layers import Layer, Signal
from initjax.signal.prediction import Prediction as Prediction, predict_layers
from initjax.signal.program import Observation, observe
from initjax.support.errors import UserError
from initjax.theory.activations import get_activation
from initjax.theory.fixed_points import CriticalPoint, DepthScales, depth_scales, stable_q
from initjax.theory.gaussian import evaluator


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
      model: a Flax Linen or NNX module; see `initjax.network.taps.record` for what is supported.
      variables: its variables, or its parameters alone; of an NNX module a state, or None.
      x: a batch of inputs, floating-point [B, ...], 2 examples or more.
      activation: what the network applies to its pre-activations: a name or an elementwise
        function. Default: `model.activation` where the model has it; else the one of
        `initjax.theory.activations` that explains what layers are given.
      loss: `loss(output)`, a scalar, for the gradients. Default: a random cotangent.
      key: the key of that cotangent.
      **apply_kwargs: for the model, such as `train=True, mutable=["batch_stats"]`.

    Returns:
      A `Signal`, with what `predict` says beside what was measured.

    Raises:
      UserError (a ValueError): what `taps.record` raises, an unknown activation, or inputs
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
    neither the network's, nor z or phi(z) of an earlier layer, nor a residual sum of those, nor of
    the following; where weights are used twice; and where they have a common mean.

    Layer, RMS and batch normalization leave the mean square gamma^2, whatever came before, and
    divide squared gradients by Var(z) / gamma^2. Average and maximum pooling, and softmax attention
    (scores taken for Gaussian and independent: q c + q (1 - c) E[sum_b p_b^2], uniform attention
    where they are small) need the correlation c of positions, which is taken as measured; no
    gradients are predicted through attention. See `initjax.signal.operations`.

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
        observation.x,
        observation.facts,
        observation.links,
        phi,
        observation.output,
        observation.operations,
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
    factor = verdicts.factor_per_layer([layer.variance for layer in hidden])
    gradient_factor = None if gradient is None else 1 / gradient
    streams = {(link.layer, link.stream) for link in observation.links if link is not None}
    return Signal(
        layers=tuple(layers),
        activation=_name(activation),
        num_inputs=len(observation.x),
        input_variance=input_variance,
        factor=factor,
        gradient_factor=gradient_factor,
        chi_1=_geometric_mean([p.chi_1 for p in predictions[:-1]]),
        chi_q=_geometric_mean([p.chi_q for p in predictions[:-1]]),
        scales=_scales(activation, observation),
        num_branches=len({layer for layer, stream in streams if stream is not None}),
        verdict=verdicts.judge_network(layers, factor, gradient_factor),
    )


def _scales(activation, observation) -> DepthScales | None:
    """Theory's, if the hidden layers follow one another and are alike."""
    hidden = list(zip(observation.facts, observation.links, strict=True))[1:-1]
    if activation is None or not hidden:
        return None
    for facts, link in hidden:
        if link is None or not link.activated or link.stream is not None or not facts.is_dense:
            return None
    if min(facts.kernel_square for facts, _ in hidden) == 0:
        return None
    weights = np.array([f.kernel_square * f.kernel_shape[0] for f, _ in hidden])
    biases = np.array([f.bias_square for f, _ in hidden])
    # A layer's mean square is itself random.
    if weights.max() > 1.25 * weights.min() or biases.max() > 2 * biases.min():
        return None
    if max(facts.kernel_mean**2 / facts.kernel_square for facts, _ in hidden) > 0.01:
        return None
    try:
        return depth_scales(activation, float(weights.mean()), float(biases.mean()))
    except UserError:  # an activation whose moments are not finite
        return None


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


def recommend(activation: str | Callable) -> CriticalPoint | None:
    """The edge of chaos at q* = 1 or, where none is stable there, at the nearest q*; None: nowhere.

    Raises:
      UserError (a ValueError): an unknown activation, or one that is flat.
    """
    q = stable_q(activation)
    return None if q is None else edge_of_chaos(activation, q)


def advise(activation: str | Callable) -> str:
    """Which weights keep the signal of a deep plain network with this activation.

    Raises:
      UserError (a ValueError): an unknown activation.

    >>> advise("relu").rpartition(": ")[2]
    'weight variance 2 / fan_in.'
    """
    get_activation(activation)
    name = _name(activation)
    point = recommend(activation)
    if point is None:
        return f"{name} has no stable edge of chaos: no weights keep its variance."
    biases = f", bias variance {point.bias_variance:.4g}" if point.bias_variance else ""
    q = "" if point.q == 1 else f", q={point.q:g}"
    return (
        f"{name} keeps the variance with edge_of_chaos_kernel(activation={name!r}{q}): weight"
        f" variance {point.weight_variance:.4g} / fan_in{biases}."
    )
