"""GradInit: scales that make the first step most useful."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from initjax.refine.calibration import split_batch
from initjax.refine.descent import cross_entropy, only_if_finite, random_batches
from initjax.refine.methods import register
from initjax.refine.network import Network
from initjax.refine.reports import Report, dead_layers, scalar_report
from initjax.support.arguments import count, one_of, positive
from initjax.support.dtypes import wide_dtype
from initjax.support.errors import UserError

_MOST_SHRINKS = 100  # steps that GradInit takes in the end to meet its constraint


@register
def gradinit(
    model: Any,
    params: Any,
    batch: Any,
    key: jax.Array,
    *,
    learning_rate: float = 0.1,
    gamma: float | None = None,
    inner: str = "sgd",
    steps: int = 100,
    batch_size: int = 64,
    floor: float = 0.01,
    optimizer: optax.GradientTransformation | None = None,
    loss: Callable = cross_entropy,
    held_out: Any = None,
) -> tuple[Any, Report]:
    """GradInit: factors of tensors for a good first step (Zhu et al. 2021, arXiv:2102.08098).

    Every tensor theta_k is multiplied by m_k >= floor, which are found by

        min_m  L(B'; theta_m - eta A[g])   such that   |g|_p <= gamma,   g = grad L(B; theta_m):

    the loss after one step of the optimizer that will train, on a batch B' half of which is B. For
    "sgd", A[g] = g and p = 2; for "adam", A[g] = sign(g) and p = 1. In each step, where the
    constraint is violated the norm goes down, else the loss. After the last, the norm of the
    gradient of all calibration data goes down until the constraint is met.

    Args:
      model: as in `consistency`.
      params: its parameters, from any initializer.
      batch: a pair (inputs, labels).
      key: a PRNG key, for the order of the data, and dropout.
      learning_rate: eta, of the training that follows.
      gamma: the bound of the norm. Default: 1 for "sgd", the source's; for "adam" the square root
        of the number of parameters, up to which the 1-norm can exceed the 2-norm.
      inner: "sgd" or "adam", which optimizer trains.
      steps: steps over m.
      batch_size: samples a step.
      floor: the least m.
      optimizer: any optax optimizer over m; default: `optax.adam(0.01)`.
      loss: (outputs, labels) to a scalar.
      held_out: as in `consistency`.

    Returns:
      (params, report), the report's objective being the loss after one step; it notes the norm.

    Raises:
      UserError (a ValueError): no labels, or an argument out of its range.

    >>> from initjax.models import create_model
    >>> model = create_model("mlp(depth=1, width=8)", kernel_init="normal(stddev=1.0)")
    >>> x = jax.random.normal(jax.random.key(0), (128, 4, 4, 1))
    >>> labels = (x.mean(axis=(1, 2, 3)) > 0).astype(int)
    >>> params = model.init(jax.random.key(1), x)["params"]
    >>> params, report = gradinit(
    ...     model, params, (x, labels), jax.random.key(2), steps=10, batch_size=32)
    >>> report.worse
    False
    """
    eta, floor = positive(learning_rate, "learning_rate"), positive(floor, "floor")
    steps = count(steps, "steps")
    one_of(inner, ("sgd", "adam"), "inner")
    if not isinstance(batch, (tuple, list)):
        raise UserError("gradinit needs labels: give batch=(inputs, labels).")
    calibration, held_out = split_batch(batch, held_out)
    if gamma is None:
        gamma = 1.0
        if inner == "adam":
            gamma = float(np.sqrt(sum(x.size for x in jax.tree.leaves(params))))
    gamma = positive(gamma, "gamma")
    optimizer = only_if_finite(optax.adam(0.01) if optimizer is None else optimizer)
    network = Network(model, key)

    def multiply(factors):
        return jax.tree.map(lambda m, x: x * m.astype(x.dtype), factors, params)

    def gradient(theta, batch):
        return jax.grad(lambda p: loss(network.apply(p, batch[0]), batch[1]))(theta)

    def norm_of(gradients):
        parts = [
            jnp.abs(g).sum() if inner == "adam" else (g**2).sum()
            for g in jax.tree.leaves(gradients)
        ]
        return sum(parts) if inner == "adam" else jnp.sqrt(sum(parts))

    def loss_after_step(theta, batch, other):
        gradients = gradient(theta, batch)
        moves = jax.tree.map(jnp.sign, gradients) if inner == "adam" else gradients
        theta = jax.tree.map(lambda x, a: x - eta * a, theta, moves)
        return loss(network.apply(theta, other[0]), other[1])

    def clamp(factors):
        return jax.tree.map(lambda m: jnp.maximum(m, floor), factors)

    @jax.jit
    def step(factors, state, batch, other):
        norm, down = jax.value_and_grad(lambda m: norm_of(gradient(multiply(m), batch)))(factors)
        gradients = jax.lax.cond(
            norm > gamma,
            lambda: down,
            lambda: jax.grad(lambda m: loss_after_step(multiply(m), batch, other))(factors),
        )
        updates, state = optimizer.update(gradients, state, factors)
        return clamp(optax.apply_updates(factors, updates)), state

    @jax.jit
    def shrink(factors, state, batch):
        """(the norm at `factors`, factors and state after a step that lowers it)."""
        norm, down = jax.value_and_grad(lambda m: norm_of(gradient(multiply(m), batch)))(factors)
        updates, state = optimizer.update(down, state, factors)
        return norm, clamp(optax.apply_updates(factors, updates)), state

    factors = jax.tree.map(lambda x: jnp.ones((), wide_dtype(x.dtype)), params)
    state = optimizer.init(factors)
    half = batch_size // 2
    for part in random_batches(calibration, batch_size + half, steps, jax.random.fold_in(key, 3)):
        first = jax.tree.map(lambda x: x[:batch_size], part)
        second = jax.tree.map(lambda x: x[half:], part)
        factors, state = step(factors, state, first, second)
    notes = list(dead_layers(network.statistics(params, calibration[0])))
    state = optimizer.init(factors)
    for _ in range(_MOST_SHRINKS):
        norm, smaller, state = shrink(factors, state, calibration)
        if not norm > gamma:
            break
        factors = smaller
    verdict = "" if norm <= gamma else ", which it could NOT be brought below: try a larger gamma"
    kind = "1-norm" if inner == "adam" else "norm"
    notes.append(f"the {kind} of the gradient is {float(norm):.4g} of at most {gamma:.4g}{verdict}")
    refined = multiply(factors)

    size = len(held_out[1]) // 2
    one, two = (jax.tree.map(lambda x, i=i: x[i : i + size], held_out) for i in (0, size))
    measure = jax.jit(loss_after_step)
    return refined, scalar_report(
        network,
        f"gradinit ({inner})",
        f"loss after one step of {eta:g}",
        (params, refined),
        (calibration, held_out),
        [measure(p, one, two) for p in (params, refined)],
        notes,
    )
