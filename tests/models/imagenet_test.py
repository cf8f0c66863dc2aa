"""The networks for ImageNet: what they are made of, and that narrow ones train."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax.models import create_model
from initjax.network.paths import path_name
from initjax.support.errors import UserError

KEY = jax.random.key(0)


@functools.cache
def shapes(name, size, num_classes=1000):
    """{path: array without values} of the parameters on RGB images."""
    model = create_model(name, num_classes=num_classes)
    params = jax.eval_shape(model.init, KEY, jnp.zeros((1, size, size, 3)))["params"]
    return {path_name(path): x for path, x in jax.tree_util.tree_flatten_with_path(params)[0]}


def count(name, size, num_classes=1000):
    return sum(x.size for x in shapes(name, size, num_classes).values())


@pytest.mark.parametrize(
    ("name", "number"),
    [  # torchvision's, from its documentation
        ("alexnet", 61_100_840),
        ("vgg11", 132_863_336),
        ("vgg13", 133_047_848),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
    ],
)
def test_number_of_parameters(name, number):
    assert count(name, 224) == number


def test_numbers_of_other_forms():
    # torchvision's vgg16_bn has 138,365,992: a bias in each of the 4,224 channels besides.
    assert count("vgg16(use_batch_norm=True)", 224) == 138_365_992 - 4_224
    widths = (3, 64, 192, 384, 256, 256)
    convolutions = sum(9 * a * b + b for a, b in itertools.pairwise(widths))
    dense = (4 * 256 + 1) * 4096 + 4097 * 4096 + 4097 * 10
    for size in (32, 64):
        assert count("alexnet_cifar", size, 10) == convolutions + dense == 23_272_266
    widths = (3, 64, 128, 256, 256, 512, 512, 512, 512)
    convolutions = sum(9 * a * b + b for a, b in itertools.pairwise(widths))
    for size in (28, 32, 64):
        assert count("vgg11_cifar", size, 10) == convolutions + 513 * 10 == 9_225_610


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_resolutions_share_their_parameters(name):
    assert shapes(name, 64) == shapes(name, 224)


def test_width_multiplier_is_rounded_half_upwards():
    for multiplier, layer, width in (
        (0.25, "Conv_0", 16), (1e-6, "Conv_7", 1), (2.5 / 64, "Conv_0", 3), (0.25, "Dense_0", 1024)
    ):  # fmt: skip
        params = shapes(f"vgg11(width_multiplier={multiplier})", 32, 7)
        assert params[f"{layer}/kernel"].shape[-1] == width
    assert shapes("vgg11(width_multiplier=0.25)", 32, 7)["Dense_2/kernel"].shape == (1024, 7)


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_initializers_reach_their_layers(name):
    """And each is given the kernel's own shape, by which alone it knows the fans."""
    given = {"kernel_init": [], "dense_init": [], "bias_init": []}

    def recording(field):
        return lambda key, shape, dtype: given[field].append(shape) or jnp.zeros(shape, dtype)

    model = create_model(name, **{field: recording(field) for field in given})
    params = jax.eval_shape(model.init, KEY, jnp.zeros((1, 64, 64, 3)))["params"]
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    layers = [(path[-2].key, path[-1].key, x.shape) for path, x in leaves]
    kernels = [shape for _, kind, shape in layers if kind == "kernel"]
    biases = [s for layer, kind, s in layers if kind == "bias" and "norm" not in layer.lower()]
    assert sorted(given["kernel_init"]) == sorted(s for s in kernels if len(s) == 4)
    assert sorted(given["dense_init"]) == sorted(s for s in kernels if len(s) == 2)
    assert sorted(given["bias_init"]) == sorted(biases)


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_dropout_needs_training_and_its_stream(name):
    model, x = create_model(name), jnp.zeros((2, 64, 64, 3))
    variables = jax.eval_shape(model.init, KEY, x)
    inferred, without, dropped = (
        str(jax.make_jaxpr(functools.partial(model.apply, **mode))(variables, x))
        for mode in ({}, {"train": True}, {"train": True, "rngs": {"dropout": KEY}})
    )
    assert inferred == without
    assert "random_bits" in dropped and "random_bits" not in inferred


def he_normal(shapes):
    """Kernels of variance 2 / fan_in, biases 0, scales 1: by NumPy, which need not compile."""
    rng = np.random.default_rng(0)

    def draw(path, x):
        name = path[-1].key
        if name in ("bias", "mean"):
            return np.zeros(x.shape, np.float32)
        if name in ("scale", "var"):
            return np.ones(x.shape, np.float32)
        stddev = (2 / np.prod(x.shape[:-1])) ** 0.5
        return rng.normal(scale=stddev, size=x.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("alexnet(width_multiplier=0.05)", 64),
        ("vgg11(width_multiplier=0.05)", 32),
        ("vgg11_cifar(width_multiplier=0.05, use_batch_norm=True)", 8),
    ],
)
def test_a_narrow_one_has_gradients_in_every_kernel(name, size):
    model = create_model(name, num_classes=5)
    x = np.random.default_rng(1).normal(size=(4, size, size, 3)).astype(np.float32)
    variables = he_normal(jax.eval_shape(model.init, KEY, x))
    training = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": KEY}}

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(params):
        inferred = model.apply(variables | {"params": params}, x)
        trained, _ = model.apply(variables | {"params": params}, x, **training)
        return (trained**2).sum(), (inferred, trained)

    gradients, logits = gradient(variables["params"])
    for array in logits:
        assert array.shape == (4, 5) and array.dtype == jnp.float32
        assert np.isfinite(array).all() and np.ptp(array) > 0
    assert not np.allclose(*logits)  # dropout, or normalization of the batch
    for path, array in jax.tree_util.tree_flatten_with_path(gradients)[0]:
        assert np.isfinite(array).all(), path_name(path)
        assert array.any() or path[-1].key != "kernel", path_name(path)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("alexnet", 8, "8x8 pixels are too small: .* 63x63 and more.\nalexnet_cifar takes"),
        ("alexnet", 62, "62x62 pixels are too small"),
        ("vgg13", 31, "31x31 pixels are too small: .* 32x32 and more.\nvgg13_cifar takes"),
    ],
)
def test_images_that_are_too_small(name, size, message):
    with pytest.raises(UserError, match=message):
        shapes(name, size)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg11(depth=12)", "depth=12 must be one of 11, 13, 16, 19"),
        ("alexnet(width_multiplier=0)", "width_multiplier=0.0 must be positive"),
        ("alexnet(width_multiplier='wide')", "width_multiplier='wide' is not a number"),
        ("alexnet(dropout_rate=-0.1)", "dropout_rate=-0.1 must not be negative"),
        ("vgg11(dropout_rate=1)", "dropout_rate=1.0 must be below 1"),
    ],
)
def test_fields_are_checked(name, message):
    with pytest.raises(UserError, match=message):
        create_model(name)
