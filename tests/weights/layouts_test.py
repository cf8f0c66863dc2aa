"""Which axes are inputs, outputs, positions and stacks: from names, shapes and the bias."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from initjax.support.errors import UserError
from initjax.weights import Tensor, as_kernel, find_axes
from initjax.weights.layouts import parse_axes


def find(path, shape, bias=None, layout="flax"):
    shapes = {path: shape}
    if bias:
        leaf = path.replace("/", ".").rpartition(".")[2]
        shapes[path.removesuffix(leaf) + "bias"] = bias
    return find_axes(Tensor(path, shape, "float32", layout, np.zeros), shapes)


@pytest.mark.parametrize(
    ("path", "shape", "bias", "axes"),
    [
        ("query/kernel", (512, 8, 64), None, "ioo"),
        ("attention/out/kernel", (8, 64, 512), None, "iio"),
        ("a/kernel", (256, 8, 32), (8, 32), "ioo"),
        ("a/kernel", (256, 8, 32), None, None),
        ("DenseGeneral_0/kernel", (8, 64, 512), (512,), "iio"),
        ("a/kernel", (12, 256, 256), (12, 256), "sio"),
        ("layers/a/kernel", (12, 256, 256), None, None),
        ("layers/query/kernel", (12, 512, 8, 64), (12, 8, 64), "sioo"),
        ("layers/query/kernel", (12, 512, 8, 64), None, None),
        ("layers/a/kernel", (12, 3, 3, 8, 16), (12, 16), "shwio"),
        ("Conv_0/kernel", (3, 16, 32), None, "wio"),
        ("ConvTranspose_0/kernel", (3, 3, 64, 32), (64,), "hwoi"),
        ("ConvTranspose_0/kernel", (3, 3, 64, 32), (32,), "hwio"),
        ("a/kernel", (64, 3, 7, 7), None, "oihw"),
        ("conv1", (64, 3, 7, 7), None, "oihw"),
        ("conv1", (7, 7, 3, 64), None, "hwio"),
        ("conv1", (3, 3, 3, 3), None, None),
        ("a/kernel", (1, 3, 8, 8), None, None),
        ("a/kernel", (20, 30), None, "io"),
        ("linear/w", (20, 30), None, "io"),
        ("a/kernel", (256, 784), (256,), "oi"),
        ("arr_0", (20, 30), None, None),
        ("arr_0", (30, 30), None, "io"),
        ("embed/embedding", (1000, 64), None, "oi"),
        ("pos_embedding", (1, 197, 768), None, None),
    ],
)
def test_of_jax(path, shape, bias, axes):
    assert find(path, shape, bias) == axes


@pytest.mark.parametrize(
    ("path", "shape", "bias", "axes"),
    [
        ("fc.weight", (10, 512), (10,), "oi"),
        ("c_attn.weight", (768, 2304), (2304,), "io"),
        ("conv.weight", (64, 3, 7, 7), None, "oihw"),
        ("conv.weight", (32, 16, 400), None, "oiw"),
        ("conv.weight", (64, 3, 3, 128), None, None),
        ("deconv.weight", (64, 64, 2, 2), None, "iohw"),
        ("up.weight", (64, 32, 2, 2), (32,), "iohw"),
        ("experts.w1", (8, 64, 128), None, None),
    ],
)
def test_of_torch(path, shape, bias, axes):
    assert find(path, shape, bias, "torch") == axes


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(16, (3, 3), name="conv")(x)
        x = nn.ConvTranspose(8, (2, 2), transpose_kernel=True, name="up")(x)
        x = x.reshape(len(x), -1, 8)
        x = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=12, name="attention")(x, x)
        x = nn.DenseGeneral((3, 5), name="to")(x)
        x = nn.DenseGeneral(7, axis=(-2, -1), name="DenseGeneral_1")(x)
        scan = nn.scan(Layer, {"params": 0}, split_rngs={"params": True}, length=4)
        return scan(name="scan")(x, None)[0]


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(7, name="dense")(x), None


def test_of_a_flax_network():
    params = jax.eval_shape(Network().init, jax.random.key(0), np.zeros((1, 4, 4, 3)))["params"]
    leaves = jax.tree_util.tree_leaves_with_path(params)
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves
    }
    found = {
        path: find_axes(Tensor(path, shape, "float32", "flax", np.zeros), shapes)
        for path, shape in shapes.items()
        if path.endswith("kernel")
    }
    fans = {
        path: int(np.prod(as_kernel(np.zeros(shapes[path]), axes).shape[:-1]))
        for path, axes in found.items()
    }
    assert found == {
        "DenseGeneral_1/kernel": "iio",
        "attention/key/kernel": "ioo",
        "attention/out/kernel": "iio",
        "attention/query/kernel": "ioo",
        "attention/value/kernel": "ioo",
        "conv/kernel": "hwio",
        "scan/dense/kernel": "sio",
        "to/kernel": "ioo",
        "up/kernel": "hwoi",
    }
    assert fans == {
        "DenseGeneral_1/kernel": 15,
        "attention/key/kernel": 8,
        "attention/out/kernel": 12,
        "attention/query/kernel": 8,
        "attention/value/kernel": 8,
        "conv/kernel": 27,
        "scan/dense/kernel": 7,
        "to/kernel": 8,
        "up/kernel": 64,
    }


@pytest.mark.parametrize(
    ("axes", "shape", "kernel"),
    [
        ("oihw", (8, 4, 3, 2), (3, 2, 4, 8)),
        ("iohw", (4, 8, 3, 2), (3, 2, 4, 8)),
        ("hwoi", (3, 2, 8, 4), (3, 2, 4, 8)),
        ("ioo", (6, 2, 3), (6, 6)),
        ("iio", (2, 3, 5), (6, 5)),
        ("sio", (4, 5, 6), (5, 24)),
        ("isoo", (5, 4, 2, 3), (5, 24)),
        ("oi", (8, 4), (4, 8)),
    ],
)
def test_kernels(axes, shape, kernel):
    """Outputs stay together with what makes them: each has a number of its own here."""
    numbers = np.zeros(shape, int)
    outputs = [i for i, letter in enumerate(axes) if letter in "so"]
    for rank, axis in enumerate(sorted(outputs, key=lambda i: axes[i] != "s")):
        along = np.arange(shape[axis]) * 100**rank
        numbers += along.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    found = as_kernel(numbers, axes)
    assert found.shape == kernel
    assert len(np.unique(found)) == kernel[-1]
    assert (found == found.reshape(-1, kernel[-1])[0]).all()


def test_words_of_the_user():
    assert parse_axes("") == {}
    assert parse_axes("OIHW, oi") == {4: "oihw", 2: "oi"}
    for text, problem in [
        ("hwi", "no layout"), ("hhio", "no layout"), ("bio", "no layout"), ("io,oi", "two layouts"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=problem):
            parse_axes(text)
