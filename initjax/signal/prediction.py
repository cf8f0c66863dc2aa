"""Mean-field theory of a given network: what wide layers with its weight variances would do.

Forward, layer by layer, with the mean square m2 of a layer's weights and mb2 of its biases,

    E[z_a z_b] = m2 sum_j E[x_ja x_jb] + mb2     over the inputs j of a unit, examples a, b,

and E[phi(z_a) phi(z_b)] of Gaussian z; at a residual sum the kernels of stream and branch add
(Poole et al. 2016, arXiv:1606.05340; Yang & Schoenholz 2017, arXiv:1712.08969). Backward,

    E[(dL/dx_j)^2] = m2 sum_i E[(dL/dz_i)^2],     E[(dL/dz)^2] = E[phi'(z)^2] E[(dL/dx)^2].
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from initjax.signal.links import Link
from initjax.signal.operations import (
    Operation,
    State,
    attend,
    normalization_slope,
    normalize,
    pool,
)
from initjax.theory.activations import get_activation
from initjax.theory.moments import Moments, moments, pair_moment

# Examples whose second moments are followed position by position through convolutions.
_MAP_EXAMPLES = 8
_TINY = 1e-100
_HUGE = 1e70  # float32 overflows before pre-activations have this variance


@dataclasses.dataclass(frozen=True)
class LayerFacts:
    """What theory needs to know of a layer.

    Attributes:
      input_shape: shape of its input, with the batch.
      output_shape: shape of its output, likewise.
      kernel_shape: shape of its kernel.
      kernel_mean: mean of its weights.
      kernel_square: mean of their squares, m2.
      bias_square: mean of the squares of its biases, mb2; 0 without.
      is_first_use: False where parameters are used again.
      spread: `spread(s)`, the layer with weights 1 and biases 0 on s.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    kernel_mean: float
    kernel_square: float
    bias_square: float
    is_first_use: bool
    spread: Callable[[np.ndarray], np.ndarray]

    @property
    def is_dense(self) -> bool:
        """Whether it is a matrix product over the last axis."""
        return (
            len(self.kernel_shape) == 2
            and self.input_shape[-1:] == self.kernel_shape[:1]
            and self.output_shape == (*self.input_shape[:-1], self.kernel_shape[1])
        )


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What theory says of a layer's pre-activations; None where it says nothing.

    Attributes:
      variance: expected variance over all values of the layer.
      low: the 2.5 % quantile of the variance over draws of the weights.
      high: the 97.5 % quantile.
      correlation: mean correlation of pairs of inputs.
      gradient_variance: expected variance of the gradient, that of the output's being 1.
      chi_1: m2 fan_in E[phi'(z)^2] of the layer: by how much gradients, and distances of nearby
        inputs, grow from the pre-activations of the layer before.
      chi_q: m2 fan_in d E[phi^2] / dq: by how much a deviation of the variance grows likewise.
    """

    variance: float | None = None
    low: float | None = None
    high: float | None = None
    correlation: float | None = None
    gradient_variance: float | None = None
    chi_1: float | None = None
    chi_q: float | None = None


def predict_layers(
    x: np.ndarray,
    layers: Sequence[LayerFacts],
    links: Sequence[Link | None],
    activation: Callable | None,
    output: int | None,
    operations: Sequence[Operation | None] = (),
) -> list[Prediction]:
    """The prediction of every layer; see `initjax.signal.predict`."""
    operations = operations or [None] * len(layers)
    slopes: list[float | None] = []  # of squared gradients, through the operations
    inputs: list[State | None] = []
    expected: list[State | None] = []  # z, given what comes before
    outputs: list[State | None] = []  # z, as the units turn out
    activated: list[tuple[State, Moments] | None] = []
    for layer, link, operation in zip(layers, links, operations, strict=True):
        slope = None
        if operation is not None:
            given, slope = _operated(operation, layer, outputs, activation, layers)
        elif link == Link():
            given = _of_network_input(x, layer)
        else:
            given = _given(link, inputs, outputs, activated, layers)
        state = _through(layer, given)
        slopes.append(slope)
        inputs.append(given)
        outputs.append(state and _realized(state, layer.output_shape[-1]))
        expected.append(state)
        activated.append(_activate(state, activation, layer))
    gradients = _gradients(layers, links, activated, output, operations, slopes)
    return [
        _prediction(layer, link, state, activated, gradient)
        for layer, link, state, gradient in zip(layers, links, expected, gradients, strict=True)
    ]


def _given(link, inputs, outputs, activated, layers) -> State | None:
    """The state of a layer's input that other layers make."""
    if link is None:
        return None
    if link.activated:
        branch = activated[link.layer] and activated[link.layer][0]
    else:
        branch = outputs[link.layer]
    if link.stream is None or branch is None:
        return branch
    stream = inputs[link.stream]
    if stream is None or stream.second.shape != branch.second.shape:
        return None
    width = layers[link.layer].output_shape[-1]
    cross = stream.mean * branch.mean
    second = stream.second + branch.second + 2 * cross
    kernel = None
    if stream.kernel is not None and branch.kernel is not None:
        outer = np.outer(stream.mean, branch.mean)
        kernel = stream.kernel + branch.kernel + outer + outer.T
    # Stream and branch deviate together, for the branch is made of the stream; by chance they are
    # not quite orthogonal.
    deviation = stream.second.mean() * math.sqrt(stream.log_variance) + (
        branch.second.mean() * math.sqrt(branch.log_variance)
    )
    known = stream.kernel is not None and branch.kernel is not None
    product = stream.kernel * branch.kernel if known else stream.second * branch.second
    variance = deviation**2 + 4 * product.mean() / width
    log_variance = math.log1p(variance / second.mean() ** 2) if second.mean() > 0 else 0.0
    pair_variance = stream.pair_variance + branch.pair_variance + 2 * product.mean() / width
    return State(
        second,
        stream.mean + branch.mean,
        kernel,
        log_variance,
        pair_variance if kernel is not None else 0.0,
    )


def _operated(operation, layer, outputs, activation, layers) -> tuple[State | None, float | None]:
    """The state of an input that an operation makes, and the factor of squared gradients."""
    if operation.layer is None:
        second = np.full((_MAP_EXAMPLES, *layer.input_shape[1:-1]), operation.gain**2)
        return State(second, np.zeros_like(second), None, 0.0), None
    state, slope = outputs[operation.layer], 1.0
    if operation.scores is not None:
        query, key = (outputs[i] for i in operation.scores)
        if state is None or query is None or key is None:
            return None, None
        return attend(operation, query, key, state), None
    if operation.normalized and state is not None:
        slope = normalization_slope(operation, state) if state.second.mean() > 0 else 0.0
        state = normalize(operation, state)
    phi = activation if operation.activated else get_activation("linear")
    pair = _activate(state, phi, layers[operation.layer])
    if state is None or pair is None:
        return None, None
    given, of = pair
    if operation.window is None:
        return given, slope * float(of.slope.mean())
    given, through = pool(operation, state, given, of, phi)
    return given, None if through is None else slope * through


def _of_network_input(x, layer) -> State:
    if len(layer.input_shape) == 2:
        x = x.reshape(layer.input_shape)
        return State((x**2).mean(1), x.mean(1), x @ x.T / x.shape[1], 0.0)
    x = x.reshape(layer.input_shape)[:_MAP_EXAMPLES]
    return State((x**2).mean(-1), x.mean(-1), None, 0.0)


def _through(layer: LayerFacts, given: State | None) -> State | None:
    """The state of a layer's pre-activations."""
    if given is None or not layer.is_first_use or _has_common_mean(layer):
        return None
    m2, mb2 = layer.kernel_square, layer.bias_square
    if layer.is_dense:
        if given.second.shape[1:] != layer.input_shape[1:-1]:
            if len(layer.input_shape) != 2:
                return None
            # Flattened: a unit sees all positions.
            given = dataclasses.replace(
                given,
                second=given.second.reshape(len(given.second), -1).mean(1),
                mean=given.mean.reshape(len(given.mean), -1).mean(1),
                kernel=None,
            )
        fan_in = layer.kernel_shape[0]
        second = m2 * fan_in * given.second + mb2
        kernel = None if given.kernel is None else m2 * fan_in * given.kernel + mb2
        pair_variance = (m2 * fan_in) ** 2 * given.pair_variance
    else:
        if given.second.shape[1:] != layer.input_shape[1:-1]:
            return None
        full = np.broadcast_to(
            given.second[..., None], (*given.second.shape, layer.input_shape[-1])
        )
        spread = np.asarray(layer.spread(full.astype(np.float32)), np.float64)
        second, kernel, pair_variance = m2 * spread.mean(-1) + mb2, None, 0.0
    if not (second < _HUGE).all():
        return None
    share = 1 - mb2 / second.mean() if second.mean() > 0 else 0.0  # what the weights bring
    return State(
        second, np.zeros_like(second), kernel, share**2 * given.log_variance, pair_variance
    )


def _has_common_mean(layer) -> bool:
    """Whether the weights have a mean that theory, for which it is 0, may not leave out."""
    shared = layer.kernel_mean**2 * math.prod(layer.kernel_shape)
    return layer.kernel_square > 0 and shared > 25 * layer.kernel_square  # five standard errors


def _realized(state: State, width: int) -> State:
    """z itself, whose mean square differs from that which its finitely many units expect."""
    q = state.second.mean()
    if not q > 0:
        return state
    squares = state.second if state.kernel is None else state.kernel
    noise = math.log1p(2 * ((squares**2).mean() + state.pair_variance) / width / q**2)
    pair_variance = 0.0
    if state.kernel is not None:
        pair_variance = state.pair_variance + (q**2 + (squares**2).mean()) / width
    return dataclasses.replace(
        state, log_variance=state.log_variance + noise, pair_variance=pair_variance
    )


def _activate(state, activation, layer) -> tuple[State, Moments] | None:
    """The state of phi(z), and the moments from which it is made."""
    if state is None or activation is None:
        return None
    width = layer.output_shape[-1]
    of = moments(activation, np.maximum(state.second, _TINY))
    mean_second = of.second.mean()
    if not mean_second > 0:
        return State(of.second, of.mean, None, 0.0), of
    kernel, pair_variance = None, 0.0
    if state.kernel is not None:
        norms = np.sqrt(np.maximum(state.second, _TINY))
        q = np.outer(norms, norms)
        correlation = _correlations(state.kernel)
        kernel = pair_moment(of.series, of.series, correlation)
        np.fill_diagonal(kernel, of.second)
        # Correlations are not exactly as expected either: their mean square is larger.
        wider = np.minimum(
            np.sqrt(correlation**2 + state.pair_variance / np.maximum(q, _TINY) ** 2), 1
        )
        wider = np.copysign(wider, correlation)
        np.fill_diagonal(wider, 1)
        products = pair_moment(of.square_series, of.square_series, wider)
        noise = (products - np.outer(of.second, of.second)).mean()
        orders = np.arange(of.series.shape[-1])
        slope = pair_moment((orders * of.series)[:, 1:], of.series[:, 1:], correlation) / q
        fresh = np.maximum(products - kernel**2, 0) / width
        pair_variance = float(np.median(slope**2) * state.pair_variance + np.median(fresh))
    else:  # an upper bound, as if all examples and positions moved together
        noise = (of.fourth - of.second**2).mean()
    inherited = (of.growth * state.second).mean() / mean_second
    log_variance = inherited**2 * state.log_variance + math.log1p(
        max(noise, 0.0) / width / mean_second**2
    )
    return State(of.second, of.mean, kernel, log_variance, pair_variance), of


def _correlations(kernel) -> np.ndarray:
    norms = np.sqrt(np.maximum(np.diag(kernel), _TINY))
    return np.clip(kernel / np.outer(norms, norms), -1, 1)


def _prediction(layer, link, state, activated, gradient) -> Prediction:
    if state is None:
        return Prediction(gradient_variance=gradient)
    width = layer.output_shape[-1]
    q = state.second.mean()
    if state.kernel is None:
        variance, correlation = q, None
    else:
        # The mean of all values is not quite 0 in a finite layer: it has this variance.
        variance = q - state.kernel.mean() / width
        correlation = _mean_off_diagonal(_correlations(state.kernel))
    low = high = variance
    if q > 0:
        log_variance = _realized(state, width).log_variance
        middle, reach = -log_variance / 2, 1.959964 * math.sqrt(log_variance)
        low, high = (variance * math.exp(middle + sign * reach) for sign in (-1, 1))
    chi_1 = chi_q = None
    if link is not None and link.activated and activated[link.layer] is not None:
        of = activated[link.layer][1]
        fan_in = _connections(layer) / math.prod(layer.output_shape[1:])
        chi_1 = float(layer.kernel_square * fan_in * of.slope.mean())
        chi_q = float(layer.kernel_square * fan_in * of.growth.mean())
    return Prediction(float(variance), float(low), float(high), correlation, gradient, chi_1, chi_q)


def _mean_off_diagonal(matrix) -> float | None:
    number = len(matrix)
    if number < 2:
        return None
    return float((matrix.sum() - np.trace(matrix)) / (number * (number - 1)))


def _connections(layer) -> float:
    """How many pairs (input, output) of one example a layer's weights connect."""
    if layer.is_dense:
        return math.prod(layer.output_shape[1:]) * layer.kernel_shape[0]
    ones = np.ones((1, *layer.input_shape[1:]), np.float32)
    return float(np.asarray(layer.spread(ones), np.float64).sum())


def _gradients(layers, links, activated, output, operations, slopes) -> list[float | None]:
    """Gradient variance with respect to every layer's pre-activations, from the output back."""
    found: list[float | None] = [None] * len(layers)
    if output is None:
        return found
    outward = [0.0] * len(layers)  # with respect to z
    inward = [0.0] * len(layers)  # with respect to the layer's input, from its later uses
    outward[output] = 1.0
    for i in reversed(range(output + 1)):
        layer, link = layers[i], links[i]
        if not layer.is_first_use or _has_common_mean(layer):
            break
        found[i] = outward[i]
        if link is None and slopes[i] is None:
            break  # what comes before may feed this layer in ways that are not known
        through = outward[i] * layer.kernel_square * _connections(layer)
        total = inward[i] + through / math.prod(layer.input_shape[1:])
        if link is None:
            outward[operations[i].layer] += total * slopes[i]
            continue
        if link.stream is not None:
            inward[link.stream] += total
        if link.layer is None:
            continue
        if not link.activated:
            outward[link.layer] += total
        elif activated[link.layer] is None:
            break
        else:
            outward[link.layer] += total * float(activated[link.layer][1].slope.mean())
    return [None if value is None or not math.isfinite(value) else value for value in found]
