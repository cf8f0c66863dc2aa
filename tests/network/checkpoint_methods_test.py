"""From a checkpoint: smaller, larger and equal networks, and where each leaf came from."""

import itertools
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import initjax
from initjax.network.filter_covariance import filter_covariance
from initjax.network.subcloning import block_changes
from initjax.network.units import evenly
from initjax.network.warm_starts import METHODS, read_warm_start
from initjax.support.errors import UserError
from initjax.support.naming import parse

RNG = np.random.default_rng(0)


def draw(shapes):
    """A tree of normal numbers in these shapes, given as nested dicts of tuples."""
    return jax.tree.map(
        lambda shape: RNG.standard_normal(shape), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


def mlp(*sizes):
    ends = enumerate(itertools.pairwise(sizes))
    return {f"Dense_{i}": {"kernel": (a, b), "bias": (b,)} for i, (a, b) in ends}


def zeros(shapes):
    return jax.tree.map(np.zeros, shapes, is_leaf=lambda x: isinstance(x, tuple))


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (384, 192, list(range(0, 384, 2))),
        (10, 4, [0, 3, 6, 9]),
        (12, 5, [0, 3, 6, 8, 11]),
        (3, 3, [0, 1, 2]),
        (5, 1, [0]),
    ],
)
def test_every_nth_unit(source, target, expected):
    assert evenly(source, target).tolist() == expected


def test_weight_selection():
    teacher = draw({"Block_0": mlp(12, 10, 12), "Block_1": mlp(12, 10, 12), "head": mlp(12, 7)})
    student = zeros({"Block_0": mlp(5, 4, 5), "head": mlp(5, 7)})
    new, origins = initjax.from_checkpoint(student, teacher, "weight_selection")
    five, four = [0, 3, 6, 8, 11], [0, 3, 6, 9]
    old = teacher["Block_0"]["Dense_0"]["kernel"].astype(np.float32)
    np.testing.assert_array_equal(new["Block_0"]["Dense_0"]["kernel"], old[np.ix_(five, four)])
    assert origins["Block_0/Dense_1/bias"] == "Block_0/Dense_1/bias, every n-th unit"
    assert origins["head/Dense_0/kernel"] is None and not new["head"]["Dense_0"]["kernel"].any()
    scaled, _ = initjax.from_checkpoint(student, teacher, "weight_selection", rescale=True)
    ratio = scaled["Block_0"]["Dense_0"]["kernel"] / new["Block_0"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(ratio, np.sqrt(12 / 5), rtol=1e-6)
    np.testing.assert_array_equal(
        scaled["Block_0"]["Dense_0"]["bias"], new["Block_0"]["Dense_0"]["bias"]
    )
    with pytest.raises(
        UserError, match=r"Block_0/Dense_0/bias: the source's shape \(4,\) is smaller"
    ):
        initjax.from_checkpoint(teacher, student, "weight_selection")


def attention(width):
    layers = ("query", "key", "value", "out")
    return {
        "attention": {name: {"kernel": (width, width), "bias": (width,)} for name in layers},
        "LayerNorm_0": {"scale": (width,)},
    }


def test_heads_are_taken_whole():
    """Of 6 heads of 4 features every second one; the stream is cut by units."""
    teacher, student = draw(attention(24)), zeros(attention(12))
    with pytest.raises(UserError, match=r"24 and 12 features has heads.*\nSay .* heads=\("):
        initjax.from_checkpoint(student, teacher, "weight_selection")
    new, _ = initjax.from_checkpoint(student, teacher, "weight_selection", heads=(6, 3))
    heads = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]
    stream = list(range(0, 24, 2))
    for name in ("query", "key", "value", "out"):
        ends = (heads, stream) if name == "out" else (stream, heads)
        old = teacher["attention"][name]["kernel"].astype(np.float32)
        np.testing.assert_array_equal(new["attention"][name]["kernel"], old[np.ix_(*ends)])
    old = teacher["LayerNorm_0"]["scale"].astype(np.float32)
    np.testing.assert_array_equal(new["LayerNorm_0"]["scale"], old[stream])
    teacher["attention"]["value"]["kernel"][:, 20:] = 50  # the last head, by importance
    cloned, _ = initjax.from_checkpoint(student, teacher, "subcloning", heads=(6, 3))
    assert (np.asarray(cloned["attention"]["value"]["kernel"])[:, 8:] == np.float32(50)).sum() == 0
    assert np.allclose(cloned["attention"]["value"]["kernel"][:, 8:], 50 * np.sqrt(2))
    with pytest.raises(UserError, match="do not divide 24 and 12"):
        initjax.from_checkpoint(student, teacher, "weight_selection", heads=(6, 5))


