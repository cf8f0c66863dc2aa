"""What refinements by gradient descent share."""

import jax
import jax.numpy as jnp
import optax

from initjax.support.arguments import count
from initjax.support.errors import UserError


def only_if_finite(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """`optimizer` without its steps along gradients that are not finite."""
    return optax.apply_if_finite(optimizer, max_consecutive_errors=2**31 - 1)


def cross_entropy(outputs, labels) -> jax.Array:
    """Mean softmax cross-entropy of logits [B, classes] and integer labels [B]."""
    return optax.softmax_cross_entropy_with_integer_labels(
        outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32)), labels
    ).mean()


def random_batches(data, size, number, key):
    """`number` random batches of `size` samples."""
    total = len(data[0])
    size = count(size, "batch_size")
    if size > total:
        raise UserError(
            f"A step needs {size} samples, and the calibration data have {total}: choose a smaller"
            " batch_size."
        )
    for i in range(number):
        indices = jax.random.choice(jax.random.fold_in(key, i), total, (size,), replace=False)
        yield jax.tree.map(lambda x, indices=indices: x[indices], data)
