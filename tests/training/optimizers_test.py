import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from initjax.support.errors import UserError
from initjax.training import Config
from initjax.training.optimizers import create_optimizer, create_schedule

BASE = Config(
    model="mlp", learning_rate=0.5, schedule="constant", warmup_steps=0, weight_decay=0.25
)
# Two steps' gradients, of a parameter that starts at 2.
GRADIENTS = (1.0, -3.0)


def two_steps(**settings):
    """The parameter after each of two steps."""
    optimizer = create_optimizer(dataclasses.replace(BASE, **settings), 10)
    params = jnp.float32(2.0)
    state = optimizer.init(params)
    values = []
    for gradient in GRADIENTS:
        updates, state = optimizer.update(jnp.float32(gradient), state, params)
        params = optax.apply_updates(params, updates)
        values.append(float(params))
    return values


def schedule_values(steps, total_steps, **settings):
    schedule = create_schedule(dataclasses.replace(BASE, **settings), total_steps)
    return [float(schedule(step)) for step in steps]


def test_constant():
    assert schedule_values([0, 1, 99], 100) == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_warm_up_is_linear_up_to_the_peak(schedule):
    values = schedule_values([0, 5, 10, 20], 1000, schedule=schedule, warmup_steps=20)
    np.testing.assert_allclose(values, [0, 0.125, 0.25, 0.5], rtol=1e-6)


