"""Initializers: bit-equal to JAX's where JAX has them, exact where JAX is not."""

import math
import pickle
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import special

import initjax
from initjax.distributions import (
    CutoffPowerLaw,
    Empirical,
    GeneralizedNormal,
    Laplace,
    StudentT,
    SymmetricPowerLaw,
    TruncatedNormal,
)
from initjax.initializers import VarianceScaling
from initjax.initializers.catalog import examples
from initjax.support.errors import UserError

KEY = jax.random.key(7)

CLASSIC = {
    "zeros": jax.nn.initializers.zeros,
    "ones": jax.nn.initializers.ones,
    "constant(0.3)": jax.nn.initializers.constant(0.3),
    "normal": jax.nn.initializers.normal(),
    "normal(0.3)": jax.nn.initializers.normal(0.3),
    **{
        f"{family}_{shape}": getattr(jax.nn.initializers, f"{family}_{shape}")()
        for family in ("lecun", "glorot", "xavier", "he", "kaiming")
        for shape in ("normal", "uniform")
    },
    **{
        f"variance_scaling({scale}, '{mode}', '{law}')": jax.nn.initializers.variance_scaling(
            scale, mode, law
        )
        for scale in (1.0, 0.1)
        for mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
        for law in ("normal", "truncated_normal", "uniform")
    },
}
# Not random, or with zeros: no statistic of low precision to test.
DETERMINISTIC = (
    *("constant", "dirac", "identity", "ones", "zero", "zeros"),
    *("bilinear", "class_prior", "hippo_legs", "hippo_legs_input", "idinit", "irnn"),
    *(
        "layer_scale(num_layers=12)",
        "lstm_bias",
        "mamba_a_log",
        "padded_identity",
        "prior_bias",
        "s4d",
    ),
)
# Logarithms, of a mean that is not 0: 8 bits have steps as large as their range.
LOGARITHMS = (
    "log_step",
    "lru_nu_log",
    "lru_theta_log",
    "mamba2_a_log",
    "mamba_step_bias",
    "chrono",
)
POSITIVE = ("survey_kaiming", *LOGARITHMS)  # of a mean that is not 0
# The QR decomposition is not the same program in a batch; its rounding is that of unit vectors.
ATOL = {"orthogonal": 1e-6, "scaled_orthogonal": 1e-6, "delta_orthogonal": 1e-6}
ATOL |= {"recurrent_orthogonal": 1e-6, "spectral_orthogonal": 1e-6}
ATOL["scale_mixture"] = 1e-6  # sums in another order
ATOL |= {"lru_nu_log": 2e-5, "mamba_step_bias": 2e-6}  # ln(1 - x), x near 0
SHAPES = ((64, 96), (3, 3, 16, 32), (1, 1), (2, 0, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIC)
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_classic_ones_are_bit_equal_to_jax(name, shape):
    ours, theirs = initjax.get(name)(KEY, shape), CLASSIC[name](KEY, shape)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "axes",
    [
        {"in_axis": 1, "out_axis": 0},
        {"batch_axis": 0},
        {"in_axis": (0, 1), "out_axis": (2, 3)},
        {"in_axis": 0, "out_axis": ()},
    ],
)
def test_axes_as_in_jax(axes):
    ours = initjax.he_normal(**axes)(KEY, (4, 6, 8, 10))
    np.testing.assert_array_equal(ours, jax.nn.initializers.he_normal(**axes)(KEY, (4, 6, 8, 10)))


# Aliases and names of one value are tested once.
EXAMPLES = examples()
DISTINCT = {initjax.get(EXAMPLES[name]): EXAMPLES[name] for name in reversed(initjax.names())}
ALPHABET = sorted(DISTINCT.values())


@pytest.mark.parametrize("name", EXAMPLES.values())
def test_every_name_is_a_value(name):
    init = initjax.get(name)
    assert init == initjax.get(name) and hash(init) == hash(initjax.get(name))
    assert pickle.loads(pickle.dumps(init)) == init
    assert initjax.get(repr(init)) == init
    assert init in DISTINCT


