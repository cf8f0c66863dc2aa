"""Parameters from a trained network: which leaf takes which array, and what is told of it."""

import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import initjax
from initjax.network import DepthWarmStart
from initjax.network.warm_starts import read_warm_start
from initjax.support.errors import UserError
from initjax.support.naming import parse

INIT = initjax.normal(stddev=0.1)


class Net(nn.Module):
    """A plain network as VGG: 3x3 convolutions of these widths, and three dense layers."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        for width in self.widths:
            x = nn.relu(nn.Conv(width, (3, 3), kernel_init=INIT)(x))
        x = x.mean((1, 2))
        for width in (24, 24, 10):
            x = nn.Dense(width, kernel_init=INIT)(x)
        return x


# The stages of Simonyan & Zisserman's networks A and E (11 and 19 layers), 1/8 as wide and with a
# number of channels that tells the last two apart from each other.
A = (8, 16, 32, 32, 64, 64, 64, 64)
E = (8, 8, 16, 16, *[32] * 4, *[64] * 8)


def params(widths, seed):
    shapes = jax.eval_shape(Net(widths).init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))["params"]
    drawn = np.asarray(INIT(jax.random.key(seed), (400_000,)))  # one program for all shapes
    ends = iter(np.cumsum([x.size for x in jax.tree.leaves(shapes)]))

    def leaf(x):
        end = next(ends)
        return drawn[end - x.size : end].reshape(x.shape) if x.ndim > 1 else np.zeros(x.shape)

    return jax.tree.map(leaf, shapes)


def trained(widths=A):
    """With biases that are not 0."""
    return jax.tree.map(lambda x: x + 1 if x.ndim == 1 else x, params(widths, 1))


SOURCE = {  # of VGG-19's layers, by the source's rule
    "Conv_0": "Conv_0", "Conv_2": "Conv_1", "Conv_4": "Conv_2", "Conv_5": "Conv_3",
    "Dense_0": "Dense_0", "Dense_1": "Dense_1", "Dense_2": "Dense_2",
}  # fmt: skip
ALL = SOURCE | {"Conv_8": "Conv_4", "Conv_9": "Conv_5", "Conv_10": "Conv_6", "Conv_11": "Conv_7"}


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "expected"), [("Conv_[0-3]$|Dense_", SOURCE), ("", ALL)])
def test_the_sources_rule(layers, expected):
    """Named arrays bit-equal, the other kernels of sd .1, the other biases 0."""
    before, old = params(E, 2), trained()
    new, origins = initjax.from_checkpoint(before, old, "depth_warm_start", layers=layers)
    assert jax.tree.structure(new) == jax.tree.structure(before)
    assert {p: o for p, o in origins.items() if o} == {
        f"{to}/{leaf}": f"{of}/{leaf}" for to, of in expected.items() for leaf in ("kernel", "bias")
    }
    for layer, leaves in new.items():
        if layer in expected:
            for name, leaf in leaves.items():
                np.testing.assert_array_equal(leaf, old[expected[layer]][name])
        else:
            kernel = np.asarray(leaves["kernel"], np.float64)
            error = 4 * 0.1 / np.sqrt(2 * kernel.size)
            assert np.sqrt(np.mean(kernel**2)) == pytest.approx(0.1, abs=error)
            assert not leaves["bias"].any()


@pytest.mark.slow
def test_the_same_network_is_taken_whole():
    old = trained(E)
    new, origins = initjax.from_checkpoint(params(E, 2), old)
    assert all(path == origin for path, origin in origins.items())
    jax.tree.map(np.testing.assert_array_equal, new, old)


def test_layers_count_as_numbers_within_their_stage():
    """Of twelve equal ones the third is Conv_2 and not Conv_10; stages keep to themselves."""

    def stages(number, of, value):
        return {
            f"Stage_{s}": {f"Conv_{i}": {"kernel": np.full((2, 2), value + 100 * s + i)}}
            for s in range(number)
            for i in [0]
        } | {
            f"Stage_{number}": {
                f"Conv_{i}": {"kernel": np.full((2, 2), value + i)} for i in range(of)
            }
        }

    old, new = stages(1, 3, 0.0), stages(1, 12, -1000.0)
    found, origins = initjax.from_checkpoint(
        new, old, "depth_warm_start", layers=r"(?P<stage>Stage_\d+)/"
    )
    assert origins["Stage_1/Conv_2/kernel"] == "Stage_1/Conv_2/kernel"
    assert origins["Stage_1/Conv_10/kernel"] is None
    assert found["Stage_1"]["Conv_1"]["kernel"][0, 0] == 1
    by_shape = initjax.from_checkpoint(new, old)[1]
    assert by_shape["Stage_1/Conv_0/kernel"] == "Stage_1/Conv_0/kernel"
    more = stages(0, 2, 0.0)  # Stage_0 has two
    staged = initjax.from_checkpoint(new, more, layers=r"(?P<stage>Stage_\d+)/")[1]
    assert [p for p, o in staged.items() if o] == ["Stage_0/Conv_0/kernel"]
    assert initjax.from_checkpoint(new, more)[1]["Stage_1/Conv_0/kernel"] == "Stage_0/Conv_1/kernel"


def test_files_and_dtypes(tmp_path):
    np.savez(tmp_path / "w.npz", **{"a/kernel": np.arange(6.0).reshape(2, 3)})  # float64
    tree = {"b": {"kernel": jnp.zeros((2, 3), jnp.bfloat16)}, "c": jnp.zeros(3)}
    new, origins = initjax.from_checkpoint(tree, tmp_path / "w.npz")
    assert new["b"]["kernel"].dtype == jnp.bfloat16 and new["c"] is tree["c"]
    np.testing.assert_array_equal(new["b"]["kernel"], np.arange(6).reshape(2, 3))
    assert origins == {"b/kernel": "a/kernel", "c": None}


def test_texts():
    assert read_warm_start("runs/vgg11") == DepthWarmStart("runs/vgg11")
    assert read_warm_start("runs/a (1)") == DepthWarmStart("runs/a (1)")
    start = read_warm_start("depth_warm_start('runs/vgg11', layers='Dense')")
    assert start == DepthWarmStart("runs/vgg11", "Dense")
    assert read_warm_start(start) == read_warm_start(parse(repr(start))) == start
    assert pickle.loads(pickle.dumps(start)) == start and hash(start)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deep_warm_start('a')", "Did you mean 'depth_warm_start'"),
        ("depth_warm_start(layers='a')", "missing a required argument: 'source'"),
        ("depth_warm_start('a', layer='b')", "It takes: source, layers=''"),
        ("depth_warm_start('a', layers='(')", "layers='(' is not a regular expression"),
        ("depth_warm_start(3)", "source=3 is not a path"),
    ],
)
def test_errors_of_texts(text, message):
    with pytest.raises(UserError) as error:
        read_warm_start(text)
    assert message in str(error.value) and len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("source", "layers", "message"),
    [
        ({"a": {"kernel": np.zeros((2, 2))}}, "", "source has a 2x2; the network Conv_0 8 3x3x3x8"),
        ({"a": {"kernel": np.zeros((2, 2))}}, "b", "layers='b' matches no layer: a."),
        ("nowhere/at/all", "", "nowhere/at/all does not exist"),
    ],
)
def test_errors_of_sources(source, layers, message):
    with pytest.raises(UserError) as error:
        initjax.from_checkpoint(params(A, 0), source, layers=layers)
    assert message in str(error.value) and len(str(error.value).splitlines()) <= 2