def test_he_et_al_divide_by_10_at_32k_and_48k():
    schedule = create_schedule(Config.create(preset="resnet_cifar"), 64_000)
    steps = [0, 31_999, 32_000, 47_999, 48_000, 63_999]
    np.testing.assert_allclose(
        [schedule(step) for step in steps], [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-5
    )


def test_boundaries_count_from_the_start_of_the_warm_up():
    settings = {"schedule": "step", "boundaries": (0.5,), "warmup_steps": 20}
    values = schedule_values([49, 50], 100, **settings)
    np.testing.assert_allclose(values, [0.5, 0.05], rtol=1e-6)


def test_a_warm_up_in_epochs_is_their_share_of_the_run():
    settings = {"epochs": 90.0, "warmup_epochs": 5.0, "warmup_steps": 7}
    np.testing.assert_allclose(
        schedule_values([0, 25, 50, 60], 900, **settings), [0, 0.25, 0.5, 0.5], rtol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_decay_of_kernels_alone(optimizer):
    """Without a gradient, what does not decay stays, and what decays is that which always did."""
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "scale": jnp.ones(3)}
    ends = {}
    for decayed in ("all", "kernels"):
        config = dataclasses.replace(BASE, optimizer=optimizer, decayed=decayed)
        made = create_optimizer(config, 10)
        updates, _ = made.update(jax.tree.map(jnp.zeros_like, params), made.init(params), params)
        ends[decayed] = updates
    assert (ends["all"]["bias"] < 0).all() and (ends["kernels"]["kernel"] < 0).all()
    np.testing.assert_array_equal(ends["kernels"]["kernel"], ends["all"]["kernel"])
    assert not ends["kernels"]["bias"].any() and not ends["kernels"]["scale"].any()


def test_boundaries_on_the_same_step_all_count():
    values = schedule_values([1, 2], 3, schedule="step", boundaries=(0.5, 0.75))
    np.testing.assert_allclose(values, [0.5, 0.005], rtol=1e-6)


def test_cosine_ends_at_zero():
    values = schedule_values([20, 60, 99, 100], 100, schedule="cosine", warmup_steps=20)
    np.testing.assert_allclose(values[:2], [0.5, 0.25], rtol=1e-6)
    assert 0 < values[2] < 1e-3
    assert abs(values[3]) < 1e-7


def test_a_run_shorter_than_its_warm_up():
    np.testing.assert_allclose(schedule_values([0, 3], 4, warmup_steps=20), [0, 0.5])
    np.testing.assert_allclose(schedule_values([0], 1, warmup_steps=20), [0.5])


def test_sgd_with_coupled_weight_decay():
    momentum = 0.9
    first = GRADIENTS[0] + 0.25 * 2.0
    x1 = 2.0 - 0.5 * first
    velocity = momentum * first + GRADIENTS[1] + 0.25 * x1
    np.testing.assert_allclose(two_steps(nesterov=False), [x1, x1 - 0.5 * velocity], rtol=1e-6)


def test_sgd_nesterov():
    momentum = 0.9
    first = GRADIENTS[0] + 0.25 * 2.0
    x1 = 2.0 - 0.5 * (first + momentum * first)
    gradient = GRADIENTS[1] + 0.25 * x1
    velocity = momentum * first + gradient
    x2 = x1 - 0.5 * (gradient + momentum * velocity)
    np.testing.assert_allclose(two_steps(nesterov=True), [x1, x2], rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_without_momentum_it_is_plain_gradient_descent(nesterov):
    x1 = 2.0 - 0.5 * (GRADIENTS[0] + 0.25 * 2.0)
    x2 = x1 - 0.5 * (GRADIENTS[1] + 0.25 * x1)
    np.testing.assert_allclose(two_steps(momentum=0.0, nesterov=nesterov), [x1, x2], rtol=1e-6)


def adam(decay_l2, decay_decoupled, b1=0.9, b2=0.999):
    """Adam of Kingma & Ba 2015, with an L2 penalty or decoupled decay."""
    x, m, v, values = 2.0, 0.0, 0.0, []
    for t, gradient in enumerate(GRADIENTS, start=1):
        gradient += decay_l2 * x
        m = b1 * m + (1 - b1) * gradient
        v = b2 * v + (1 - b2) * gradient**2
        step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
        x -= 0.5 * (step + decay_decoupled * x)
        values.append(x)
    return values


def test_adam_has_an_l2_penalty():
    values = two_steps(optimizer="adam", nesterov=False)
    np.testing.assert_allclose(values, adam(0.25, 0), rtol=1e-5)


def test_adamw_decays_decoupled():
    values = two_steps(optimizer="adamw", nesterov=False)
    np.testing.assert_allclose(values, adam(0, 0.25), rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_rules_multiply_the_learning_rate(optimizer):
    """Of the first pattern that is found; two steps, decay included."""
    rates = {"Conv_0": 0.25, "Conv_1": 0.5, "Dense_0": 0.0}
    rules = "Conv_0=0.5, Dense_[0,9]/kernel=0, Dense_0=7"
    config = dataclasses.replace(BASE, optimizer=optimizer, learning_rate_rules=rules)
    params = {name: {"kernel": jnp.float32(2.0)} for name in rates}
    params["Dense_0"]["bias"] = jnp.float32(2.0)
    transformation = create_optimizer(config, 10)
    state = transformation.init(params)
    for gradient in GRADIENTS:
        gradients = jax.tree.map(lambda x, g=gradient: jnp.float32(g), params)
        updates, state = transformation.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    for name, rate in rates.items():
        expected = two_steps(optimizer=optimizer, learning_rate=rate)[1] if rate else 2.0
        np.testing.assert_allclose(params[name]["kernel"], expected, rtol=1e-6)
    expected = two_steps(optimizer=optimizer, learning_rate=3.5)[1]
    np.testing.assert_allclose(params["Dense_0"]["bias"], expected, rtol=1e-5)


def test_a_rule_that_no_parameter_has_is_told_with_those_that_are_near():
    config = dataclasses.replace(BASE, learning_rate_rules="Cnov_17=0.5")
    params = {f"{kind}_{i}": jnp.zeros(2) for i in range(20) for kind in ("Conv", "Dense")}
    with pytest.raises(UserError) as error:
        create_optimizer(config, 10).init(params)
    text = str(error.value)
    assert text.startswith("--learning_rate_rules: The rule 'Cnov_17' matches no leaf. There are: ")
    assert "Conv_17" in text and "Dense" not in text


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_momentum_and_nesterov_reach_adam(optimizer):
    base = two_steps(optimizer=optimizer, nesterov=False)
    assert two_steps(optimizer=optimizer, nesterov=True)[1] != pytest.approx(base[1], rel=1e-3)
    other = two_steps(optimizer=optimizer, nesterov=False, momentum=0.5)
    assert other[1] != pytest.approx(base[1], rel=1e-3)