@pytest.mark.parametrize("name", ALPHABET)
class TestEveryInitializer:
    @pytest.mark.slow
    def test_shape_and_dtype(self, name):
        init = initjax.get(name)
        for shape in ((5, 8), [5, 8], (3, 3, 4, 8)):
            w = init(KEY, shape)
            assert w.shape == tuple(shape) and w.dtype == jnp.float32
        assert init(KEY, (5, 8), jnp.bfloat16).dtype == jnp.bfloat16
        assert init(KEY, (5, 8), "float16").dtype == jnp.float16
        assert init(KEY, (2, 0, 3)).shape == (2, 0, 3)

    @pytest.mark.slow
    def test_dtype_of_the_factory_and_of_the_call(self, name):
        if name in ("zeros", "ones"):
            return  # values in JAX too, not factories: they take a dtype in the call alone
        call = f"{name[:-1]}, " if name.endswith(")") else f"{name}("
        init = initjax.get(f"{call}dtype='bfloat16')")
        assert init(KEY, (5, 8)).dtype == jnp.bfloat16
        assert init(KEY, (5, 8), jnp.float32).dtype == jnp.float32

    @pytest.mark.slow
    def test_eager_and_jit_and_eval_shape_and_vmap(self, name):
        init = initjax.get(name)
        eager = init(KEY, (17, 36))
        compiled = jax.jit(init, static_argnums=(1, 2))(KEY, (17, 36), jnp.float32)
        # One unit in the last place: XLA may merge the scale into another constant.
        np.testing.assert_allclose(compiled, eager, rtol=2.4e-7, atol=ATOL.get(name, 0))
        shape = jax.eval_shape(lambda key: init(key, (17, 36)), KEY)
        assert (shape.shape, shape.dtype) == ((17, 36), jnp.float32)
        keys = jax.random.split(KEY, 3)
        mapped = jax.vmap(lambda key: init(key, (17, 36)))(keys)
        one_by_one = jnp.stack([init(key, (17, 36)) for key in keys])
        np.testing.assert_allclose(mapped, one_by_one, rtol=2.4e-7, atol=ATOL.get(name, 0))

    @pytest.mark.slow
    def test_legacy_key(self, name):
        init = initjax.get(name)
        legacy = jax.random.PRNGKey(7)
        np.testing.assert_array_equal(init(legacy, (5, 8)), init(KEY, (5, 8)))

    @pytest.mark.slow
    def test_out_sharding(self, name):
        mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
        spec = jax.sharding.PartitionSpec("x", None)
        init = initjax.get(name)
        with jax.set_mesh(mesh):
            sharded = init(KEY, (6, 8), jnp.float32, spec)
        assert sharded.sharding.spec == spec
        whole = init(KEY, (6, 8))
        np.testing.assert_allclose(
            jax.device_get(sharded), whole, rtol=2.4e-7, atol=ATOL.get(name, 0)
        )

    @pytest.mark.slow
    def test_in_flax(self, name):
        init = initjax.get(name)
        params = nn.Dense(8, kernel_init=init).init(KEY, jnp.ones((1, 6)))["params"]
        assert params["kernel"].shape == (6, 8)
        assert nnx.Linear(6, 8, kernel_init=init, rngs=nnx.Rngs(0)).kernel.shape == (6, 8)

    @pytest.mark.slow
    def test_low_precision_is_unbiased(self, name):
        init = initjax.get(name)
        if name in DETERMINISTIC:
            return
        shape = (500, 512)  # as large as a test can afford for orthogonal ones
        full = np.asarray(init(KEY, shape), np.float64)
        for dtype in ("bfloat16", "float16", "float8_e5m2", "float8_e4m3fn"):
            if name in LOGARITHMS and dtype.startswith("float8"):
                continue
            low = np.asarray(init(KEY, shape, dtype), np.float64)
            if dtype == "float8_e4m3fn" and full.std() < 0.02:
                continue  # its steps near 0 are 2^-9: such weights need a scale of their own
            mean = full.mean() if name in POSITIVE else 0.0
            assert abs(low.mean() - mean) < 4 * full.std() / math.sqrt(full.size)
            assert low.std() == pytest.approx(full.std(), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
@pytest.mark.parametrize("alpha, ratio", [(0.5, 10), (1.0, 100), (1.5, 30), (3.0, 10)])
def test_nspl_variance(mode, alpha, ratio):
    shape = (3, 3, 64, 128)
    init = initjax.nspl(alpha, ratio, scale=1.5, mode=mode)
    w = np.asarray(init(KEY, shape), np.float64)
    fan = initjax.fans(shape)
    n = {
        "fan_in": fan[0],
        "fan_out": fan[1],
        "fan_avg": sum(fan) / 2,
        "fan_geo_avg": math.sqrt(math.prod(fan)),
    }[mode]
    law = SymmetricPowerLaw(alpha, ratio)
    relative_error = math.sqrt((law.kurtosis - 1) / w.size)
    assert abs(np.mean(w**2) / (1.5 / n) - 1) < 4 * relative_error
    # The cut-offs are exact: b = sd / std(law), a = b / ratio.
    largest = math.sqrt(1.5 / n) / law.std
    assert np.abs(w).max() <= largest * (1 + 1e-6)
    assert np.abs(w).min() >= largest / ratio * (1 - 4e-6)


def test_nspl_with_alpha_zero_is_he_uniform_in_law():
    w = np.asarray(initjax.nspl(0, math.inf)(KEY, (500, 400)), np.float64)
    bound = math.sqrt(3 * 2 / 500)
    assert np.abs(w).max() == pytest.approx(bound, rel=1e-4)
    assert np.mean(np.abs(w)) == pytest.approx(bound / 2, rel=4 / math.sqrt(3 * w.size))


@pytest.mark.slow
def test_nspl_warns_of_a_heavy_tail_in_a_small_layer():
    with pytest.warns(UserWarning, match="kurtosis 334.*a layer of shape"):
        initjax.nspl(2.0, 1000.0)(KEY, (100, 100))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        initjax.nspl(2.0, 1000.0)(KEY, (1000, 1000))
        initjax.nspl()(KEY, (3, 3, 3, 16))  # as noisy as a normal law's there: no fault of its own


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: initjax.nspl(alpha="a"), "alpha='a'"),
        (lambda: initjax.nspl(scale=-2), "scale=-2"),
        (lambda: initjax.nspl(scale=0), "scale=0"),
        (lambda: initjax.nspl(mode="fan"), "mode='fan'"),
        (lambda: initjax.he_normal(in_axis="0"), "in_axis='0'"),
        (lambda: initjax.he_normal(dtype="float33"), "dtype='float33'"),
        (lambda: initjax.normal(stddev=math.nan), "stddev=nan"),
        (lambda: initjax.variance_scaling(distribution="cauchy"), "distribution='cauchy'"),
        (lambda: initjax.nspl(cutoff="soft"), "cutoff='soft'"),
        (lambda: initjax.nspl(normalize="yes"), "normalize='yes'"),
        (lambda: initjax.nspl(sampling="sobol"), "sampling='sobol'"),
        (lambda: initjax.he_normal(activation="rulu"), "Unknown activation 'rulu'"),
        (lambda: initjax.uniform(-1.0), "scale=-1"),
        (lambda: initjax.truncated_normal(lower=3), "lower=3"),
        (lambda: initjax.variance_scaling(distribution=StudentT(2.0)), "no finite variance"),
        (lambda: initjax.he_normal()(KEY, (5,)), "in_axis=-2"),
        (lambda: initjax.he_normal()(KEY, (5, 5), jnp.int32), "int32"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.slow
def test_low_precision_keeps_a_deep_network_alive():
    """Eight ReLU layers of width 2048 from bfloat16 weights; JAX's own end at 13 % of the sd."""

    def last_std(init, dtype):
        x = jax.random.normal(KEY, (64, 2048))
        for layer in range(8):
            w = init(jax.random.fold_in(KEY, layer), (2048, 2048), dtype).astype(jnp.float32)
            z = x @ w
            x = jax.nn.relu(z)
        return float(z.std())

    full = last_std(initjax.he_normal(), jnp.float32)
    assert last_std(initjax.he_normal(), jnp.bfloat16) == pytest.approx(full, rel=0.05)
    assert last_std(jax.nn.initializers.he_normal(), jnp.bfloat16) < 0.5 * full


@pytest.mark.slow
@pytest.mark.parametrize("alpha, ratio", [(0.5, 100.0), (1.0, 100.0), (2.0, 30.0)])
def test_stratified_and_empirical_variance(alpha, ratio):
    def spread(**options):
        init = initjax.nspl(alpha, ratio, **options)
        keys = jax.random.split(KEY, 16)
        w = np.asarray(jax.vmap(lambda key: init(key, (128, 64)))(keys), np.float64)
        return np.mean(w**2, axis=(1, 2)) * 64

    iid, stratified = spread(), spread(sampling="stratified")
    assert stratified.std() < iid.std() / 100
    assert abs(stratified - 1).max() < 1e-3
    for sampling in ("iid", "stratified"):
        assert abs(spread(normalize="empirical", sampling=sampling) - 1).max() < 2e-6


@pytest.mark.slow
def test_a_million_stratified_samples_are_in_their_strata():
    init = initjax.variance_scaling(1.0, "fan_in", "normal", sampling="stratified")
    size = 2**20
    z = np.sort(np.asarray(init(KEY, (1024, size // 1024)), np.float64).ravel()) * 32
    strata = np.floor(special.ndtr(z) * size)
    # What is left is the rounding of z itself: 2^-25 |z| p(z), of strata of 2^-20.
    assert (strata == np.arange(size)).mean() > 0.99


@pytest.mark.slow
def test_stratified_samples_have_one_value_in_each_stratum():
    init = initjax.variance_scaling(distribution="uniform", sampling="stratified")
    w = np.sort(np.asarray(init(KEY, (64, 32)), np.float64).ravel())
    position = (w / math.sqrt(3 / 64) + 1) / 2 * w.size
    assert (abs(position - (np.arange(w.size) + 0.5)) < 0.5 + 1e-3).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "law",
    [
        Laplace(),
        StudentT(5.0),
        GeneralizedNormal(1.5),
        CutoffPowerLaw(0.5, math.inf),
        SymmetricPowerLaw(1.5, 30.0),
        TruncatedNormal(-1.0, 3.0),
        TruncatedNormal(0.0, 2.0),
        Empirical(),
    ],
    ids=lambda law: type(law).__name__,
)
def test_any_law_is_scaled_to_its_variance(law):
    init = initjax.variance_scaling(2.0, "fan_out", law)
    w = np.asarray(init(KEY, (500, 400)), np.float64)
    squares = w**2 * 400 / 2  # E[w^2], which is not the variance of a law with a mean
    assert abs(squares.mean() - 1) < 4 * squares.std() / math.sqrt(w.size)
    assert pickle.loads(pickle.dumps(init)) == init == initjax.get(repr(init))


@pytest.mark.parametrize("family, n", [("lecun", "in"), ("he", "in"), ("xavier", "average")])
@pytest.mark.parametrize("law", ["normal", "uniform", "untruncated_normal"])
def test_activation_chooses_the_gain(family, n, law):
    init = initjax.get(f"{family}_{law}(activation='tanh')")
    fan = 64 if n == "in" else 80
    assert init.variance((64, 96)) == pytest.approx(1.59253742**2 / fan, rel=1e-7)
    assert init == initjax.get(f"{family}_{law}(activation='tanh')")


def test_relu_is_the_default_of_he():
    variance = initjax.he_normal(activation="relu").variance((64, 96))
    assert variance == pytest.approx(initjax.he_normal().variance((64, 96)), rel=1e-12)


def test_uniform_is_symmetric():
    w = np.asarray(initjax.uniform(0.5)(KEY, (100_000,)), np.float64)
    assert w.min() < -0.49 and w.max() > 0.49
    assert abs(w.mean()) < 4 * 0.5 / math.sqrt(3 * w.size)


def test_aliases():
    assert initjax.kaiming_normal is initjax.he_normal
    assert initjax.xavier_uniform is initjax.glorot_uniform
    assert initjax.zeros_init() is initjax.zeros


@pytest.mark.slow
def test_a_list_of_axes_is_hashable():
    init = initjax.he_normal(in_axis=[0, 1], out_axis=[2])
    assert init == VarianceScaling(2.0, in_axis=(0, 1), out_axis=2) and hash(init)
