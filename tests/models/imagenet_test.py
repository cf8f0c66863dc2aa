"""The networks for ImageNet: what they are made of, and that narrow ones train."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax.models import create_model, googlenet
from initjax.network.paths import path_name
from initjax.network.rules import reinitialize
from initjax.network.taps import record
from initjax.support.errors import UserError

KEY = jax.random.key(0)
MUTABLE = ["batch_stats", "auxiliary_logits"]


@functools.cache
def shapes(name, size, num_classes=1000):
    """{path: array without values} of the parameters on RGB images."""
    model = create_model(name, num_classes=num_classes)
    params = jax.eval_shape(model.init, KEY, jnp.zeros((1, size, size, 3)))["params"]
    return {path_name(path): x for path, x in jax.tree_util.tree_flatten_with_path(params)[0]}


def count(name, size, num_classes=1000):
    return sum(x.size for x in shapes(name, size, num_classes).values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number"),
    [  # torchvision's, from its documentation
        ("alexnet", 61_100_840),
        ("vgg11", 132_863_336),
        ("vgg13", 133_047_848),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("vit_base", 86_567_656),
        # DeiT's (Touvron et al. 2020)
        ("vit_tiny", 5_717_416),
        ("vit_small", 22_050_664),
    ],
)
def test_number_of_parameters(name, number):
    assert count(name, 224) == number


@pytest.mark.slow
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


def count_googlenet(size, normalized, side_heads):
    """By formula, with size x size kernels in the place of the source's 5x5."""
    modules = [  # inputs, and the source's table 1
        (192, 64, 96, 128, 16, 32, 32),
        (256, 128, 128, 192, 32, 96, 64),
        (480, 192, 96, 208, 16, 48, 64),
        (512, 160, 112, 224, 24, 64, 64),
        (512, 128, 128, 256, 24, 64, 64),
        (512, 112, 144, 288, 32, 64, 64),
        (528, 256, 160, 320, 32, 128, 128),
        (832, 256, 160, 320, 32, 128, 128),
        (832, 384, 192, 384, 48, 128, 128),
    ]
    layers = [(7, 3, 64), (1, 64, 64), (3, 64, 192)]
    for n, narrow, before_3, after_3, before_5, after_5, pooled in modules:
        layers += [(1, n, narrow), (1, n, before_3), (3, before_3, after_3)]
        layers += [(1, n, before_5), (size, before_5, after_5), (1, n, pooled)]
    dense = 1025 * 1000
    if side_heads:
        layers += [(1, 512, 128), (1, 528, 128)]
        dense += 2 * (2049 * 1024 + 1025 * 1000)
    return dense + sum(k * k * a * b + (2 if normalized else 1) * b for k, a, b in layers)


@pytest.mark.slow
def test_number_of_parameters_of_googlenet():
    # The formula gives torchvision's, whose kernels are 3x3, and Caffe's bvlc_googlenet.
    assert count_googlenet(3, normalized=True, side_heads=True) == 13_004_888
    assert count_googlenet(3, normalized=True, side_heads=False) == 6_624_904
    assert count_googlenet(5, normalized=False, side_heads=False) == 6_998_552
    for normalized in (False, True):
        params = shapes(f"googlenet(use_batch_norm={normalized})", 224)
        assert sum(x.size for x in params.values()) == count_googlenet(5, normalized, True)
        inference = sum(x.size for path, x in params.items() if "side_head" not in path)
        assert inference == count_googlenet(5, normalized, False)


@pytest.mark.slow
def test_side_heads_are_of_training_alone():
    model, x = (
        create_model("googlenet(small_images=True)", num_classes=7),
        jnp.zeros((2, 32, 32, 3)),
    )
    variables = jax.eval_shape(functools.partial(model.init, train=True), KEY, x)
    assert set(variables) == {"params"}  # nothing is sown
    mutable = ["auxiliary_logits"]
    apply = functools.partial(model.apply, mutable=mutable, rngs={"dropout": KEY})
    _, sown = jax.eval_shape(functools.partial(apply, train=True), variables, x)
    logits = jax.tree.leaves(sown[mutable[0]])
    assert [(y.shape, y.dtype) for y in logits] == [((2, 7), jnp.float32)] * 2
    trunk = {k: v for k, v in variables["params"].items() if "side_head" not in k}
    y, sown = jax.eval_shape(apply, {"params": trunk}, x)
    assert y.shape == (2, 7) and not sown


