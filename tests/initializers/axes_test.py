"""Every name with a fan takes its axes, groups and strides; every one with a depth asks for it."""

import inspect
import math

import jax
import numpy as np
import pytest

import initjax
from initjax.initializers import VarianceScaling
from initjax.initializers.axes import DEFAULTS, AxisFields, FanFields, fan_arguments
from initjax.initializers.base import INITIALIZERS, entries
from initjax.initializers.catalog import examples
from initjax.support.errors import UserError

KEY = jax.random.key(5)
NAMES = [entry.names[0] for entry in entries()]


def with_arguments(name, text):
    call = examples()[name]
    call = call[:-1] + ", " if call.endswith(")") else call + "("
    return initjax.get(f"{call}{text})")


FANS = [n for n in NAMES if isinstance(initjax.get(examples()[n]), VarianceScaling | FanFields)]
AXES = [n for n in NAMES if isinstance(initjax.get(examples()[n]), AxisFields)]
# Of names whose weights depend on the shape and that have other arguments for it, or none: why.
OTHERWISE = {
    **dict.fromkeys(("orthogonal", "delta_orthogonal", "scaled_orthogonal"), "column_axis"),
    **dict.fromkeys(("recurrent_orthogonal", "torch_recurrent"), "gates"),
    **dict.fromkeys(("identity", "irnn", "zero", "padded_identity", "bilinear"), "entries of 1"),
    "sparse": "as many connections whatever the fan",
    **dict.fromkeys(("hippo_legs", "hippo_legs_input", "s4d", "mamba_a_log"), "a vector's length"),
    "class_prior": "a vector's length",
}


@pytest.mark.slow
def test_no_name_that_has_a_fan_is_without_axes():
    """What two shapes give a different size is told by its axes."""
    found = set()
    for name in NAMES:
        init = initjax.get(examples()[name])
        sizes = [
            float(np.abs(np.asarray(init(KEY, shape), np.float64)).mean())
            for shape in ((32, 32), (256, 32), (32, 256))
        ]
        if not np.allclose(sizes, sizes[0], rtol=0.1):
            found.add(name)
    assert found - set(FANS) - set(AXES) <= set(OTHERWISE)
    assert {"fixup", "edge_of_chaos_kernel", "survey_kaiming", "siren", "spectral"} <= found


