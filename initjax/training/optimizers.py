"""optax optimizers and schedules from a Config, whose numbers may be arguments of a program."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from initjax.training.config import Config
from initjax.training.layer_rates import add_decay, scale_by_path, scale_by_rules


def create_schedule(config: Config, total_steps: int, peak=None) -> optax.Schedule:
    """The learning rate at each step: a linear warm-up from 0, then constant, stepped or cosine.

    Boundaries of the stepped schedule are fractions of the whole run, warm-up included. `peak`
    takes the place of the Config's learning rate; it may be traced. The last step of a run that is
    shorter than its warm-up has the peak rate.
    """
    share = config.warmup_epochs / config.epochs if config.warmup_epochs else None
    warmup = config.warmup_steps if share is None else round(share * total_steps)
    warmup = min(warmup, total_steps - 1)
    peak = config.learning_rate if peak is None else peak
    if config.schedule == "constant":
        main = optax.constant_schedule(peak)
    elif config.schedule == "step":
        steps = [round(fraction * total_steps) - warmup for fraction in config.boundaries]
        # In a short run several boundaries can fall on the same step.
        scales = {step: 0.1 ** steps.count(step) for step in steps}
        main = optax.piecewise_constant_schedule(peak, scales)
    else:
        main = optax.cosine_decay_schedule(peak, max(total_steps - warmup, 1))
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def create_optimizer(
    config: Config,
    total_steps: int,
    numbers: Mapping[str, Any] | None = None,
    rates: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
    """sgd, adam or adamw.

    Weight decay acts on every parameter, as in He et al. 2015, or on kernels alone, which are those
    of two or more axes, as in Goyal et al. 2017: for sgd and adam it is added to the gradient (an
    L2 penalty), for adamw it is decoupled (Loshchilov & Hutter 2019). A momentum of 0
    leaves plain gradient descent, with and without Nesterov's form. Where the Config has learning
    rate rules, every layer's rate is multiplied by its factor; see `scale_by_rules`.

    Args:
      config: of the run.
      total_steps: that it takes.
      numbers: learning_rate, momentum and weight_decay in place of the Config's; may be traced.
      rates: {path: factor of its learning rate} by the run's parametrization. Weight decay is
        divided by it, so that their product stays.
    """
    if numbers is None:
        numbers = vars(config)
    rules = config.learning_rate_rules.value
    if rates and set(rates.values()) == {1.0}:
        rates = None
    parts = [_create_optimizer(config, total_steps, numbers, rates or {})]
    if rates:
        parts.append(scale_by_path(rates))
    if rules:
        parts.append(scale_by_rules(rules))
    return optax.chain(*parts) if len(parts) > 1 else parts[0]


def _create_optimizer(config, total_steps, numbers, rates):
    schedule = create_schedule(config, total_steps, numbers["learning_rate"])
    mask = _kernels if config.decayed == "kernels" else None
    decay = add_decay(numbers["weight_decay"], rates)
    if mask is not None:
        decay = optax.masked(decay, mask)
    if config.optimizer != "adamw":
        if config.optimizer == "adam":
            main = optax.adam(schedule, b1=numbers["momentum"], nesterov=config.nesterov)
        else:
            main = optax.sgd(schedule, momentum=numbers["momentum"], nesterov=config.nesterov)
        return optax.chain(decay, main)
    return optax.chain(  # as optax.adamw is
        optax.scale_by_adam(b1=numbers["momentum"], nesterov=config.nesterov),
        decay,
        optax.scale_by_learning_rate(schedule),
    )


def _kernels(params):
    """Which leaves are kernels: biases and the scales of normalizations have one axis."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