# The number of residual branches, and a pattern of the last layer of each.
BRANCHES = {
    "resnet18": (8, r"Block_\d+/Conv_1/kernel"),
    "resnet34": (16, r"Block_\d+/Conv_1/kernel"),
    "resnet50": (16, r"Block_\d+/Conv_2/kernel"),
    "resnet101": (33, r"Block_\d+/Conv_2/kernel"),
    "resnet152": (50, r"Block_\d+/Conv_2/kernel"),
    "vit_tiny": (24, r"Block_\d+/(attention/out|Dense_1)/kernel"),
    "vit_small": (24, r"Block_\d+/(attention/out|Dense_1)/kernel"),
    "vit_base": (24, r"Block_\d+/(attention/out|Dense_1)/kernel"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BRANCHES)
def test_rules_find_branches_and_head(name):
    """See also `test_a_narrow_one_has_gradients_in_every_kernel`."""
    number, pattern = BRANCHES[name]
    params = shapes(name, 224, 1000)
    assert sum(bool(re.search(pattern, path)) for path in params) == number
    head = {path: x.shape for path, x in params.items() if re.search("^Dense_0/", path)}
    assert set(head) == {"Dense_0/kernel", "Dense_0/bias"} and head["Dense_0/bias"] == (1000,)


@pytest.mark.slow
def test_small_images_keep_their_resolution():
    model, x = create_model("resnet18(small_images=True)"), jnp.zeros((2, 32, 32, 3))
    variables = jax.eval_shape(model.init, KEY, x)
    taps = jax.eval_shape(lambda v: record(model, v, x)[1], variables)
    sizes = [
        taps[layer][0].shape[1] for layer in ("Conv_0", *(f"Block_{i}/Conv_1" for i in range(8)))
    ]
    assert sizes == [32, 32, 32, 16, 16, 8, 8, 4, 4]
    assert variables["params"]["Conv_0"]["kernel"].shape == (3, 3, 3, 64)


@pytest.mark.slow
def test_zero_init_residual():
    """The scale of the last normalization of each of eight branches, and no other, begins at 0."""
    model = create_model("resnet18(width_multiplier=0.05, zero_init_residual=True)")
    params = jax.jit(model.init)(KEY, jnp.zeros((1, 32, 32, 3)))["params"]
    scales = {
        path_name(path): x
        for path, x in jax.tree_util.tree_flatten_with_path(params)[0]
        if path_name(path).endswith("/scale")
    }
    zeros = sorted(path for path, x in scales.items() if not x.any())
    assert zeros == [f"Block_{i}/BatchNorm_1/scale" for i in range(8)]
    assert all((x == 1).all() for path, x in scales.items() if path not in zeros)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_resolutions_share_their_parameters(name):
    assert shapes(name, 64, 1000) == shapes(name, 224, 1000)


@pytest.mark.slow
def test_width_multiplier_is_rounded_half_upwards():
    for multiplier, layer, width in (
        (0.25, "Conv_0", 16), (1e-6, "Conv_7", 1), (2.5 / 64, "Conv_0", 3), (0.25, "Dense_0", 1024)
    ):  # fmt: skip
        params = shapes(f"vgg11(width_multiplier={multiplier})", 32, 7)
        assert params[f"{layer}/kernel"].shape[-1] == width
    assert shapes("vgg11(width_multiplier=0.25)", 32, 7)["Dense_2/kernel"].shape == (1024, 7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18", "vit_tiny"])
def test_initializers_reach_their_layers(name):
    """And each is given the kernel's own shape, by which alone it knows the fans."""
    given = {"kernel_init": [], "dense_init": [], "bias_init": []}

    def recording(field):
        return lambda key, shape, dtype: given[field].append(shape) or jnp.zeros(shape, dtype)

    model = create_model(name, **{field: recording(field) for field in given})
    params = jax.eval_shape(model.init, KEY, jnp.zeros((1, 64, 64, 3)))["params"]
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    leaves = [(path_name(path), x.shape) for path, x in leaves]
    kernels = [shape for path, shape in leaves if path.endswith("/kernel")]
    biases = [s for path, s in leaves if path.endswith("/bias") and "norm" not in path.lower()]
    assert sorted(given["kernel_init"]) == sorted(s for s in kernels if len(s) == 4)
    assert sorted(given["dense_init"]) == sorted(s for s in kernels if len(s) == 2)
    assert sorted(given["bias_init"]) == sorted(biases)


@pytest.mark.slow
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
        ("vgg11_cifar(width_multiplier=0.05, use_batch_norm=True)", 8),
        ("resnet18(width_multiplier=0.05)", 16),
        ("googlenet(width_multiplier=0.05, small_images=True, activation='elu')", 8),
        ("vit_tiny(width_multiplier=0.1, depth=2, patch_size=4)", 8),
    ],
)
def test_a_narrow_one_has_gradients_in_every_kernel(name, size, monkeypatch):
    few = {module: googlenet._INCEPTION[module] for module in ("3a", "4a", "4d", "5a")}
    monkeypatch.setattr(googlenet, "_INCEPTION", few)  # all nine compile for 20 s
    model = create_model(name, num_classes=5)
    x = np.random.default_rng(1).normal(size=(4, size, size, 3)).astype(np.float32)
    variables = he_normal(jax.eval_shape(model.init, KEY, x))
    training = {"train": True, "mutable": MUTABLE, "rngs": {"dropout": KEY}}

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(params):
        inferred = model.apply(variables | {"params": params}, x)
        trained, updates = model.apply(variables | {"params": params}, x, **training)
        heads = jax.tree.leaves(updates.get("auxiliary_logits", {}))
        return sum((y**2).sum() for y in (trained, *heads)), (inferred, trained)

    gradients, logits = gradient(variables["params"])
    for array in logits:
        assert array.shape == (4, 5) and array.dtype == jnp.float32
        assert np.isfinite(array).all() and np.ptp(array) > 0
    same = name.startswith("vit")  # neither dropout nor normalization of the batch
    assert np.allclose(*logits) == same
    for path, array in jax.tree_util.tree_flatten_with_path(gradients)[0]:
        assert np.isfinite(array).all(), path_name(path)
        assert array.any() or path[-1].key != "kernel", path_name(path)

    family = name.partition("(")[0]
    if family in BRANCHES:
        # Where a branch's last layer is zero, nothing else in it has a gradient.
        last = BRANCHES[family][1]
        params = reinitialize(variables["params"], [(last, "zeros")], KEY)
        gradients, _ = gradient(params)
        for path, array in jax.tree_util.tree_flatten_with_path(gradients)[0]:
            path = path_name(path)
            if re.fullmatch("Block_.*/kernel", path) and "shortcut" not in path:
                assert array.any() == bool(re.search(last, path)), path


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("alexnet", 8, "8x8 pixels are too small: .* 63x63 and more.\nalexnet_cifar takes"),
        ("alexnet", 62, "62x62 pixels are too small"),
        ("vit_tiny", 30, "30x30 pixels cannot be cut into patches of 16x16.\nGive another"),
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
        ("resnet18(depth=20)", "depth=20 must be one of 18, 34, 50, 101, 152"),
        ("vit_tiny(patch_size=0)", "patch_size=0 must be at least 1"),
        ("vit_tiny(num_heads=0)", "num_heads=0 must be at least 1"),
        ("alexnet(width_multiplier=0)", "width_multiplier=0.0 must be positive"),
        ("alexnet(width_multiplier='wide')", "width_multiplier='wide' is not a number"),
        ("alexnet(dropout_rate=-0.1)", "dropout_rate=-0.1 must not be negative"),
        ("vgg11(dropout_rate=1)", "dropout_rate=1.0 must be below 1"),
    ],
)
def test_fields_are_checked(name, message):
    with pytest.raises(UserError, match=message):
        create_model(name)
