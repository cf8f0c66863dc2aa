"""Recurrent cells and state space models, against their sources' formulas."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax.initializers import (
    chrono,
    hippo_legs,
    hippo_legs_input,
    irnn,
    log_step,
    lru_nu_log,
    lru_theta_log,
    lstm_bias,
    mamba2_a_log,
    mamba_a_log,
    mamba_step_bias,
    recurrent_orthogonal,
    s4d,
    torch_recurrent,
)
from initjax.support.errors import UserError

KEY = jax.random.key(11)


@pytest.mark.slow
def test_each_gate_is_orthogonal():
    w = np.asarray(recurrent_orthogonal()(KEY, (16, 64)), np.float64)
    gates = np.split(w, 4, axis=1)
    for gate in gates:
        np.testing.assert_allclose(gate.T @ gate, np.eye(16), atol=1e-5)
    assert not np.allclose(gates[0], gates[1])
    scaled = recurrent_orthogonal(3, scale=0.5)(KEY, (8, 24))
    np.testing.assert_allclose(np.linalg.svd(scaled[:, 8:16])[1], 0.5, atol=1e-5)


def test_irnn_keeps_its_state():
    state = jax.nn.relu(jax.random.normal(KEY, (5, 8)))
    np.testing.assert_array_equal(jax.nn.relu(state @ irnn()(KEY, (8, 8))), state)


@pytest.mark.parametrize("gates, where", [("ifgo", 1), ("fico", 0), ("f", 0)])
def test_forget_gate(gates, where):
    size = 6
    b = np.asarray(lstm_bias(gates=gates)(KEY, (2, size * len(gates)))).reshape(2, -1, size)
    assert (b[:, where] == 1).all() and b.sum() == 2 * size


def test_chrono():
    """E ln U(1, 99) = (99 ln 99 - 98) / 98 = 3.642009."""
    size = 20_000
    b = np.asarray(chrono(100.0)(KEY, (4 * size,)), np.float64).reshape(4, size)
    mean = (99 * math.log(99) - 98) / 98
    assert mean == pytest.approx(3.642009, abs=1e-6)
    assert abs(b[1].mean() - mean) < 4 * b[1].std() / math.sqrt(size)
    np.testing.assert_array_equal(b[0], -b[1])
    assert not b[2:].any() and b[1].min() >= 0 and b[1].max() <= math.log(99) + 1e-6


def test_torch_recurrent():
    for gates, shape in ((1, (30, 64)), (4, (30, 256)), (4, (256,))):
        w = np.abs(np.asarray(torch_recurrent(gates)(KEY, shape)))
        assert 0.9 / 8 < w.max() <= 1 / 8


def test_hippo():
    a = np.asarray(hippo_legs()(KEY, (4, 4)), np.float64)
    np.testing.assert_allclose(a[3], [-2.645751, -4.582576, -5.916080, -4.0], atol=1e-6)
    with jax.enable_x64(True):
        a = np.asarray(hippo_legs()(KEY, (64, 64), jnp.float64))
        b = np.asarray(hippo_legs_input()(KEY, (64,), jnp.float64))
    skew = a + np.outer(b, b) / 2 + np.eye(64) / 2
    assert abs(skew + skew.T).max() < 1e-12
    eigenvalues = np.linalg.eigvals(a + np.outer(b, b) / 2)
    np.testing.assert_allclose(eigenvalues.real, -0.5, atol=1e-9)
    assert eigenvalues.imag.max() == pytest.approx(1303.274, abs=1e-3)
    column = hippo_legs_input(axis=0)(KEY, (3, 1))
    np.testing.assert_allclose(column[:, 0], np.sqrt([1, 3, 5]), rtol=1e-6)
    np.testing.assert_array_equal(hippo_legs()(KEY, (2, 4, 4))[1], hippo_legs()(KEY, (4, 4)))


@pytest.mark.parametrize(
    "kind, real, imaginary",
    [
        ("lin", [-0.5] * 4, [math.pi * n for n in range(4)]),
        ("inv", [-0.5] * 4, [3.819719, 0.424413, -0.254648, -0.545674]),
        ("real", [-1, -2, -3, -4], [0] * 4),
    ],
)
def test_s4d(kind, real, imaginary):
    for part, expected in (("real", real), ("imaginary", imaginary)):
        rows = s4d(kind, part)(KEY, (3, 4))
        np.testing.assert_allclose(rows, np.tile(expected, (3, 1)), atol=1e-6)


@pytest.mark.slow
def test_steps():
    n = 20_000
    step = np.asarray(log_step()(KEY, (n,)), np.float64)
    low, high = math.log(0.001), math.log(0.1)
    assert step.min() >= low - 1e-6 and step.max() <= high + 1e-6
    assert abs(step.mean() - (low + high) / 2) < 4 * (high - low) / math.sqrt(12 * n)
    bias = np.asarray(mamba_step_bias()(KEY, (n,)), np.float64)
    assert bias.min() == pytest.approx(-6.907255, abs=2e-3) and bias.min() >= -6.907256
    assert bias.max() == pytest.approx(-2.252168, abs=2e-3) and bias.max() <= -2.252167
    # softplus gives the step back.
    np.testing.assert_allclose(np.log(np.log1p(np.exp(bias))), step, atol=2e-5)
    floored = mamba_step_bias(1e-6, 1e-5)(KEY, (100,))
    np.testing.assert_allclose(floored, math.log(math.expm1(1e-4)), rtol=1e-5)


def test_mamba():
    rows = mamba_a_log()(KEY, (2, 5))
    np.testing.assert_allclose(np.exp(rows), np.tile(range(1, 6), (2, 1)), rtol=1e-6)
    a = np.exp(np.asarray(mamba2_a_log()(KEY, (20_000,)), np.float64))
    assert a.min() >= 1 and a.max() <= 16.001
    assert abs(a.mean() - 8.5) < 4 * 15 / math.sqrt(12 * 20_000)


def test_lru():
    n = 20_000
    nu = np.asarray(lru_nu_log()(KEY, (n,)), np.float64)
    size = np.exp(-np.exp(nu))
    assert size.min() >= 0.9 - 1e-6 and size.max() <= 0.999 + 1e-6
    low, high = 0.9**2, 0.999**2
    assert abs((size**2).mean() - (low + high) / 2) < 4 * (high - low) / math.sqrt(12 * n)
    # The middle of the law: u = .5.
    middle = math.sqrt((low + high) / 2)
    assert middle == pytest.approx(0.950789, abs=1e-6)
    assert math.log(-math.log(middle)) == pytest.approx(-2.986521, abs=1e-6)
    assert np.median(size) == pytest.approx(middle, abs=4 * 0.05 / math.sqrt(n))
    assert np.isfinite(lru_nu_log(0.0, 1.0)(KEY, (n,))).all()
    theta = np.exp(np.asarray(lru_theta_log(0.5)(KEY, (n,)), np.float64))
    assert theta.max() <= 0.5001 and abs(theta.mean() - 0.25) < 4 * 0.5 / math.sqrt(12 * n)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: recurrent_orthogonal(4)(KEY, (4, 6)), "gates=4 does not divide"),
        (lambda: torch_recurrent(4)(KEY, (6,)), "gates=4 does not divide"),
        (lambda: torch_recurrent()(KEY, ()), "torch_recurrent needs at least one axis"),
        (lambda: lstm_bias(gates="abc"), "gates='abc'"),
        (lambda: lstm_bias()(KEY, (6,)), "gates='ifgo' do not divide"),
        (lambda: chrono(2.0), "max_time=2.0 must exceed 2"),
        (lambda: hippo_legs()(KEY, (4,)), "hippo_legs needs at least two axes"),
        (lambda: hippo_legs_input(1)(KEY, (4,)), "axis=1"),
        (lambda: s4d("legs"), "kind='legs'"),
        (lambda: s4d(part="both"), "part='both'"),
        (lambda: log_step(0.1, 0.001), "low=0.1, high=0.001"),
        (lambda: mamba2_a_log(0.0), "low=0.0"),
        (lambda: mamba_step_bias(floor=0.0), "floor=0"),
        (lambda: lru_nu_log(0.9, 1.1), "high=1.1"),
        (lambda: lru_theta_log(0.0), "max_phase=0"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(UserError, match=message):
        call()
