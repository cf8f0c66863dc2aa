"""One training step and one evaluation step: pure functions of one replica.

Both see one device's share of a batch, and reduce over the axis "batch" of the devices; a replica
that lives on one device alone has no axis (None), and its share is the whole.
"""

import inspect
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from initjax.training.objective import DEFAULT_LOSS, loss_and_metrics, summed_loss

AXIS = "batch"

# Where models sow the logits of side heads, and the weight of their loss: Szegedy et al. 2015,
# "Going deeper with convolutions", section 5.
SIDE_HEADS, SIDE_WEIGHT = "auxiliary_logits", 0.3


@flax.struct.dataclass
class TrainState:
    """What a training step changes."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any


def train_step(
    state: TrainState,
    batch,
    key,
    *,
    model,
    optimizer,
    label_smoothing=0.0,
    loss=DEFAULT_LOSS,
    axis=AXIS,
):
    """One step on one device's share of a batch.

    Logits [B, num_classes] of side heads, which a model sows in the collection "auxiliary_logits",
    have the same loss; 0.3 of each is added to what is minimized. Metrics are the main head's.

    Args:
      state: the same on every device.
      batch: {"image": [B, H, W, C] float32, "label": [B] int}, this device's share.
      key: the step's key, the same on every device; a dropout layer gets a part of it.
      model: a Flax Linen module that puts out logits [B, num_classes]; told train=True if it takes
        that; any batch normalization reduces over `axis`.
      optimizer: optax transformation.
      label_smoothing, loss: as in `loss_and_metrics`.
      axis: of the devices; None: this one sees the whole batch.

    Returns:
      (state, metrics), the same on every device; metrics are sums over the whole batch.
    """
    mask = jnp.ones(batch["label"].shape, bool)
    dropout_key = jax.random.fold_in(key, 0 if axis is None else lax.axis_index(axis))
    mode = {"train": True} if "train" in inspect.signature(model.__call__).parameters else {}

    def loss_fn(params):
        logits, updates = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch["image"],
            **mode,
            mutable=["batch_stats", SIDE_HEADS],
            rngs={"dropout": dropout_key},
        )
        targets = (batch["label"], mask, label_smoothing, loss)
        metrics = loss_and_metrics(logits, *targets)
        total = metrics["loss"]
        for side in jax.tree.leaves(updates.get(SIDE_HEADS, {})):
            total += SIDE_WEIGHT * summed_loss(side, *targets)["loss"]
        return total / metrics["count"], (updates, metrics)

    grads, (updates, metrics) = jax.grad(loss_fn, has_aux=True)(state.params)
    if axis is not None:
        # One reduction of one vector: a hundred small ones are 11 times slower on CPU devices.
        flat, unravel = ravel_pytree(grads)
        grads = unravel(lax.pmean(flat, axis))
    deltas, opt_state = optimizer.update(grads, state.opt_state, state.params)
    state = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, deltas),
        # Already shared: batch normalization reduces over the same axis.
        batch_stats=updates.get("batch_stats", {}),
        opt_state=opt_state,
    )
    return state, _summed(metrics, axis)


def eval_step(state: TrainState, batch, *, model, loss=DEFAULT_LOSS, axis=AXIS):
    """Metrics of one device's share of a batch, summed over all devices; see `loss_and_metrics`."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = model.apply(variables, batch["image"])
    metrics = loss_and_metrics(logits, batch["label"], batch["mask"], loss=loss)
    return _summed(metrics, axis)


def _summed(metrics, axis):
    return metrics if axis is None else lax.psum(metrics, axis)
