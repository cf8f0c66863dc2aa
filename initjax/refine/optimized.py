"""Initializations found by gradient descent: MetaInit and GradInit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from initjax.arguments import count, one_of, positive
from initjax.errors import UserError
from initjax.refine import network as networks
from initjax.refine.network import Network
from initjax.refine.reports import Report

_FLOOR = 1e-3  # of a norm that MetaInit began with: a norm stays positive
_MOST_SHRINKS = 100  # steps that GradInit takes in the end to meet its constraint


def gradient_quotient(loss: Callable[[Any], jax.Array], params: Any, *, epsilon: float = 1e-5):
    """How much a step along the gradient changes the gradient, relative to it.

        GQ = mean |(g - H g) / (g + epsilon s) - 1|,   s = 1 where g >= 0, else -1,

    g the gradient and H the Hessian of the loss, the mean over all parameters; no derivative is
    taken of s (Dauphin & Schoenholz 2019, MetaInit, NeurIPS).

    Args:
      loss: params to a scalar.
      params: any tree of arrays.
      epsilon: the source's, 1e-5.

    Returns:
      A scalar. It can be differentiated.

    >>> h = jnp.array([0.5, 2.0, -3.0, 1.0])
    >>> theta = jnp.array([1.0, -2.0, 0.5, 3.0])
    >>> round(float(gradient_quotient(lambda t: (h * t**2).sum() / 2, theta)), 4)  # mean |h|
    1.625
    """
    gradient, product = jax.jvp(jax.grad(loss), (params,), (jax.grad(loss)(params),))

    def quotient(g, hg):
        sign = jax.lax.stop_gradient(jnp.where(g >= 0, 1.0, -1.0).astype(g.dtype))
        return jnp.abs((g - hg) / (g + epsilon * sign) - 1).sum()

    total = sum(jax.tree.leaves(jax.tree.map(quotient, gradient, product)))
    return total / sum(x.size for x in jax.tree.leaves(params))


def cross_entropy(outputs, labels) -> jax.Array:
    """Mean softmax cross-entropy of logits [B, classes] and integer labels [B]."""
    return optax.softmax_cross_entropy_with_integer_labels(
        outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32)), labels
    ).mean()


def signed_momentum(learning_rate: float, momentum: float) -> optax.GradientTransformation:
    """MetaInit's optimizer: m <- momentum m - learning_rate sign(g), and a step by m."""
    return optax.chain(
        optax.stateless(lambda gradients, params: jax.tree.map(jnp.sign, gradients)),
        optax.trace(momentum),
        optax.scale(-learning_rate),
    )


