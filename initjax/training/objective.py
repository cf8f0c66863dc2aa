"""Losses, and the one table of metrics.

A metric is summed over the images of a split inside the compiled programs, over devices and steps,
and becomes a mean outside. Its name is, behind train_ and eval_, its key in metrics.jsonl and in
TensorBoard, and its word in the printed line. A new one is a function that `metric` registers:

    @metric("top5", mean=lambda sums: sums["top5"] / max(sums["count"], 1))
    def top5(logits, labels, mask, label_smoothing):
        best = jax.lax.top_k(logits, 5)[1]
        return {"top5": ((best == labels[:, None]).any(-1) & mask).sum()}
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import xlogy

DEFAULT_LOSS = "softmax_cross_entropy"


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss of logits z [K] against targets t [K], which are one-hot or smoothed.

    Sums over classes: by a logit the three have the gradients softmax(z) - t, sigmoid(z) - t and
    2 (z - t), whatever K, so that learning rates are of one order.

    Attributes:
      of_images: (logits [B, K] float32, targets [B, K]) -> [B]; traced.
      of_frequencies: (f, q, a) -> the mean loss of the best prediction that is the same for every
        image: f [K] are the classes' frequencies, a the label smoothing, and q = (1 - a) f + a / K
        is the mean of the targets.
    """

    of_images: Callable[[jax.Array, jax.Array], jax.Array]
    of_frequencies: Callable[[np.ndarray, np.ndarray, float], float]


def _entropy(q):
    return -xlogy(q, q).sum()


LOSSES = {
    # -sum_k t_k ln softmax(z)_k; at best the entropy of q.
    DEFAULT_LOSS: Loss(optax.softmax_cross_entropy, lambda f, q, a: _entropy(q)),
    # -sum_k (t_k ln s_k + (1 - t_k) ln(1 - s_k)), s = sigmoid(z); at best each class's entropy.
    "sigmoid_cross_entropy": Loss(
        lambda logits, targets: optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1),
        lambda f, q, a: _entropy(q) + _entropy(1 - q),
    ),
    # sum_k (z_k - t_k)^2; at best the sum of the targets' variances.
    "squared_error": Loss(
        lambda logits, targets: jnp.square(logits - targets).sum(-1),
        lambda f, q, a: (1 - a) ** 2 * (f * (1 - f)).sum(),
    ),
}


def loss_of_frequencies(frequencies, label_smoothing: float = 0.0, loss: str = DEFAULT_LOSS):
    """The training loss of predicting the classes' frequencies [K], whatever the image."""
    f = np.asarray(frequencies, np.float64)
    q = (1 - label_smoothing) * f + label_smoothing / len(f)
    return float(LOSSES[loss].of_frequencies(f, q, label_smoothing))


def loss_of_zeros(
    num_classes: int, label_smoothing: float = 0.0, loss: str = DEFAULT_LOSS
) -> float:
    """The loss of logits that are all 0, as from a head of zeros: ln K of softmax cross-entropy."""
    targets = optax.smooth_labels(np.eye(1, num_classes, dtype=np.float32), label_smoothing)
    return float(LOSSES[loss].of_images(jnp.zeros((1, num_classes)), targets)[0])


@dataclasses.dataclass(frozen=True)
class Metric:
    """One quantity of a split.

    Attributes:
      sums: (logits [B, K] float32, labels [B] int, mask [B] bool, label_smoothing) -> {name: sum
        over the images in the mask}, under names of its own; traced.
      mean: {name: number} of all metrics' sums and of "count", the number of images -> number.
    """

    sums: Callable[..., dict[str, jax.Array]]
    mean: Callable[[Mapping[str, float]], float]


METRICS: dict[str, Metric] = {}


_Sums = TypeVar("_Sums", bound=Callable[..., Any])


def metric(name: str, mean: Callable[[Mapping[str, float]], float]) -> Callable[[_Sums], _Sums]:
    """Registers the decorated function as the `sums` of a metric; rows have them in this order."""

    def register(sums: _Sums) -> _Sums:
        if name in METRICS:
            raise ValueError(f"metric {name!r} is registered twice.")
        METRICS[name] = Metric(sums, mean)
        return sums

    return register


@metric("loss", mean=lambda sums: sums["loss"] / max(sums["count"], 1))
def summed_loss(logits, labels, mask, label_smoothing, loss: str = DEFAULT_LOSS):
    """The summed loss, label_smoothing of the target spread evenly over all classes."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    losses = LOSSES[loss].of_images(logits, targets)
    return {"loss": jnp.where(mask, losses, 0.0).sum()}


@metric("accuracy", mean=lambda sums: sums["correct"] / max(sums["count"], 1))
def correct(logits, labels, mask, label_smoothing):
    """How many images have their largest logit at their label."""
    return {"correct": ((logits.argmax(-1) == labels) & mask).sum()}


def loss_and_metrics(
    logits, labels, mask, label_smoothing: float = 0.0, loss: str = DEFAULT_LOSS
) -> dict[str, jax.Array]:
    """The sums of all metrics, and the count that their means need.

    Args:
      logits: [B, num_classes] float32.
      labels: [B] int.
      mask: [B] bool; what is not in it counts as nothing.
      label_smoothing: probability spread evenly over all classes.
      loss: a name in `LOSSES`: what the metric "loss" is.

    Returns:
      {"loss": the summed loss, "correct": int, "count": int} and what other metrics sum.
    """
    sums = {"count": mask.sum()}
    for name, one in METRICS.items():
        chosen = {"loss": loss} if name == "loss" else {}
        sums |= one.sums(logits, labels, mask, label_smoothing, **chosen)
    return sums


def zero_metrics(num_classes: int) -> dict[str, jax.Array]:
    """The sums over no images."""
    logits, labels = jnp.zeros((1, num_classes)), jnp.zeros(1, jnp.int32)
    # A function of its own: what JAX remembers of another one may lack a metric that came since.
    shapes = jax.eval_shape(
        lambda *batch: loss_and_metrics(*batch), logits, labels, jnp.zeros(1, bool)
    )
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def means(sums) -> tuple[float, ...]:
    """The means of summed metrics, in the order of the table: (loss, accuracy, ...)."""
    sums = {name: float(value) for name, value in sums.items()}
    return tuple(one.mean(sums) for one in METRICS.values())