@pytest.mark.parametrize("name", FANS)
def test_the_six_arguments_of_a_fan(name):
    parameters = inspect.signature(INITIALIZERS[name]).parameters
    assert {n: parameters[n].default for n in DEFAULTS} == DEFAULTS
    init = with_arguments(name, "in_axis=1, out_axis=0, groups=2, split=4, transposed=2")
    told = {"in_axis": 1, "out_axis": 0, "groups": 2, "split": 4, "transposed": 2}
    assert fan_arguments(init) == told
    assert initjax.get(repr(init)) == init and hash(init)
    if isinstance(init, VarianceScaling):
        n = {"fan_in": 0, "fan_out": 1}.get(init.mode)
        fan = initjax.fans((16, 8, 4), **told)
        expected = init.scale / (sum(fan) / 2 if n is None else fan[n])
        assert init.variance((16, 8, 4)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", AXES)
def test_axes_move_and_stack(name):
    """(out, in) are the same weights, transposed; a stack's slices have the size of one."""
    if name == "deepnorm":
        moved = initjax.deepnorm(8, in_axis=1, out_axis=0)
        assert moved.kernel_init.variance((64, 16)) == initjax.deepnorm(8).kernel_init.variance(
            (16, 64)
        )
        return
    plain, moved = initjax.get(examples()[name]), with_arguments(name, "in_axis=1, out_axis=0")
    np.testing.assert_array_equal(moved(KEY, (16, 12)), plain(KEY, (12, 16)).T)
    heads = with_arguments(name, "in_axis=0, out_axis=(1, 2)")
    np.testing.assert_array_equal(heads(KEY, (12, 4, 8)), plain(KEY, (12, 32)).reshape(12, 4, 8))
    stacked = with_arguments(name, "batch_axis=0")(KEY, (3, 12, 16))
    for i in range(3):
        np.testing.assert_allclose(
            stacked[i], plain(jax.random.fold_in(KEY, i), (12, 16)), rtol=2e-6, atol=2e-6
        )


def test_fixup_in_groups_and_transposed():
    assert initjax.fixup(16, groups=64) == initjax.get("fixup(16, groups=64)")
    init = initjax.fixup(16, transposed=2)
    assert init.variance((4, 4, 16, 32)) == pytest.approx(0.125 / 64)
    assert initjax.t_fixup(6, split=3).variance((64, 192)) == initjax.t_fixup(6).variance((64, 64))
    assert initjax.deepnorm(8, split=3).kernel_init.variance((64, 192)) == pytest.approx(0.125 / 64)
    wide = initjax.spectral_normal(groups=64)(KEY, (3, 3, 1, 64))
    assert float((np.asarray(wide) ** 2).mean()) == pytest.approx(1 / 81, rel=4 * (2 / 576) ** 0.5)


@pytest.mark.slow
def test_layers_side_by_side_each_meet_their_condition():
    """Depthwise filters of spectral norm sqrt(1 / 9), not that of a (9, 64) matrix."""
    for init in (initjax.spectral(groups=64), initjax.spectral_orthogonal(groups=64)):
        w = np.asarray(init(KEY, (3, 3, 1, 64))).reshape(9, 64)
        np.testing.assert_allclose(np.linalg.norm(w, axis=0), 1 / 3, rtol=1e-5)
    w = np.asarray(initjax.delta_orthogonal(groups=64)(KEY, (3, 3, 1, 64)))
    np.testing.assert_allclose(np.abs(w[1, 1]), 1, rtol=1e-6)  # sqrt(1 / 64) as one matrix
    assert np.count_nonzero(w) == 64
    np.testing.assert_allclose(
        np.abs(initjax.scaled_orthogonal(groups=64)(KEY, (3, 3, 1, 64))[1, 1]), 1, rtol=1e-6
    )
    packed = np.asarray(initjax.orthogonal(split=3)(KEY, (16, 48)))
    for q in np.split(packed, 3, 1):
        np.testing.assert_allclose(q @ q.T, np.eye(16), atol=1e-5)
    rows = np.asarray(initjax.orthogonal(column_axis=0, groups=2)(KEY, (32, 16)))
    for q in np.split(rows, 2):
        np.testing.assert_allclose(q @ q.T, np.eye(16), atol=1e-5)


@pytest.mark.slow
def test_a_layout_tells_whatever_has_groups():
    layout = initjax.Layout(groups=64)
    for name in ("spectral", "delta_orthogonal", "identity"):
        assert initjax.laid_out(initjax.get(name), layout) == initjax.get(f"{name}(groups=64)")
    dirac = initjax.laid_out(initjax.identity(), layout)(KEY, (3, 3, 1, 64))
    assert (dirac[1, 1] == 1).all()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: initjax.fixup(16, groups=0), "groups=0 must be at least 1"),
        (lambda: initjax.siren(in_axis="x"), "in_axis='x' is neither"),
        (lambda: initjax.spectral(groups=3)(KEY, (8, 16)), "3 groups do not divide the 16"),
        (lambda: initjax.fixup(16, grups=2), "unexpected keyword argument 'grups'. It takes: num_"),
        (lambda: initjax.spectral(transposed=2), "unexpected keyword argument 'transposed'"),
        (lambda: initjax.small_init(groups=2), "unexpected keyword argument 'groups'"),
        (lambda: initjax.spectral(in_axis=0)(KEY, (8,)), "spectral needs at least two axes"),
        (lambda: initjax.siren(in_axis=0, out_axis=0)(KEY, (8, 4)), "named twice"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(UserError) as error:
        call()
    assert message in str(error.value) and len(str(error.value).splitlines()) <= 2


DEPTHS = ("num_layers", "num_branches", "depth")
NEED = {
    "deepnorm": "num_layers",
    "fixup": "num_branches",
    "gpt2_residual": "num_layers",
    "layer_scale": "num_layers",
    "mean_field_residual": "num_layers",
    "t_fixup": "num_layers",
    "wang_init": "num_layers",
}


def test_no_name_assumes_a_depth():
    """Over the whole catalogue: a depth has no default, or None, which asks where it matters."""
    needed = {}
    for name in NAMES:
        for parameter in inspect.signature(INITIALIZERS[name]).parameters.values():
            if parameter.name in DEPTHS:
                assert parameter.default in (parameter.empty, None), name
                if parameter.default is parameter.empty:
                    needed[name] = parameter.name
    assert needed == NEED
    assert not [name for name in NAMES if name not in NEED and examples()[name] != name]


@pytest.mark.parametrize("name", NEED)
def test_a_depth_is_asked_for(name):
    """In the library, by name, in a rule and by the launcher's flag, in the same two lines."""
    from initjax.training.config import Config

    asked = f"{name}: missing a required argument: '{NEED[name]}', which it cannot know."
    cure = f"Say it, as in {examples()[name]}."
    for call, prefix in (
        (lambda: getattr(initjax, name)(), ""),
        (lambda: initjax.get(name), ""),
        (lambda: initjax.Rule("kernel", f"{name}()"), ""),
        (lambda: Config(init=name), "--init: "),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert str(error.value).splitlines() == [prefix + asked, cure]
    assert math.isfinite(float(initjax.get(examples()[name])(KEY, (4, 4)).sum()))


@pytest.mark.slow
def test_a_power_law_that_changes_with_depth_asks_where_it_stands():
    with pytest.raises(UserError) as error:
        initjax.pli(1.0, 2.0)
    assert str(error.value).splitlines()[1] == (
        "Say it, 0 the first layer and 1 the last, as in"
        " pli(alpha_first=1.0, alpha_last=2.0, depth=0.5)."
    )
    assert initjax.pli(1.0, 2.0, depth=0).alpha_last == 2.0