def metainit(
    model,
    params,
    batch,
    key: jax.Array,
    *,
    steps: int = 100,
    batch_size: int = 64,
    learning_rate: float = 0.03,
    momentum: float = 0.9,
    optimizer: optax.GradientTransformation | None = None,
    loss: Callable = cross_entropy,
    held_out=None,
) -> tuple[Any, Report]:
    """MetaInit: norms of weights that make the loss look linear (Dauphin & Schoenholz 2019).

    The `gradient_quotient` is minimized over the norms of all tensors with two or more axes, whose
    directions are kept, by momentum on the signs of its derivatives. The source does 500 steps. The
    quotient has heavy tails, and the last step is kept whether or not it was the best: see what the
    report says, and lower the learning rate where it got worse.

    Args:
      model: as in `consistency`.
      params: its parameters, from any initializer but zeros.
      batch: a pair (inputs, labels). Inputs alone get random labels, as in the source, drawn from
        as many classes as there are outputs.
      key: a PRNG key, for the order of the data, random labels, and dropout.
      steps: steps of the optimizer, each a derivative of the third order.
      batch_size: samples a step.
      learning_rate: by how much a norm changes a step, without momentum; the source's 0.1 is for
        larger networks, and so larger norms.
      momentum: of the signs.
      optimizer: any optax optimizer over the norms, instead of the source's.
      loss: (outputs, labels) to a scalar.
      held_out: as in `consistency`.

    Returns:
      (params, report), the report's objective being the gradient quotient.

    Raises:
      UserError (a ValueError): an argument out of its range, or a batch that is too small.

    >>> from initjax.models import create_model
    >>> model = create_model("mlp(depth=2, width=32)", kernel_init="normal")
    >>> x = jax.random.normal(jax.random.key(0), (128, 4, 4, 1))
    >>> batch = (x, jnp.argmax(x[:, 0, :, 0], -1))
    >>> params = model.init(jax.random.key(1), x)["params"]
    >>> params, report = metainit(
    ...     model, params, batch, jax.random.key(2), steps=20, batch_size=64, learning_rate=0.1)
    >>> report.worse
    False
    """
    steps = count(steps, "steps")
    if optimizer is None:
        optimizer = signed_momentum(positive(learning_rate, "learning_rate"), momentum)
    optimizer = networks.only_if_finite(optimizer)
    network = Network(model, key)
    calibration, held_out = networks.split_batch(batch, held_out)
    labelled = isinstance(calibration, (tuple, list))
    if not labelled:
        classes = jax.eval_shape(network.apply, params, calibration).shape[-1]
        calibration, held_out = (
            (x, jax.random.randint(jax.random.fold_in(key, i), x.shape[:1], 0, classes))
            for i, x in enumerate((calibration, held_out), start=1)
        )
    batches = _batches(calibration, batch_size, steps, jax.random.fold_in(key, 3))

    # A leaf without a norm (a bias, or weights that are zero) is left as it is.
    leaves, structure = jax.tree.flatten(params)
    norms = {
        i: norm
        for i, leaf in enumerate(leaves)
        if leaf.ndim >= 2 and (norm := jnp.linalg.norm(leaf.astype(_wide(leaf)).ravel())) > 0
    }
    if not norms:
        raise UserError("metainit changes the norms of weights, but all of them are zero.")

    def with_norms(changed):
        return structure.unflatten(
            [
                leaf * (changed[i] / norms[i]).astype(leaf.dtype) if i in norms else leaf
                for i, leaf in enumerate(leaves)
            ]
        )

    def quotient(params, batch):
        return gradient_quotient(lambda p: loss(network.apply(p, batch[0]), batch[1]), params)

    @jax.jit
    def step(changed, state, batch):
        gradients = jax.grad(lambda norms: quotient(with_norms(norms), batch))(changed)
        updates, state = optimizer.update(gradients, state, changed)
        changed = optax.apply_updates(changed, updates)
        return {i: jnp.maximum(x, _FLOOR * norms[i]) for i, x in changed.items()}, state

    changed, state = norms, optimizer.init(norms)
    for part in batches:
        changed, state = step(changed, state, part)
    refined = with_norms(changed)
    measure = jax.jit(quotient)
    notes = list(networks.dead_layers(network.statistics(params, calibration[0])))
    if not labelled:
        notes.append("without labels: the loss is that of random ones")
    floored = sum(bool(x <= _FLOOR * norms[i] * 1.01) for i, x in changed.items())
    if floored:
        notes.append(f"{floored} norms ended at {_FLOOR:g} of what they were, the least allowed")
    return refined, networks.scalar_report(
        network,
        "metainit",
        "gradient quotient",
        (params, refined),
        (calibration, held_out),
        [measure(p, held_out) for p in (params, refined)],
        notes,
    )


def gradinit(
    model,
    params,
    batch,
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
    held_out=None,
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
    calibration, held_out = networks.split_batch(batch, held_out)
    if gamma is None:
        gamma = 1.0
        if inner == "adam":
            gamma = float(np.sqrt(sum(x.size for x in jax.tree.leaves(params))))
    gamma = positive(gamma, "gamma")
    optimizer = networks.only_if_finite(optax.adam(0.01) if optimizer is None else optimizer)
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

    factors = jax.tree.map(lambda x: jnp.ones((), _wide(x)), params)
    state = optimizer.init(factors)
    half = batch_size // 2
    for part in _batches(calibration, batch_size + half, steps, jax.random.fold_in(key, 3)):
        first = jax.tree.map(lambda x: x[:batch_size], part)
        second = jax.tree.map(lambda x: x[half:], part)
        factors, state = step(factors, state, first, second)
    notes = list(networks.dead_layers(network.statistics(params, calibration[0])))
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
    return refined, networks.scalar_report(
        network,
        f"gradinit ({inner})",
        f"loss after one step of {eta:g}",
        (params, refined),
        (calibration, held_out),
        [measure(p, one, two) for p in (params, refined)],
        notes,
    )


def _wide(leaf):
    return jnp.promote_types(leaf.dtype, jnp.float32)


def _batches(data, size, number, key):
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
