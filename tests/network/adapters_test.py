"""Adapters: how they begin, and that the network begins as it was."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax.network import create_adapters, layer_inputs, merge_adapters
from initjax.network.layouts import Layout
from initjax.network.loftq import quantization_levels, quantize
from initjax.network.taps import record
from initjax.support.errors import UserError

METHODS = ("lora", "rslora", "pissa", "olora", "lora_ga", "eva", "corda")  # not loftq
RNG = np.random.default_rng(0)
PARAMS = {
    "Dense_0": {"kernel": jnp.asarray(RNG.standard_normal((24, 16)), jnp.float32)},
    "Conv_0": {"kernel": jnp.asarray(RNG.standard_normal((3, 3, 2, 12)), jnp.float32)},
    "bias": jnp.ones(3),
}
GRADIENTS = jax.tree.map(lambda x: jnp.asarray(RNG.standard_normal(x.shape), jnp.float32), PARAMS)

# Of unequal directions, as inputs have them.
INPUTS = {
    path: (RNG.standard_normal((200, n)) * np.geomspace(3, 0.1, n)).astype(np.float32)
    for path, n in (("Dense_0/kernel", 24), ("Conv_0/kernel", 18))
}


def create(method, params=PARAMS, **options):
    given = {"gradients": GRADIENTS} if method == "lora_ga" else {}
    given |= {"inputs": INPUTS} if method in ("eva", "corda") else {}
    return create_adapters(params, method, key=jax.random.key(0), **{"rank": 4} | given | options)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_network_begins_as_it_was(method):
    """Equal to 1e-6; for LoRA, whose B is 0, to the last bit."""
    frozen, adapters = create(method, alpha=6.0)
    assert set(adapters) == {"Dense_0/kernel", "Conv_0/kernel"}
    assert adapters["Conv_0/kernel"].a.shape == (18, 4)
    merged = merge_adapters(frozen, adapters)
    exact = method in ("lora", "rslora", "eva")
    for a, b in zip(jax.tree.leaves(merged), jax.tree.leaves(PARAMS), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=0 if exact else 3e-6)
    assert frozen["bias"] is PARAMS["bias"]
    assert (frozen["Dense_0"]["kernel"] is PARAMS["Dense_0"]["kernel"]) == exact


@pytest.mark.slow
def test_lora():
    """A uniform on +-1/sqrt(in): mean square 1/(3 in) within 4 standard errors."""
    params = {"kernel": jnp.zeros((400, 64))}
    adapter = create("lora", params, rank=32, alpha=16)[1]["kernel"]
    a, b, s = adapter.a, adapter.b, adapter.scale
    assert len(jax.tree.leaves(adapter)) == 2  # no optimizer moves the scale
    assert not b.any() and s == 0.5
    assert abs(a).max() <= 1 / 20 and abs(a).max() > 0.99 / 20
    error = np.sqrt((9 / 5 - 1) / a.size)
    assert float((a**2).mean()) == pytest.approx(1 / 1200, rel=4 * error)
    assert create("rslora", params, rank=16, alpha=8)[1]["kernel"].scale == 2.0
    assert create("lora", params)[1]["kernel"].scale == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [None, 10.0])
def test_pissa(alpha):
    """The rest's norm is the next singular value; both factors have the same norms."""
    w = np.asarray(PARAMS["Dense_0"]["kernel"], np.float64)
    frozen, adapters = create("pissa", alpha=alpha)
    values = np.linalg.svd(w, compute_uv=False)
    rest = np.linalg.svd(np.asarray(frozen["Dense_0"]["kernel"], np.float64), compute_uv=False)
    np.testing.assert_allclose(rest[:12], values[4:], rtol=2e-6)
    a, b, s = (getattr(adapters["Dense_0/kernel"], name) for name in ("a", "b", "scale"))
    for factor in (np.asarray(a).T @ a, b @ np.asarray(b).T):
        np.testing.assert_allclose(factor, np.diag(values[:4] / s), atol=1e-5)


@pytest.mark.slow
def test_olora():
    """B is orthonormal, and W0 loses its first r outputs' span."""
    frozen, adapters = create("olora", alpha=8.0)
    a, b, s = (getattr(adapters["Dense_0/kernel"], name) for name in ("a", "b", "scale"))
    np.testing.assert_allclose(b @ b.T, np.eye(4), atol=1e-6)
    w = np.asarray(PARAMS["Dense_0"]["kernel"])
    np.testing.assert_allclose(a, w @ np.asarray(b).T, atol=2e-6)  # R_r^T
    np.testing.assert_allclose(frozen["Dense_0"]["kernel"], w - s * (a @ b), atol=2e-6)


