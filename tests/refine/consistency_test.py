import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from initjax import refine
from initjax.models import create_model
from initjax.refine import Gaussian, MeanField, Network, Reference, Saved
from initjax.support.errors import UserError

pytestmark = pytest.mark.slow

KEY = jax.random.key(7)


def create(spec="mlp(depth=2, width=8)", num=256, shape=(4, 4, 2), seed=0, **fields):
    """(model, params, inputs)."""
    fields.setdefault("kernel_init", "normal(stddev=0.3)")
    fields.setdefault("bias_init", "normal(stddev=0.3)")
    model = create_model(spec, **fields)
    inputs = jax.random.normal(jax.random.key(1), (num, *shape), model.dtype) + 0.5
    return model, model.init(jax.random.key(seed), inputs[:1])["params"], inputs


def wide(spec, **fields):
    """As `create`, in float64."""
    model, params, inputs = create(spec, dtype=jnp.float64, **fields)
    return model, jax.tree.map(lambda x: x.astype(jnp.float64), params), inputs


def channels(model, params, inputs):
    """(means, standard deviations) of all channels of all layers."""
    found = Network(model, KEY).record(params, inputs)
    flat = [np.asarray(z).reshape(-1, z.shape[-1]) for z in found.values()]
    return np.concatenate([z.mean(0) for z in flat]), np.concatenate([z.std(0) for z in flat])


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_moments_of_the_calibration_data_become_exact(x64):
    model, params, inputs = wide("mlp(depth=2, width=16)")
    refined, _ = refine.consistency(model, params, inputs, KEY, held_out=inputs)
    means, deviations = channels(model, refined, inputs)
    assert abs(means).max() < 1e-12
    assert abs(deviations - 1).max() < 1e-12


@pytest.mark.parametrize("divergence", ["moment", "w2"])
def test_idempotent_and_invariant_to_the_scale_of_layers(x64, divergence):
    model, params, inputs = wide("mlp(depth=2, width=16)")
    settings = {"divergence": divergence, "held_out": inputs}
    once, _ = refine.consistency(model, params, inputs, KEY, **settings)
    twice, _ = refine.consistency(model, once, inputs, KEY, **settings)
    factors = {"Dense_0": 0.01, "Dense_1": 30.0, "Dense_2": 2.0}
    scaled = {
        path: jax.tree.map(lambda x, path=path: x * factors[path], layer)
        for path, layer in params.items()
    }
    from_scaled, _ = refine.consistency(model, scaled, inputs, KEY, **settings)
    for other in (twice, from_scaled):
        for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    before = jax.tree.leaves(params)[1]
    assert not np.allclose(jax.tree.leaves(once)[1], before)


def test_held_out_deviations_of_a_deep_network():
    """The reference's bounds for 512 samples, width 128, depth 10."""
    model, params, inputs = create(
        "mlp(depth=10, width=128)", 1024, (4, 8, 4), bias_init="zeros", kernel_init="normal"
    )
    _, report = refine.consistency(model, params, inputs[:512], KEY, held_out=inputs[512:])
    deviations = [np.sqrt(layer.after.total_variance / 128) for layer in report.layers[:-1]]
    assert 0.99 < min(deviations) and max(deviations) < 1.04
    assert not report.worse and report.num_held_out == 512
    assert report.after < 0.02 < report.before


@pytest.mark.parametrize("divergence", ["moment", "w2"])
def test_a_network_is_its_own_reference(x64, divergence):
    model, params, inputs = wide("mlp(depth=2, width=16)")
    refined, report = refine.consistency(
        model, params, inputs, KEY, divergence=divergence, target=Reference(params)
    )
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(refined), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    assert report.after < 1e-20