def test_subcloning_keeps_what_matters_in_every_layer():
    """Large units of the stream are found again wherever it goes, scaled for their fans."""
    shapes = {"Dense_0": {"kernel": (3, 6), "bias": (6,)}}
    shapes |= {f"Block_{i}": {"a": {"kernel": (6, 8)}, "b": {"kernel": (8, 6)}} for i in range(4)}
    teacher = draw(shapes)
    large = [1, 4, 5]
    teacher["Dense_0"]["kernel"][:, large] *= 100
    for i in range(4):
        teacher[f"Block_{i}"]["b"]["kernel"][:, large] *= 100
        teacher[f"Block_{i}"]["a"]["kernel"][:, 0] = 9  # one of the hidden units
    small = {"Dense_0": {"kernel": (3, 3), "bias": (3,)}}
    small |= {f"Block_{i}": {"a": {"kernel": (3, 2)}, "b": {"kernel": (2, 3)}} for i in range(2)}
    with pytest.raises(UserError, match=r"4 blocks shall become 2.*\nchanges="):
        initjax.from_checkpoint(zeros(small), teacher, "subcloning")
    changes = (0.1, 0.9, 0.2, 0.8)
    new, origins = initjax.from_checkpoint(zeros(small), teacher, "subcloning", changes=changes)
    assert origins["Block_1/a/kernel"] == "Block_3/a/kernel, its most important units"
    np.testing.assert_allclose(
        new["Dense_0"]["kernel"], teacher["Dense_0"]["kernel"][:, large], rtol=1e-6
    )
    first = teacher["Block_1"]["a"]["kernel"][large, 0] * np.sqrt(6 / 3)
    np.testing.assert_allclose(new["Block_0"]["a"]["kernel"][:, 0], first, rtol=1e-6)
    last = teacher["Block_1"]["b"]["kernel"][0, large] * np.sqrt(8 / 2)
    np.testing.assert_allclose(new["Block_0"]["b"]["kernel"][0], last, rtol=1e-6)


class Residual(nn.Module):
    """x + c f(x)."""

    c: float

    @nn.compact
    def __call__(self, x):
        return x + self.c * nn.Dense(x.shape[-1], kernel_init=initjax.identity())(x)


class Tower(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i, c in enumerate((0.5, 0.0, 2.0)):
            x = Residual(c, name=f"Block_{i}")(x)
        return x


def test_changes_of_blocks_are_measured():
    x = jnp.ones((2, 3))
    variables = Tower().init(jax.random.key(0), x)
    assert block_changes(Tower(), variables, x) == pytest.approx((0.5, 0.0, 2.0))
    with pytest.raises(UserError, match="blocks='Layer' matches no module"):
        block_changes(Tower(), variables, x, "Layer")


@pytest.mark.parametrize(("order", "expected"), [("stack", "012012"), ("interpolate", "001122")])
def test_stacking(order, expected):
    def blocks(number):
        return {f"Block_{i}": {"kernel": (2, 2)} for i in range(number)} | {"head": (2, 3)}

    teacher, deep = draw(blocks(3)), zeros(blocks(6))
    new, origins = initjax.from_checkpoint(deep, teacher, "stacking", order=order)
    assert [origins[f"Block_{i}/kernel"] for i in range(6)] == [
        f"Block_{i}/kernel" for i in expected
    ]
    np.testing.assert_array_equal(
        new["Block_4"]["kernel"], teacher[f"Block_{expected[4]}"]["kernel"].astype(np.float32)
    )
    assert origins["head"] == "head"
    teacher["Block_0"]["kernel"] = np.zeros((3, 2))
    with pytest.raises(UserError, match=r"Block_0/kernel has the shape \(2, 2\), and Block_0"):
        initjax.from_checkpoint(deep, teacher, "stacking", order=order)
    with pytest.raises(UserError, match="matches no path of the source"):
        initjax.from_checkpoint(deep, {"a": np.ones(1)}, "stacking", order=order)


class Net(nn.Module):
    """Convolutions with a shortcut, flattened, and dense layers."""

    width: int = 4
    hidden: int = 6
    convs: int = 2
    denses: int = 1

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(self.width, (3, 3))(x))
        for _ in range(self.convs - 1):
            x = (
                x + nn.relu(nn.Conv(self.width, (3, 3))(x))
                if self.convs == 2
                else nn.relu(nn.Conv(self.width, (3, 3))(x))
            )
        x = x.reshape(len(x), -1)
        for _ in range(self.denses):
            x = nn.relu(nn.Dense(self.hidden)(x))
        return nn.Dense(3)(x)