def test_lora_ga():
    """Against the source's formulas, with (out, in) weights."""
    g = np.asarray(GRADIENTS["Dense_0"]["kernel"], np.float64).T
    u, _, vt = np.linalg.svd(g, full_matrices=False)
    _, adapters = create("lora_ga")
    a, b = adapters["Dense_0/kernel"].a, adapters["Dense_0/kernel"].b
    size = 16**0.25 / 16**0.5
    for found, expected in ((b.T, u[:, :4]), (a, vt[4:8].T)):
        signs = np.sign(np.sum(found * expected, 0))
        np.testing.assert_allclose(found, size * expected * signs, atol=1e-4)
    # One step of gradient descent on A and B moves W along the gradient's best rank 2 r part.
    grad_a, grad_b = g.T @ np.asarray(b).T, np.asarray(a).T @ g.T
    step = grad_a @ b + a @ grad_b
    best = (u[:, :8] * np.linalg.svd(g, compute_uv=False)[:8]) @ vt[:8]
    np.testing.assert_allclose(step.T, size**2 * best, atol=1e-4)


def test_eva():
    """A is orthonormal and keeps the r largest singular values of the inputs; B is 0."""
    adapter = create("eva")[1]["Dense_0/kernel"]
    x = INPUTS["Dense_0/kernel"].astype(np.float64)
    a = np.asarray(adapter.a, np.float64)
    np.testing.assert_allclose(a.T @ a, np.eye(4), atol=1e-5)
    values = np.linalg.svd(x, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(x @ a, axis=0), values[:4], rtol=1e-5)
    assert not adapter.b.any()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["knowledge_preserved", "instruction_previewed"])
def test_corda(mode):
    """Of C W0 the adapters hold the r smallest or largest singular values, the frozen the rest."""
    frozen, adapters = create("corda", mode=mode, alpha=2.0)
    x = INPUTS["Dense_0/kernel"].astype(np.float64)
    c = x.T @ x / len(x)
    c += 0.01 * np.trace(c) / len(c) * np.eye(len(c))
    w = np.asarray(PARAMS["Dense_0"]["kernel"], np.float64)
    values = np.linalg.svd(c @ w, compute_uv=False)
    taken, left = (values[-4:], values[:-4])
    if mode == "instruction_previewed":
        taken, left = (values[:4], values[4:])
    for part, expected in (
        (adapters["Dense_0/kernel"].change, taken),
        (frozen["Dense_0"]["kernel"], left),
    ):
        found = np.linalg.svd(c @ np.asarray(part, np.float64), compute_uv=False)
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-3)
        assert np.abs(found[len(expected) :]).max(initial=0) < 1e-4
    a, b = adapters["Dense_0/kernel"].a, adapters["Dense_0/kernel"].b
    np.testing.assert_allclose(b @ b.T, np.diag(taken * 2), rtol=1e-3, atol=1e-4)  # S / s, s = 1/2
    assert a.shape == (24, 4)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"levels": "uniform"}, {"bits": 2}, {"iterations": 1}])
def test_loftq(options):
    """Nearer to W0 than its quantized weights alone; what is frozen has 2^bits levels a block."""
    frozen, adapters = create("loftq", alpha=8.0, **options)
    w = np.asarray(PARAMS["Dense_0"]["kernel"], np.float64)
    named = {name: options[name] for name in ("bits", "levels") if name in options}
    levels = quantization_levels(**named)
    plain = np.asarray(quantize(PARAMS["Dense_0"]["kernel"].T, levels)).T
    whole = merge_adapters(frozen, adapters)["Dense_0"]["kernel"]
    assert np.linalg.norm(w - whole) < 0.9 * np.linalg.norm(w - plain)
    block = np.asarray(frozen["Dense_0"]["kernel"]).T.reshape(-1)[:64]
    steps = (block / np.abs(block).max())[:, None] - levels
    assert np.abs(steps).min(1).max() < 1e-6
    assert len(set(block.tolist())) <= len(levels)


