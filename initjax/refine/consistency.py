"""Consistency-aware initialization: pre-activations made to follow a target law before training.

Its source says only this: measure the difference between the distribution of the samples that the
initial weights generate and a target distribution, use one pass of optimization at the start so
that the two agree, then train by SGD. What is compared, how, and what is optimized is our
interpretation of it, defined in `consistency`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from initjax.network.paths import get_layer
from initjax.refine.calibration import inputs_of, split_batch
from initjax.refine.descent import only_if_finite
from initjax.refine.divergences import DIVERGENCES, LOSSES, SOLVERS, Law
from initjax.refine.methods import register
from initjax.refine.network import Network
from initjax.refine.reports import (
    Report,
    dead_layers,
    layer_reports,
    normalized_layers,
    without_bias,
)
from initjax.refine.statistics import as_statistics, moments
from initjax.refine.sweep import sweep
from initjax.refine.targets import Gaussian, Target
from initjax.support.arguments import count, one_of
from initjax.support.errors import UserError

MODES = ("sequential", "joint")


@register
def consistency(
    model: Any,
    params: Any,
    batch: Any,
    key: jax.Array,
    *,
    divergence: str = "moment",
    target: Target = Gaussian(),  # noqa: B008, a frozen value
    mode: str = "sequential",
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
    passes: int = 16,
    held_out: Any = None,
) -> tuple[Any, Report]:
    """Scales and shifts every layer's channels so that its pre-activations follow a target law.

    With z_l the pre-activations of layer l in the order in which the layers compute, P_l their law
    over the calibration inputs, T_l the target's and D a divergence, the consistency gap is

        G = mean_l D(P_l, T_l).

    It is lowered over a scale and a shift of every channel, W_l <- W_l diag(s_l),
    b_l <- s_l b_l + t_l: directions of weights are kept, nothing is added to the model, and
    training goes on as always. Layers that share parameters are solved for at the first call.

    - mode="sequential": one forward pass, in which each layer is solved in closed form given the
      corrected layers before it. "moment": s = sd_T / sd, t = mean_T - s mean. "w2": the regression
      of the target's quantiles on the sorted values.
    - mode="joint": an optax optimizer over (log s, t) of all layers, by the gradient of G through
      the whole network, in batches. A batch's own G would be least for scales below 1 (by a tenth
      at 16 inputs): estimates of it are used that are not biased.

    A layer without a bias gets the best s for t = 0. Dead layers, constant over the batch, are
    skipped and named. Convolutions count every pixel as a sample; "w2" and "sliced_w2" look at
    8,192 of them at most, "mmd" and "energy" at 512.

    This is our interpretation of "consistency-aware initialization", whose source gives the idea
    but no formulas.

    Args:
      model: a Flax Linen module, run in training mode: batch normalization uses the statistics of
        the batch, and running averages are not touched.
      params: its parameters, from any initializer; or all its variables, {"params": ...} with the
        other collections that it reads, of which the same is returned with refined parameters.
      batch: calibration inputs [n, ...], or a pair (inputs, labels) of which the inputs are used;
        256 or more are advisable. It may be sharded over devices.
      key: a PRNG key, for the order of batches, draws from targets, and dropout.
      divergence: "moment" or "w2"; with mode="joint" also "sliced_w2", "mmd" and "energy".
      target: `Gaussian()`, `MeanField(...)`, `Reference(params)` or `Saved(file)`.
      mode: "sequential" or "joint".
      optimizer: any optax optimizer, for mode="joint"; default `optax.adam`
        at a rate that falls from 0.1 to 0 as a cosine.
      batch_size: inputs a step, for mode="joint"; default: 256, or all if there are fewer.
      passes: over the calibration inputs, for mode="joint"; the source's is one.
      held_out: inputs for the report; default: the last quarter of `batch`, which is then not
        calibrated on.

    Returns:
      (params, report), the report's objective being G on the held-out inputs.

    Raises:
      UserError (a ValueError): an unknown divergence or mode, or one that the other excludes; a
        target that lacks a layer; a model without layers.

    >>> from initjax.models import create_model
    >>> model = create_model("mlp(depth=3, width=32)", kernel_init="normal")
    >>> x = jax.random.normal(jax.random.key(0), (512, 8, 8, 1))
    >>> params = model.init(jax.random.key(1), x)["params"]
    >>> params, report = consistency(model, params, x, jax.random.key(2))
    >>> [round(layer.after.variance) for layer in report.layers]
    [1, 1, 1, 1]
    >>> report.worse
    False
    """
    one_of(divergence, DIVERGENCES, "divergence")
    one_of(mode, MODES, "mode")
    if mode == "sequential" and divergence not in SOLVERS:
        raise UserError(f"divergence={divergence!r} has no closed form: it needs mode='joint'.")
    if mode == "sequential" and optimizer is not None:
        raise UserError("optimizer is of mode='joint'; the sequential mode has a closed form.")
    if not hasattr(target, "laws"):
        raise UserError(f"target={target!r} is not a Gaussian, MeanField, Reference or Saved.")
    passes = count(passes, "passes")
    calibration, held_out = map(inputs_of, split_batch(batch, held_out))
    batch_size = min(256, len(calibration)) if batch_size is None else batch_size
    batch_size = count(batch_size, "batch_size")
    network = Network(model, key)
    distance = DIVERGENCES[divergence]
    shapes = network.shapes(params, calibration)
    laws, held_laws = (_laws(target, network, shapes, x) for x in (calibration, held_out))

    notes = list(dead_layers(network.statistics(params, calibration)))
    notes += without_bias(params, shapes)
    if mode == "sequential":
        refined, _, left = _sequential(network, params, calibration, laws, SOLVERS[divergence])
    else:
        if batch_size > len(calibration):
            raise UserError(
                f"batch_size={batch_size} is more than the {len(calibration)} calibration inputs."
            )
        fixed = network.unscalable(params, calibration)
        left = normalized_layers(fixed)
        loss = LOSSES[divergence]
        steps = passes, batch_size
        refined = _joint(network, params, calibration, laws, loss, key, optimizer, steps, fixed)
    notes += left

    measure = network.each_layer(
        lambda path, z: (
            moments(z),
            distance(z, held_laws[path], jax.random.fold_in(key, 1)),
        )
    )
    before, after = measure(params, held_out), measure(refined, held_out)
    statistics = [as_statistics({p: x[0] for p, x in m.items()}) for m in (before, after)]
    parts = [{path: float(x[1]) for path, x in m.items()} for m in (before, after)]
    report = Report(
        method=f"consistency ({mode}, {divergence})",
        objective=f"mean divergence of {len(shapes)} layers from the target",
        before=sum(parts[0].values()) / len(shapes),
        after=sum(parts[1].values()) / len(shapes),
        num_calibration=len(calibration),
        num_held_out=len(held_out),
        layers=layer_reports(*statistics, *parts),
        notes=tuple(notes),
    )
    return refined, report


def _laws(target, network, shapes, inputs) -> dict[str, Law]:
    """The target's laws in the dtypes of the pre-activations."""
    return {
        path: jax.tree.map(
            lambda x, z=shapes[path]: jnp.asarray(x, jnp.promote_types(z.dtype, jnp.float32)), law
        )
        for path, law in target.laws(network, shapes, inputs).items()
    }