X = RNG.standard_normal((5, 4, 4, 2)).astype(np.float32)


def params_of(seed=0, **fields):
    params = Net(**fields).init(jax.random.key(seed), X)["params"]
    return jax.tree.map(lambda p: p + 0.1 if p.ndim == 1 else p, params)


def outputs(params, **fields):
    return Net(**fields).apply({"params": params}, X)


@pytest.mark.slow
def test_a_wider_network_computes_the_same():
    """Odd numbers of copies, a shortcut, and positions of an image side by side."""
    small = params_of()
    fields = {"width": 7, "hidden": 13}
    new, origins = initjax.from_checkpoint(params_of(1, **fields), small, "net2net_wider")
    np.testing.assert_allclose(outputs(new, **fields), outputs(small), rtol=1e-6, atol=1e-6)
    assert origins["Conv_0/kernel"] == "Conv_0/kernel, with copies of units"
    assert origins["Dense_1/bias"] == "Dense_1/bias"
    # W2[g] / count(g), to the last bit of float64.
    g, counts = np.array([0, 1, 2, 0, 1]), np.array([2, 2, 1, 2, 2])
    old = draw(mlp(3, 3, 2))
    wide = initjax.network.Net2NetWider(None).take(
        initjax.network.warm_starts.arrays_of(zeros(mlp(3, 5, 2))),
        initjax.network.warm_starts.arrays_of(old),
    )
    np.testing.assert_array_equal(
        wide["Dense_1/kernel"][0], old["Dense_1"]["kernel"][g] / counts[:, None]
    )
    x = RNG.standard_normal((4, 3))
    nets = [
        np.tanh(x @ first + bias) @ second
        for first, bias, second in (
            (old["Dense_0"]["kernel"], old["Dense_0"]["bias"], old["Dense_1"]["kernel"]),
            [
                wide[f"Dense_{i}/{leaf}"][0]
                for i, leaf in ((0, "kernel"), (0, "bias"), (1, "kernel"))
            ],
        )
    ]
    np.testing.assert_allclose(*nets, rtol=1e-14, atol=1e-15)


@pytest.mark.slow
def test_a_deeper_network_computes_the_same():
    small = params_of(denses=2)
    fields = {"denses": 4}
    new, origins = initjax.from_checkpoint(params_of(1, **fields), small, "net2net_deeper")
    np.testing.assert_allclose(
        outputs(new, **fields), outputs(small, denses=2), rtol=1e-6, atol=1e-6
    )
    assert origins["Dense_2/kernel"] == origins["Dense_3/bias"] == "identity"
    assert origins["Dense_4/kernel"] == "Dense_2/kernel"
    layers = [("Conv_0", "Conv_0"), ("Dense_0", "Dense_0"), ("Dense_1", "Dense_1")]
    one, three = params_of(convs=1), {"convs": 3}
    new, _ = initjax.from_checkpoint(params_of(1, **three), one, "net2net_deeper", layers=layers)
    np.testing.assert_allclose(outputs(new, **three), outputs(one, convs=1), rtol=1e-6, atol=1e-6)
    text = f"net2net_deeper('a', layers={tuple(layers)!r})"
    assert read_warm_start(text) == read_warm_start(parse(repr(read_warm_start(text))))