def test_reference_of_another_network(x64):
    model, params, inputs = wide("mlp(depth=2, width=16)")
    other = wide("mlp(depth=2, width=16)", kernel_init="he_normal", seed=5)[1]
    refined, _ = refine.consistency(
        model, params, inputs, KEY, target=Reference(other), held_out=inputs
    )
    for a, b in zip(channels(model, refined, inputs), channels(model, other, inputs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    with pytest.raises(UserError, match="16 channels in Dense_0; the network refined has 8"):
        small, small_params, _ = wide("mlp(depth=2, width=8)")
        refine.consistency(
            small, small_params, inputs, KEY, target=Reference(other, model), held_out=inputs
        )


def test_saved_statistics(tmp_path, x64):
    model, params, inputs = wide("mlp(depth=2, width=16)")
    other = wide("mlp(depth=2, width=16)", kernel_init="he_normal", seed=5)[1]
    file = tmp_path / "statistics.json"
    refine.save_statistics(model, other, inputs, file)
    content = json.loads(file.read_text())
    assert content["schema_version"] == 1 and len(content["digest"]) == 64
    assert set(content["layers"][0]) == {"path", "shape", "n", "mean", "var", "quantiles"}
    assert content["layers"][0]["shape"] == [256, 16] and content["layers"][0]["n"] == 256
    assert len(content["layers"][0]["quantiles"]) == 129
    assert np.all(np.diff(content["layers"][0]["quantiles"]) >= 0)
    refined, _ = refine.consistency(model, params, inputs, KEY, target=Saved(file), held_out=inputs)
    for a, b in zip(channels(model, refined, inputs), channels(model, other, inputs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    _, report = refine.consistency(
        model, other, inputs, KEY, target=Saved(file), divergence="w2", held_out=inputs
    )
    assert report.before < 0.1  # the same law but for 129 quantiles shared by the channels

    content["schema_version"] = 2
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="schema_version=2"):
        refine.load_statistics(file)
    content["schema_version"] = 1
    content["layers"][1]["var"][3] = -1
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="damaged"):
        refine.load_statistics(file)
    for bad in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            refine.load_statistics(bad)


def test_mean_field_target(x64):
    """Variances of the layers follow q_l = sw^2 E[phi^2] + sb^2, for ReLU sw^2 q / 2."""
    model, params, inputs = wide("mlp(depth=2, width=16)")
    target = MeanField("relu", weight_variance=3.0, bias_variance=0.5)
    refined, _ = refine.consistency(model, params, inputs, KEY, target=target, held_out=inputs)
    deviations = channels(model, refined, inputs)[1]
    q = [3 * float((inputs.astype(jnp.float32) ** 2).mean()) + 0.5]
    for _ in range(2):
        q.append(1.5 * q[-1] + 0.5)
    expected = np.sqrt(np.repeat(q, [16, 16, 10]))
    np.testing.assert_allclose(deviations, expected, rtol=1e-6)


def test_gaussian_target_has_a_mean_and_a_variance(x64):
    model, params, inputs = wide("mlp(depth=2, width=16)")
    refined, _ = refine.consistency(
        model, params, inputs, KEY, target=Gaussian(2.0, 9.0), held_out=inputs
    )
    means, deviations = channels(model, refined, inputs)
    np.testing.assert_allclose(means, 2, atol=1e-12)
    np.testing.assert_allclose(deviations, 3, atol=1e-12)


@pytest.mark.parametrize("divergence", ["moment", "w2", "sliced_w2", "mmd", "energy"])
def test_joint_optimization_lowers_the_gap(divergence):
    model, params, inputs = create("mlp(depth=2, width=12)", kernel_init="normal(stddev=0.6)")
    refined, report = refine.consistency(
        model, params, inputs, KEY, divergence=divergence, mode="joint", batch_size=32, passes=4
    )
    assert report.after < 0.8 * report.before
    for path, layer in params.items():  # directions of weights are kept
        a, b = layer["kernel"], refined[path]["kernel"]
        cosine = (a * b).sum(0) / jnp.linalg.norm(a, axis=0) / jnp.linalg.norm(b, axis=0)
        np.testing.assert_allclose(cosine, 1, atol=1e-5)


def test_joint_mode_of_one_pass_is_exactly_one_epoch():
    """SGD of rate 0 changes nothing, and the optimizer is called once a batch."""
    model, params, inputs = create("mlp(depth=2, width=8)")
    steps = []

    def update(updates, state, params=None):
        jax.debug.callback(lambda: steps.append(1))
        return jax.tree.map(jnp.zeros_like, updates), state

    optimizer = optax.GradientTransformation(lambda params: (), update)
    refined, report = refine.consistency(
        model, params, inputs, KEY, mode="joint", optimizer=optimizer, batch_size=16, passes=1
    )
    jax.effects_barrier()
    assert len(steps) == 192 // 16 and report.num_calibration == 192
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(refined), strict=True):
        np.testing.assert_array_equal(a, b)


def test_dead_layers_are_skipped_and_named():
    model, params, inputs = create("mlp(depth=2, width=8)", bias_init="zeros")
    params["Dense_1"]["kernel"] = jnp.zeros((8, 8))
    refined, report = refine.consistency(model, params, inputs, KEY)
    assert "2 of 3 layers are dead" in str(report) and "Dense_1, Dense_2" in str(report)
    for path in ("Dense_1", "Dense_2"):
        for a, b in zip(*map(jax.tree.leaves, (params[path], refined[path])), strict=True):
            np.testing.assert_array_equal(a, b)
    assert report.layers[0].after.variance == pytest.approx(1, abs=0.2)
    model, params, inputs = create("mlp(depth=2, width=8)", bias_init="zeros")
    params["Dense_0"]["kernel"] = params["Dense_0"]["kernel"].at[:, 3].set(0)
    refined, report = refine.consistency(model, params, inputs, KEY)
    assert "Dense_0 (1 of 8)" in str(report)
    assert np.isfinite(refined["Dense_0"]["kernel"]).all()


def test_every_layer_dead():
    model, params, inputs = create(kernel_init="zeros", bias_init="zeros")
    for mode in ("sequential", "joint"):
        refined, report = refine.consistency(model, params, inputs, KEY, mode=mode)
        assert "3 of 3 layers are dead" in str(report)
        assert all((x == 0).all() for x in jax.tree.leaves(refined))
        assert report.before == report.after == 1 + 0


def test_a_network_that_overflows_is_mended():
    """Its deeper layers are not finite, which is not the same as dead."""
    model, params, inputs = create(kernel_init="normal(stddev=1e30)", bias_init="zeros")
    refined, report = refine.consistency(model, params, inputs, KEY)
    assert not np.isfinite(report.before) and not report.worse and "dead" not in str(report)
    assert report.after < 0.1
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(refined))


