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

import jax
import jax.numpy as jnp
import optax


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


def metric(name: str, mean: Callable[[Mapping[str, float]], float]):
    """Registers the decorated function as the `sums` of a metric; rows have them in this order."""

    def register(sums):
        if name in METRICS:
            raise ValueError(f"metric {name!r} is registered twice.")
        METRICS[name] = Metric(sums, mean)
        return sums

    return register


@metric("loss", mean=lambda sums: sums["loss"] / max(sums["count"], 1))
def cross_entropy(logits, labels, mask, label_smoothing):
    """Summed cross-entropy, label_smoothing of the target spread evenly over all classes."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    losses = optax.softmax_cross_entropy(logits, targets)
    return {"loss": jnp.where(mask, losses, 0.0).sum()}


@metric("accuracy", mean=lambda sums: sums["correct"] / max(sums["count"], 1))
def correct(logits, labels, mask, label_smoothing):
    """How many images have their largest logit at their label."""
    return {"correct": ((logits.argmax(-1) == labels) & mask).sum()}


def loss_and_metrics(logits, labels, mask, label_smoothing: float = 0.0) -> dict[str, jax.Array]:
    """The sums of all metrics, and the count that their means need.

    Args:
      logits: [B, num_classes] float32.
      labels: [B] int.
      mask: [B] bool; what is not in it counts as nothing.
      label_smoothing: probability spread evenly over all classes.

    Returns:
      {"loss": summed cross-entropy, "correct": int, "count": int} and what other metrics sum.
    """
    sums = {"count": mask.sum()}
    for one in METRICS.values():
        sums |= one.sums(logits, labels, mask, label_smoothing)
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