@pytest.mark.parametrize(
    ("method", "source", "params", "message"),
    [
        ("net2net_wider", mlp(3, 5, 2), mlp(3, 4, 2), "5 units of the source shall become fewer"),
        ("net2net_wider", mlp(3, 5), mlp(3, 5, 2), "no Dense_1/bias, without which"),
        ("net2net_wider", attention(4), attention(8), "features of attention change the output"),
        (
            "net2net_wider",
            {"LayerNorm_0": {"scale": (4,)}},
            {"LayerNorm_0": {"scale": (6,)}},
            "4 units cannot become 6",
        ),
        ("net2net_deeper", mlp(3, 5, 2), mlp(3, 5, 4, 2), "has no place here"),
        (
            "net2net_deeper",
            mlp(3, 5),
            mlp(3, 5, 2),
            "Dense_1, of shape (5, 2), cannot be an",
        ),
        ("filter_covariance", mlp(3, 5), mlp(3, 5), "The network has no depthwise filters"),
        ("laws", {"bias": (3,)}, mlp(3, 5), "holds no kernels"),
    ],
)
def test_errors(method, source, params, message):
    with pytest.raises(UserError) as error:
        initjax.from_checkpoint(zeros(params), draw(source), method)
    assert message in str(error.value) and len(str(error.value).splitlines()) <= 2


@pytest.mark.slow
def test_filters_have_the_covariance_of_the_trained_ones():
    """Within 4 standard errors of a sample covariance, sqrt((s_ij^2 + s_ii s_jj) / n)."""
    root = RNG.standard_normal((9, 9))
    filters = (root @ RNG.standard_normal((9, 500))).reshape(3, 3, 1, 500)
    teacher = {"Conv_0": {"kernel": filters}, "Conv_1": {"kernel": np.ones((1, 1, 4, 2))}}
    number = 4000
    student = zeros({f"Conv_{i}": {"kernel": (3, 3, 1, number)} for i in range(2)})
    new, origins = initjax.from_checkpoint(student, teacher, "filter_covariance")
    assert origins["Conv_1/kernel"] == "N(0, covariance of Conv_0/kernel)"
    wanted = filter_covariance(filters).reshape(9, 9)
    found = filter_covariance(new["Conv_1"]["kernel"]).reshape(9, 9)
    diagonal = np.diag(wanted)
    error = np.sqrt((wanted**2 + np.outer(diagonal, diagonal)) / number)
    assert np.max(np.abs(found - wanted) / error) < 4
    assert (new["Conv_0"]["kernel"] != new["Conv_1"]["kernel"]).any()
    # Resized: what is constant over the window stays constant, of the same variance.
    flat = np.broadcast_to(RNG.standard_normal(500), (3, 3, 1, 500))
    large = zeros({"a": {"kernel": (5, 7, 1, 40)}})
    new, _ = initjax.from_checkpoint(large, {"b": {"kernel": flat}}, "filter_covariance", seed=1)
    kernel = np.asarray(new["a"]["kernel"])
    np.testing.assert_allclose(kernel - kernel[:1, :1], 0, atol=1e-5)
    assert kernel.std() == pytest.approx(1, abs=4 / np.sqrt(2 * 40))


@pytest.mark.slow
def test_laws_by_path():
    """A Laplace kernel gives a Laplace kernel of other sizes, of the fan's variance."""
    teacher = {"Dense_0": {"kernel": RNG.laplace(size=(80, 60)), "bias": RNG.standard_normal(60)}}
    student = zeros(mlp(100, 90))
    new, origins = initjax.from_checkpoint(student, teacher, "laws", law="laplace")
    kernel = np.asarray(new["Dense_0"]["kernel"])
    assert kernel.var() == pytest.approx(2 / 100, rel=1e-3)
    kurtosis = np.mean(kernel**4) / np.mean(kernel**2) ** 2  # 6; standard error sqrt(1188 / n)
    assert kurtosis == pytest.approx(6, abs=4 * np.sqrt(1188 / kernel.size))
    assert origins == {
        "Dense_0/kernel": "Laplace(), fitted to Dense_0/kernel",
        "Dense_0/bias": None,
    }


def test_every_method_is_a_value_and_a_text():
    assert set(METHODS) == {
        "depth_warm_start", "weight_selection", "subcloning", "stacking", "net2net_wider",
        "net2net_deeper", "filter_covariance", "laws",
    }  # fmt: skip
    for name in METHODS:
        start = read_warm_start(f"{name}('runs/a')")
        assert pickle.loads(pickle.dumps(start)) == start and hash(start)
        assert read_warm_start(parse(repr(start))) == start
