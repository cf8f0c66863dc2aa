"""MetaInit: norms that make the gradient least sensitive to a step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from initjax.refine.calibration import split_batch
from initjax.refine.descent import cross_entropy, only_if_finite, random_batches
from initjax.refine.methods import register
from initjax.refine.network import Network
from initjax.refine.reports import Report, dead_layers, scalar_report
from initjax.support.arguments import count, positive
from initjax.support.dtypes import wide_dtype
from initjax.support.errors import UserError

_FLOOR = 1e-3  # of a norm that MetaInit began with: a norm stays positive


def gradient_quotient(
    loss: Callable[[Any], jax.Array], params: Any, *, epsilon: float = 1e-5
) -> jax.Array:
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


def signed_momentum(learning_rate: float, momentum: float) -> optax.GradientTransformation:
    """MetaInit's optimizer: m <- momentum m - learning_rate sign(g), and a step by m."""
    return optax.chain(
        optax.stateless(lambda gradients, params: jax.tree.map(jnp.sign, gradients)),
        optax.trace(momentum),
        optax.scale(-learning_rate),
    )


@register
def metainit(
    model: Any,
    params: Any,
    batch: Any,
    key: jax.Array,
    *,
    steps: int = 100,
    batch_size: int = 64,
    learning_rate: float = 0.03,
    momentum: float = 0.9,
    optimizer: optax.GradientTransformation | None = None,
    loss: Callable = cross_entropy,
    held_out: Any = None,
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
    optimizer = only_if_finite(optimizer)
    network = Network(model, key)
    calibration, held_out = split_batch(batch, held_out)
    labelled = isinstance(calibration, (tuple, list))
    if not labelled:
        classes = jax.eval_shape(network.apply, params, calibration).shape[-1]
        calibration, held_out = (
            (x, jax.random.randint(jax.random.fold_in(key, i), x.shape[:1], 0, classes))
            for i, x in enumerate((calibration, held_out), start=1)
        )
    batches = random_batches(calibration, batch_size, steps, jax.random.fold_in(key, 3))

    # A leaf without a norm (a bias, or weights that are zero) is left as it is.
    leaves, structure = jax.tree.flatten(params)
    norms = {
        i: norm
        for i, leaf in enumerate(leaves)
        if leaf.ndim >= 2
        and (norm := jnp.linalg.norm(leaf.astype(wide_dtype(leaf.dtype)).ravel())) > 0
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
    notes = list(dead_layers(network.statistics(params, calibration[0])))
    if not labelled:
        notes.append("without labels: the loss is that of random ones")
    floored = sum(bool(x <= _FLOOR * norms[i] * 1.01) for i, x in changed.items())
    if floored:
        notes.append(f"{floored} norms ended at {_FLOOR:g} of what they were, the least allowed")
    return refined, scalar_report(
        network,
        "metainit",
        "gradient quotient",
        (params, refined),
        (calibration, held_out),
        [measure(p, held_out) for p in (params, refined)],
        notes,
    )