def _sequential(network, params, inputs, laws, solver):
    def solve(path, z, layer):
        return *solver(z, laws[path], "bias" in layer), None

    return sweep(network, params, inputs, solve)


def _joint(network, params, inputs, laws, distance, key, optimizer, steps, fixed):
    """Descent over (log s, t); dead layers are left as they are."""
    passes, batch_size = steps
    in_a_pass = len(inputs) // batch_size
    if optimizer is None:
        optimizer = optax.adam(optax.cosine_decay_schedule(0.1, passes * in_a_pass))
    optimizer = only_if_finite(optimizer)
    dead = {path: z.dead for path, z in network.statistics(params, inputs).items()}
    changes = {
        path: {"log_scale": jnp.zeros_like(laws[path].mean)}
        | ({"shift": jnp.zeros_like(laws[path].mean)} if has_bias else {})
        for path in laws
        if not dead[path] and path not in fixed
        for has_bias in ["bias" in get_layer(params, path)]
    }
    if not changes:
        return params

    def loss(changes, inputs, key):
        def edit(path, z, call_number):
            if path not in changes:
                return z
            scale, shift = _scale_and_shift(changes[path])
            return scale * z + shift

        found = network.record(params, inputs, edit)
        gaps = [
            distance(z, laws[path], jax.random.fold_in(key, i))
            for i, (path, z) in enumerate(found.items())
            if path in changes
        ]
        return sum(gaps) / len(gaps)

    # One compiled step called in a loop: there are few, and XLA on CPUs runs convolutions inside a
    # scan many times slower.
    @jax.jit
    def step(changes, state, inputs, key):
        updates, state = optimizer.update(jax.grad(loss)(changes, inputs, key), state, changes)
        return optax.apply_updates(changes, updates), state

    key_order, key_target = jax.random.split(jax.random.fold_in(key, 2))
    state = optimizer.init(changes)
    for i in range(passes * in_a_pass):
        number, first = divmod(i, in_a_pass)
        if first == 0:
            key_pass = jax.random.fold_in(key_order, number) if number else key_order
            order = jax.random.permutation(key_pass, len(inputs))
        part = inputs[order[first * batch_size : (first + 1) * batch_size]]
        changes, state = step(changes, state, part, jax.random.fold_in(key_target, i))
    return network.change_layers(
        params, {path: _scale_and_shift(change) for path, change in changes.items()}
    )


def _scale_and_shift(change: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
    return jnp.exp(change["log_scale"]), change.get("shift", 0.0)