@pytest.mark.slow
def test_normal_float_levels():
    """NF4 as QLoRA's appendix prints it."""
    printed = [-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004]
    printed += [0.0, 0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617]
    printed += [0.72295684, 1.0]
    np.testing.assert_allclose(quantization_levels(), printed, atol=2e-7)
    w = jnp.asarray([[0.0, 0.6, -2.0], [0.1, 1.2, 0.4]])
    rounded = quantize(w, np.linspace(-1, 1, 5), block_size=3)
    np.testing.assert_allclose(rounded, [[0, 1, -2], [0, 1.2, 0.6]], atol=1e-6)
    assert not quantize(jnp.zeros((2, 3)), quantization_levels()).any()


@pytest.mark.slow
def test_inputs_of_every_layer():
    """X W is what the layer puts out: dense, convolution with strides, several output axes."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(5, (3, 3), strides=2, padding="SAME")(x))
            x = nn.DenseGeneral((2, 3), name="heads")(x.mean((1, 2)))
            return nn.Dense(4, use_bias=False)(x.reshape(len(x), -1))

    x = jnp.asarray(RNG.standard_normal((6, 5, 5, 2)), jnp.float32)
    variables = Net().init(jax.random.key(0), x)
    layouts = {"heads/kernel": Layout.read("ioo")}
    found = layer_inputs(Net(), variables, x, layouts=layouts)
    _, outputs = record(Net(), variables, x)
    assert {path: value.shape for path, value in found.items()} == {
        "Conv_0/kernel": (54, 18),
        "heads/kernel": (6, 5),
        "Dense_0/kernel": (6, 6),
    }
    for path, value in found.items():
        layer = path.removesuffix("/kernel")
        w = variables["params"][layer]["kernel"]
        z = np.asarray(outputs[layer][0]).reshape(len(value), -1)  # biases are 0
        np.testing.assert_allclose(value @ w.reshape(value.shape[1], -1), z, atol=2e-6)
    frozen, _ = create_adapters(
        *(variables["params"], "eva"), key=jax.random.key(0), rank=2, inputs=found, layouts=layouts
    )
    assert frozen["Conv_0"]["kernel"] is variables["params"]["Conv_0"]["kernel"]
    depthwise = nn.Conv(4, (3, 3), feature_group_count=2)
    with pytest.raises(UserError, match="groups see different inputs"):
        layer_inputs(depthwise, depthwise.init(jax.random.key(0), x), x)
    with pytest.raises(UserError, match="pattern='weight' matches no kernel"):
        layer_inputs(Net(), variables, x, pattern="weight")


@pytest.mark.slow
def test_axes_of_attention_and_gradients_through_the_sum():
    params = {"query": {"kernel": jnp.asarray(RNG.standard_normal((6, 2, 4)), jnp.float32)}}
    with pytest.raises(UserError, match="which axes are inputs is not known"):
        create("pissa", params)
    layouts = {"query/kernel": Layout.read("ioo")}
    frozen, adapters = create("pissa", params, layouts=layouts)
    assert adapters["query/kernel"].b.shape == (4, 8)

    def loss(adapters):
        return (merge_adapters(frozen, adapters, layouts)["query"]["kernel"] ** 2).sum() / 2

    grads = jax.grad(loss)(adapters)["query/kernel"]
    w = params["query"]["kernel"].reshape(6, 8)
    np.testing.assert_allclose(grads.a, w @ adapters["query/kernel"].b.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("lorra", {}, "Did you mean 'lora'"),
        ("lora", {"rank": 0}, "rank=0 must be at least 1"),
        ("lora", {"rank": 13}, "Conv_0/kernel: rank=13 is more than (18, 12) has"),
        ("lora", {"pattern": "weight"}, "pattern='weight' matches no leaf"),
        ("lora", {"r": 3}, "It takes: rank=8, alpha=None"),
        ("lora_ga", {"gradients": None}, "needs gradients of a batch"),
        ("lora_ga", {"rank": 7}, "rank=7: lora_ga needs twice"),
        ("eva", {"inputs": None}, "Conv_0/kernel: eva needs the inputs of each layer"),
        (
            "corda",
            {"inputs": {"Conv_0/kernel": np.ones((9, 3))}},
            "of (9, 3) are not [samples, 18]",
        ),
        ("corda", {"mode": "kpm"}, "mode='kpm' is not one of knowledge_preserved"),
        ("loftq", {"bits": 9}, "bits=9 must be at most 8"),
        ("loftq", {"levels": "int"}, "levels='int' is not one of normal_float, uniform"),
        ("pissa", {"alpha": -1}, "alpha=-1.0 must be positive"),
    ],
)
def test_errors(method, options, message):
    with pytest.raises(UserError) as error:
        create(method, **options)
    assert message in str(error.value) and len(str(error.value).splitlines()) <= 2