def test_batch_normalization_in_training_mode():
    model, params, inputs = create("convnet(use_batch_norm=True)", 32, (8, 8, 3), bias_init="zeros")
    refined, report = refine.consistency(model, params, inputs, KEY, held_out=inputs)
    assert [layer.path for layer in report.layers] == ["Conv_0", "Conv_1", "Conv_2", "Dense_0"]
    assert "3 layers have no bias" in str(report)
    assert report.layers[-1].after.variance == pytest.approx(1, abs=1e-3)
    np.testing.assert_array_equal(refined["BatchNorm_0"]["scale"], params["BatchNorm_0"]["scale"])
    # Normalization undoes what comes before it: the function changes in the last layer only.
    network = Network(model, KEY)
    a, b = (network.record(p, inputs)["Conv_2"] for p in (params, refined))
    ratio = np.asarray(b / jnp.where(a == 0, jnp.nan, a)).reshape(-1, a.shape[-1])
    assert (np.nanstd(ratio, axis=0) < 0.02 * np.nanmean(ratio, axis=0)).all()


class Shared(nn.Module):
    """A layer that is used twice, in the order opposite to its name's."""

    @nn.compact
    def __call__(self, x):
        z_last = nn.Dense(6, name="b")
        shared = nn.Dense(8, name="a")
        return z_last(nn.tanh(shared(nn.tanh(shared(x)))))


def test_shared_weights_are_solved_for_once(x64):
    inputs = jax.random.normal(jax.random.key(1), (64, 8))
    model = Shared()
    params = model.init(KEY, inputs)["params"]
    refined, report = refine.consistency(model, params, inputs, KEY, held_out=inputs)
    assert [layer.path for layer in report.layers] == ["a", "b"]
    z = inputs @ refined["a"]["kernel"] + refined["a"]["bias"]
    np.testing.assert_allclose(z.std(0), 1, atol=1e-5)
    last = Network(model, KEY).record(refined, inputs)["b"]  # given the corrected layers before it
    np.testing.assert_allclose(last.std(0), 1, atol=1e-5)
    np.testing.assert_allclose(last.mean(0), 0, atol=1e-5)


def test_a_batch_over_several_devices():
    model, params, inputs = create(num=256)
    mesh = jax.make_mesh((8,), ("batch",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    sharded = jax.device_put(inputs, sharding)
    expected, _ = refine.consistency(model, params, inputs, KEY, held_out=inputs)
    found, _ = refine.consistency(model, params, sharded, KEY, held_out=sharded)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_report_says_when_things_got_worse():
    """One calibration pixel pattern repeated: what fits it does not fit other data."""
    model, params, inputs = create("mlp(depth=1, width=8)", kernel_init="he_normal")
    narrow = inputs * 1e-3
    _, report = refine.consistency(model, params, narrow, KEY, held_out=inputs)
    assert report.worse and "WORSE" in str(report)
    assert json.loads(report.to_json())["worse"] is True
    assert report.table().count("\n") == 2
    infinite = dataclasses.replace(report, after=float("nan"))
    assert infinite.worse and json.loads(infinite.to_json())["after"] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"divergence": "kl"}, "divergence='kl' is not one of moment, w2"),
        ({"divergence": "mmd"}, "needs mode='joint'"),
        ({"mode": "both"}, "mode='both' is not one of"),
        ({"optimizer": optax.sgd(0.1)}, "optimizer is of mode='joint'"),
        ({"target": "unit"}, "target='unit' is not a Gaussian"),
        ({"mode": "joint", "batch_size": 500}, "batch_size=500 is more than the 192"),
        ({"mode": "joint", "batch_size": 0}, "batch_size=0 must be at least 1"),
    ],
)
def test_errors(settings, message):
    model, params, inputs = create("mlp(depth=2, width=8)")
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        refine.consistency(model, params, inputs, KEY, **settings)


def test_errors_of_batches_and_models():
    model, params, inputs = create("mlp(depth=2, width=8)")
    with pytest.raises(UserError, match="needs 4 or more"):
        refine.consistency(model, params, inputs[:3], KEY)
    with pytest.raises(UserError, match="has no layers"):
        norm = nn.LayerNorm()
        refine.consistency(norm, norm.init(KEY, inputs)["params"], inputs, KEY)

    class Rematerialized(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.remat(nn.Dense)(4)(x)

    with pytest.raises(UserError, match="not a Flax Linen or NNX module"):
        refine.consistency(lambda x: x, {}, inputs, KEY)

    flat = inputs.reshape(len(inputs), -1)
    model = Rematerialized()
    params = model.init(KEY, flat)["params"]
    with pytest.raises(UserError, match=r"nn\.remat"):
        refine.consistency(model, params, flat, KEY)
