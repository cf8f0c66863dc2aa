"""Fans against jax.nn.initializers' own, against layers that count, and by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax._src.nn.initializers import _compute_fans

from initjax.initializers.fans import axes_from_einsum, effective_fan, fans, fans_from_einsum
from initjax.support.errors import UserError


@pytest.mark.parametrize(
    "shape, axes",
    [
        ((5, 7), {}),
        ((3, 3, 16, 32), {}),
        ((3, 5, 5, 16, 32), {}),
        ((32, 16, 3, 3), {"in_axis": 1, "out_axis": 0}),
        ((4, 5, 7), {"batch_axis": 0}),
        ((12, 8, 64), {"in_axis": 0, "out_axis": (1, 2)}),
        ((12, 8, 64), {"in_axis": (0, 1), "out_axis": -1}),
        ((7,), {"in_axis": 0, "out_axis": ()}),
        ([5, 7], {}),
    ],
)
def test_equal_to_jax(shape, axes):
    assert fans(shape, **axes) == _compute_fans(shape, **axes)


@pytest.mark.parametrize(
    "shape, arguments, expected",
    [
        # Depthwise and grouped: pytorch 23854, keras 11773, timm 84, mlx 4536.
        ((3, 3, 1, 64), {"groups": 64}, (9, 9)),
        ((3, 3, 1, 128), {"groups": 64}, (9, 18)),
        ((3, 3, 8, 32), {"groups": 4}, (72, 72)),
        ((32, 8, 3, 3), {"in_axis": 1, "out_axis": 0, "groups": 4}, (72, 72)),
        ((3, 3, 16, 32), {"groups": 1}, (144, 288)),
        # Transposed, with strides.
        ((4, 4, 16, 32), {"transposed": 2}, (64, 512)),
        ((4, 4, 16, 32), {"transposed": (2, 2)}, (64, 512)),
        ((4, 6, 16, 32), {"transposed": [2, 3]}, (64, 768)),
        ((3, 16, 32), {"transposed": 2}, (24, 96)),
        ((3, 5, 32), {"transposed": 2}, (7.5, 96)),
        ((4, 4, 16, 32), {"transposed": 1}, (256, 512)),
        ((4, 4, 16, 32), {"transposed": False}, (256, 512)),
        ((4, 4, 8, 32), {"transposed": 2, "groups": 2}, (32, 256)),
        # Packed projections: pytorch 166378.
        ((512, 1536), {"split": 3}, (512, 512)),
        ((1536, 512), {"in_axis": 1, "out_axis": 0, "split": 3}, (512, 512)),
        ((512, 3, 8, 64), {"in_axis": 0, "out_axis": (1, 2, 3), "split": 3}, (512, 512)),
        # An embedding's inputs are its columns.
        ((1000, 64), {"in_axis": 1, "out_axis": 0}, (64, 1000)),
    ],
)
def test_groups_strides_and_packing(shape, arguments, expected):
    assert fans(shape, **arguments) == expected


@pytest.mark.slow
def test_embedding_as_flax_has_it():
    # Flax names one axis as input and output at once, which squares its way to the same fan_in.
    params = nn.Embed(4000, 64).init(jax.random.key(0), jnp.zeros(1, int))
    variance = float(params["params"]["embedding"].var())
    assert variance * fans((4000, 64), 1, 0)[0] == pytest.approx(1, rel=0.02)


def _connections(convolve, size):
    """How many outputs the middle inputs reach, and inputs the middle outputs meet, on average."""
    jacobian = jax.jacobian(lambda x: convolve(x[None])[0])(jnp.ones(size))
    outputs = jacobian.reshape(-1, *size) != 0
    per_input = outputs.sum(0)
    middle = [slice(n // 4, 3 * n // 4) for n in per_input.shape[:-1]]
    reached = per_input[tuple(middle)].mean()
    by_position = (jacobian != 0).sum(range(jacobian.ndim // 2, jacobian.ndim))
    middle = [slice(n // 4, 3 * n // 4) for n in by_position.shape[:-1]]
    return float(by_position[tuple(middle)].mean()), float(reached)


@pytest.mark.slow
@pytest.mark.parametrize("kernel, strides", [(4, 2), (3, 2), (6, 3)])
def test_transposed_convolution_counted(kernel, strides):
    layer = nn.ConvTranspose(5, (kernel,), (strides,), kernel_init=nn.initializers.ones)
    params = layer.init(jax.random.key(0), jnp.ones((1, 24, 4)))
    met, reached = _connections(lambda x: layer.apply(params, x), (24, 4))
    shape = params["params"]["kernel"].shape
    assert (met, reached) == pytest.approx(fans(shape, transposed=strides), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_convolution_counted(groups):
    layer = nn.Conv(8, (3,), feature_group_count=groups, kernel_init=nn.initializers.ones)
    params = layer.init(jax.random.key(0), jnp.ones((1, 16, 4)))
    counted = _connections(lambda x: layer.apply(params, x), (16, 4))
    assert counted == fans(params["params"]["kernel"].shape, groups=groups)


@pytest.mark.parametrize(
    "shape, arguments, message",
    [
        ((5,), {}, "in_axis=-2"),
        ((), {}, "in_axis=-2"),
        ((5, 7), {"out_axis": 3}, "out_axis=3"),
        ((5, 7), {"in_axis": (0, -2)}, "named twice"),
        ((5, 7), {"out_axis": 0}, "named twice"),
        ((5, 7), {"batch_axis": "x"}, "batch_axis='x'"),
        ((3, 3, 8, 32), {"groups": 5}, "groups=5 does not divide the 32"),
        ((3, 3, 8, 32), {"groups": 0}, "groups=0"),
        ((3, 3, 8, 32), {"groups": 1.5}, "groups=1.5"),
        ((8, 32), {"split": 3}, "split=3 does not divide the 32"),
        ((8, 32), {"split": "x"}, "split='x'"),
        ((8, 32), {"transposed": 2}, "transposed=2 does not fit the 0 axes"),
        ((3, 3, 8, 32), {"transposed": (2,)}, "does not fit the 2 axes"),
        ((3, 3, 8, 32), {"transposed": True}, "give the strides"),
        ((3, 3, 8, 32), {"transposed": (2, 0)}, "transposed=0"),
    ],
)
def test_bad_arguments(shape, arguments, message):
    with pytest.raises(UserError, match=message):
        fans(shape, **arguments)


@pytest.mark.parametrize(
    "equation, shape, expected",
    [
        ("bld,dnh->blnh", (512, 8, 64), (512, 512)),
        ("blnh,nhd->bld", (8, 64, 256), (512, 256)),
        ("...d,df->...f", (5, 7), (5, 7)),
        ("... d, d f -> ... f", (5, 7), (5, 7)),
        ("ecd,edf->ecf", (16, 5, 7), (5, 7)),
        ("bld,fd->blf", (7, 5), (5, 7)),
        ("blc,c->blc", (5,), (1, 1)),
        ("bc,c->b", (5,), (5, 1)),
        ("b,->b", (), (1, 1)),
    ],
)
def test_einsum(equation, shape, expected):
    assert fans_from_einsum(equation, shape) == expected


def test_einsum_axes_make_an_initializer():
    from initjax.initializers import lecun_normal

    in_axis, out_axis, batch_axis = axes_from_einsum("ecd,edf->ecf")
    init = lecun_normal(in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis)
    weights = init(jax.random.key(0), (16, 64, 64))
    assert float(weights.var()) == pytest.approx(1 / 64, rel=0.02)


@pytest.mark.parametrize(
    "equation, shape, message",
    [
        ("bld,dnh", (5, 7, 9), "not of the form"),
        ("bld->bld", (5,), "not of the form"),
        ("ab,bc,cd->ad", (5, 7), "not of the form"),
        ("bl1,1h->blh", (5, 7), "not a row of letters"),
        ("...d,...df->...f", (5, 7), "not a row of letters"),
        ("bd,dd->bd", (5, 5), "the weights repeat 'd'"),
        ("bd,dx->bd", (5, 5), "'x' of the weights is in neither"),
        ("bd,df->bfz", (5, 5), "'z' of the outputs comes from nowhere"),
        ("bd,df->bf", (5, 5, 5), "gives the weights 2 axes"),
        (3, (5, 5), "equation=3"),
    ],
)
def test_bad_einsum(equation, shape, message):
    with pytest.raises(UserError, match=message):
        fans_from_einsum(equation, shape)


@pytest.mark.parametrize(
    "mode, expected", [("fan_in", 4), ("fan_out", 9), ("fan_avg", 6.5), ("fan_geo_avg", 6)]
)
def test_effective_fan(mode, expected):
    assert effective_fan(mode, 4, 9) == expected
