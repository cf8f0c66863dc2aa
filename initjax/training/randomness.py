"""Whatever is random in a run: functions of its one key, and of where the run stands.

A run that resumes repeats what it would have done, and the key may be traced: a population has one
a replica.
"""

import jax


def run_key(seed: int) -> jax.Array:
    """The key of which all others are folded."""
    return jax.random.key(seed)


def weights_key(key: jax.Array) -> jax.Array:
    """Of the initial weights."""
    return jax.random.fold_in(key, 0)


def orders_key(key: jax.Array) -> jax.Array:
    """Of the orders in which epochs show the images."""
    return jax.random.fold_in(key, 1)


def step_keys(key: jax.Array, step) -> tuple[jax.Array, jax.Array]:
    """(of the augmentation, of the model's dropout) in one step."""
    key_augment, key_model = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 2), step))
    return key_augment, key_model


def refinement_key(key: jax.Array) -> jax.Array:
    """Of the refinement of the weights, and of the images that it sees."""
    return jax.random.fold_in(key, 3)
