"""Losses and metrics."""

import jax
import jax.numpy as jnp
import optax


def loss_and_metrics(logits, labels, mask, label_smoothing: float = 0.0):
    """Summed cross-entropy and the counts that its mean and the accuracy need.

    Args:
      logits: [B, num_classes] float32.
      labels: [B] int.
      mask: [B] bool; what is not in it counts as nothing.
      label_smoothing: probability spread evenly over all classes.

    Returns:
      {"loss": summed cross-entropy, "correct": int, "count": int}.
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    losses = optax.softmax_cross_entropy(logits, targets)
    correct = (logits.argmax(-1) == labels) & mask
    return {
        "loss": jnp.where(mask, losses, 0.0).sum(),
        "correct": correct.sum(),
        "count": mask.sum(),
    }


def zero_metrics():
    return {"loss": jnp.float32(0), "correct": jnp.int32(0), "count": jnp.int32(0)}


def means(metrics) -> tuple[float, float]:
    """(mean loss, accuracy) of summed metrics."""
    loss, correct, count = (float(metrics[name]) for name in ("loss", "correct", "count"))
    return loss / max(count, 1), correct / max(count, 1)
