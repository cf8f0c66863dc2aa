"""Initializers: values that are drop-in for `jax.nn.initializers`.

An initializer is called as `init(key, shape, dtype=None, out_sharding=None)`, like JAX's own, and
is a frozen dataclass: hashable, picklable, equal to another with the same arguments, and its `repr`
is a string from which `initjax.get` makes it again. Factories (`he_normal(...)`, `nspl(...)`) make
them and check their arguments. In float32 the classic ones give the very bits of
`jax.nn.initializers`; in bfloat16 and below they are drawn in float32 and cast last, which JAX's
own are not.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from initjax import distributions
from initjax.arguments import finite, one_of, positive
from initjax.distributions import Distribution, Normal, SymmetricPowerLaw, TruncatedNormal, Uniform
from initjax.errors import UserError
from initjax.fans import MODES, Axes, axes_tuple, effective_fan, fans
from initjax.gains import gain
from initjax.tabulated import CutoffPowerLaw

# A layer's variance is itself random. Above this relative standard error, and where the heavy tail
# and not just the smallness of the layer is the cause, `nspl` warns.
_NOISY_VARIANCE = 0.05
_HEAVY_KURTOSIS = 9.0  # (9 - 1) / (3 - 1): twice the standard error of a normal law


def dtype_name(dtype) -> str | None:
    """A dtype argument as its name, which is hashable and prints well."""
    if dtype is None:
        return None
    try:
        return jnp.dtype(dtype).name
    except TypeError:
        raise UserError(f"dtype={dtype!r} is not a dtype.") from None


@dataclasses.dataclass(frozen=True, repr=False)
class Initializer:
    """Base of the initializers: `init(key, shape, dtype=None, out_sharding=None)`."""

    factory = ""  # the name under which `repr` shows the value, and `initjax.get` reads it

    def __repr__(self):
        shown = (
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        )
        return f"{self.factory}({', '.join(shown)})"


@dataclasses.dataclass(frozen=True, repr=False)
class Constant(Initializer):
    """Every weight equals `value`."""

    value: float = 0.0
    dtype: str | None = None
    factory = "constant"

    def __post_init__(self):
        object.__setattr__(self, "dtype", dtype_name(self.dtype))

    def __call__(self, key, shape, dtype=None, out_sharding=None):
        dtype = dtype if dtype is not None else self.dtype
        dtype = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
        del key  # nothing is random
        return jnp.full(tuple(shape), self.value, dtype, out_sharding=out_sharding)


@dataclasses.dataclass(frozen=True, repr=False)
class Scaled(Initializer):
    """Samples of a distribution times a fixed `scale`, whatever the shape."""

    scale: float = 1.0
    distribution: Distribution = Normal()
    dtype: str | None = None
    factory = "scaled"

    def __post_init__(self):
        check_scale(self, "scale")
        object.__setattr__(self, "distribution", _distribution(self.distribution))
        object.__setattr__(self, "dtype", dtype_name(self.dtype))

    def __call__(self, key, shape, dtype=None, out_sharding=None):
        dtype = dtype if dtype is not None else self.dtype
        return self.distribution.sample_scaled(key, shape, dtype, self.scale, out_sharding)


@dataclasses.dataclass(frozen=True, repr=False)
class VarianceScaling(Initializer):
    """Samples of a distribution, scaled to the variance scale / n, n being a fan of the layer."""

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: Distribution = TruncatedNormal()
    in_axis: Axes = -2
    out_axis: Axes = -1
    batch_axis: Axes = ()
    dtype: str | None = None
    normalize: str = "analytic"
    sampling: str = "iid"
    factory = "variance_scaling"

    def __post_init__(self):
        check_scale(self, "scale")
        for name, choices in (
            ("mode", MODES),
            ("normalize", ("analytic", "empirical")),
            ("sampling", ("iid", "stratified")),
        ):
            one_of(getattr(self, name), choices, name)
        object.__setattr__(self, "distribution", _distribution(self.distribution))
        if not math.isfinite(self.distribution.std):
            raise UserError(
                f"distribution={self.distribution} has no finite variance that could be scaled;"
                " `scaled(scale, distribution)` takes it as it is."
            )
        for name in ("in_axis", "out_axis", "batch_axis"):
            axes = axes_tuple(getattr(self, name), name)
            object.__setattr__(self, name, axes[0] if len(axes) == 1 else axes)
        object.__setattr__(self, "dtype", dtype_name(self.dtype))

    def variance(self, shape) -> float:
        """The variance of a weight in an array of `shape`."""
        fan_in, fan_out = fans(shape, self.in_axis, self.out_axis, self.batch_axis)
        return self.scale / effective_fan(self.mode, fan_in, fan_out)

    def __call__(self, key, shape, dtype=None, out_sharding=None):
        shape = tuple(shape)
        dtype = dtype if dtype is not None else self.dtype
        real_dtype = distributions.compute_dtype(dtype)
        if math.prod(shape) == 0:  # no weights, and a fan of zero to divide by
            return jnp.zeros(shape, canonical_dtype(dtype), out_sharding=out_sharding)
        variance = real_dtype.type(self.variance(shape))
        law = self.distribution
        if self.sampling == "iid" and self.normalize == "analytic":
            self._warn_if_noisy(shape)
            multiplier = law.multiplier(variance)
            return law.sample_scaled(key, shape, dtype, multiplier, out_sharding)
        if jnp.issubdtype(canonical_dtype(dtype), jnp.complexfloating):
            raise UserError("Complex weights need sampling='iid' and normalize='analytic'.")
        w = _standardized(law, self.sampling, self.normalize, key, shape, real_dtype)
        return reshard((w * np.sqrt(variance)).astype(canonical_dtype(dtype)), out_sharding)

    def _warn_if_noisy(self, shape):
        kurtosis = self.distribution.kurtosis
        relative_error = math.sqrt((kurtosis - 1) / math.prod(shape))
        if kurtosis > _HEAVY_KURTOSIS and relative_error > _NOISY_VARIANCE:
            warnings.warn(
                f"{self.distribution} has kurtosis {kurtosis:.3g}: the variance of a layer of shape"
                f" {shape} varies by {relative_error:.0%} from draw to draw. A smaller alpha or"
                " ratio lowers it.",
                stacklevel=3,
            )


def canonical_dtype(dtype):
    return jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)


def reshard(w, out_sharding):
    """`w` laid out as `out_sharding` says; None leaves it."""
    return w if out_sharding is None else jax.sharding.reshard(w, out_sharding)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 4, 5))
def _standardized(law, sampling, normalize, key, shape, dtype):
    """Samples with the mean of `law` and standard deviation 1, for other than plain draws."""
    if sampling == "stratified":
        # One sample in each of N equally probable strata, in random order.
        size = math.prod(shape)
        key_order, key_position = jax.random.split(key)
        order = jax.random.permutation(key_order, size).astype(dtype)
        position = jax.random.uniform(key_position, (size,), dtype)
        # The last stratum's upper end rounds to 1, where some laws are infinite.
        p = jnp.minimum((order + position) / size, 1 - jnp.finfo(dtype).epsneg)
        w = law.icdf(jnp.maximum(p, jnp.finfo(dtype).tiny)).reshape(shape)
    else:
        w = law.draw(key, shape, dtype, None)
    if normalize == "empirical":
        return w / jnp.sqrt(jnp.mean(jnp.square(w - law.mean)))
    return w / dtype.type(law.std)


def check_scale(initializer, name):
    object.__setattr__(initializer, name, positive(getattr(initializer, name), name))


_NAMED_DISTRIBUTIONS = {
    "normal": Normal(),
    "truncated_normal": TruncatedNormal(),
    "uniform": Uniform(),
}


def _distribution(value: Any) -> Distribution:
    """A Distribution, or one of the three names that JAX has for them."""
    if isinstance(value, Distribution):
        return value
    if isinstance(value, str) and value in _NAMED_DISTRIBUTIONS:
        return _NAMED_DISTRIBUTIONS[value]
    raise UserError(
        f"distribution={value!r} is neither an initjax Distribution nor one of"
        f" {', '.join(_NAMED_DISTRIBUTIONS)}."
    )


zeros = Constant(0.0)
ones = Constant(1.0)


def zeros_init() -> Constant:
    """`zeros`, for code that calls a factory."""
    return zeros


def ones_init() -> Constant:
    """`ones`, for code that calls a factory."""
    return ones


def constant(value: float = 0.0, *, dtype=None) -> Constant:
    """Every weight equals `value`.

    >>> constant(0.5)(jax.random.key(0), (2,))
    Array([0.5, 0.5], dtype=float32)
    """
    return Constant(finite(value, "value"), dtype)


def normal(stddev: float = 0.01, *, dtype=None) -> Scaled:
    """w ~ N(0, stddev^2), whatever the shape."""
    return Scaled(finite(stddev, "stddev"), Normal(), dtype)


def truncated_normal(
    stddev: float = 0.01, *, lower: float = -2.0, upper: float = 2.0, dtype=None
) -> Scaled:
    """w = stddev z, z ~ N(0, 1) conditioned on lower <= z <= upper.

    As in JAX, `stddev` is that of the law before truncation; `variance_scaling` corrects for it.
    """
    law = TruncatedNormal(lower, upper)
    return Scaled(finite(stddev, "stddev"), law, dtype)


def uniform(scale: float = 0.01, *, dtype=None) -> Scaled:
    """w uniform on [-scale, scale].

    Symmetric, unlike `jax.nn.initializers.uniform`, which draws from [0, scale).
    """
    return Scaled(scale, Uniform(), dtype)


def scaled(scale: float = 1.0, distribution: Distribution | str = "normal", dtype=None) -> Scaled:
    """w = scale z, z from any distribution, whatever the shape.

    Args:
      scale: what multiplies the samples. The law may have no variance.
      distribution: a `Distribution`, or "normal", "truncated_normal" (at +-2 standard deviations),
        "uniform".
      dtype: dtype of the weights where the call names none.

    Raises:
      UserError (a ValueError): an argument out of its range.

    >>> scaled(0.01, distributions.Laplace())
    scaled(scale=0.01, distribution=Laplace())
    """
    return Scaled(scale, distribution, dtype)


def variance_scaling(
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: Distribution | str = "truncated_normal",
    *,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype=None,
    normalize: str = "analytic",
    sampling: str = "iid",
) -> VarianceScaling:
    """Any distribution, scaled to the variance `scale` / n.

    Args:
      scale: the variance times n: gain^2.
      mode: which n: "fan_in", "fan_out", "fan_avg" (their mean), "fan_geo_avg" (geometric mean).
      distribution: a `Distribution`, or "normal", "truncated_normal" (at +-2 standard deviations),
        "uniform".
      in_axis: axis or axes of the inputs; with the default, weights are (..., in, out).
      out_axis: axis or axes of the outputs.
      batch_axis: axis or axes that stack independent layers.
      dtype: dtype of the weights where the call names none.
      normalize: "analytic" scales by the law's variance; "empirical" by that of the very sample,
        which then is exact.
      sampling: "iid", or "stratified": one sample in each of N equally probable strata, in random
        order, so that the array's own distribution is as close to the law as it can be.

    Raises:
      UserError (a ValueError): an argument out of its range, when the initializer is made; axes
        that a shape does not have, when it is called.

    >>> init = variance_scaling(2.0, "fan_in", SymmetricPowerLaw(alpha=1.5, ratio=30))
    >>> init(jax.random.key(0), (256, 128)).shape
    (256, 128)
    """
    return VarianceScaling(
        scale, mode, distribution, in_axis, out_axis, batch_axis, dtype, normalize, sampling
    )


def _family(name, base_scale, mode, law, formula, source):
    """A factory of the LeCun, Glorot or He family; they differ in these arguments only."""

    def factory(
        *,
        activation: str | Callable | None = None,
        mode: str = mode,
        in_axis: Axes = -2,
        out_axis: Axes = -1,
        batch_axis: Axes = (),
        dtype=None,
    ) -> VarianceScaling:
        scale = base_scale if activation is None else gain(activation) ** 2
        return VarianceScaling(scale, mode, law, in_axis, out_axis, batch_axis, dtype)

    shape = {
        Normal(): "normal, without truncation",
        TruncatedNormal(): "normal, truncated at 2 standard deviations",
        Uniform(): "uniform",
    }[law]
    factory.__name__ = factory.__qualname__ = name
    factory.__doc__ = f"""Var(w) = {formula}, {shape}.

    {source}.

    Args:
      activation: name or callable; its gain^2 (`initjax.gain`) replaces the numerator.
      mode: which fan divides: "fan_in", "fan_out", "fan_avg", "fan_geo_avg".
      in_axis: axis or axes of the inputs.
      out_axis: axis or axes of the outputs.
      batch_axis: axis or axes that stack independent layers.
      dtype: dtype of the weights where the call names none.
    """
    return factory


_FAMILIES = {
    "lecun": (1.0, "fan_in", "1 / fan_in", "LeCun, Bottou, Orr & Mueller 1998, Efficient BackProp"),
    "glorot": (
        1.0,
        "fan_avg",
        "2 / (fan_in + fan_out)",
        "Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward networks",
    ),
    "he": (2.0, "fan_in", "2 / fan_in", "He, Zhang, Ren & Sun 2015, arXiv:1502.01852"),
}

# As in JAX, `normal` is truncated here; `untruncated_normal` is the law of the sources.
(
    (lecun_normal, lecun_uniform, lecun_untruncated_normal),
    (glorot_normal, glorot_uniform, glorot_untruncated_normal),
    (he_normal, he_uniform, he_untruncated_normal),
) = (
    tuple(
        _family(f"{family}_{name}", scale, mode, law, formula, source)
        for name, law in (
            ("normal", TruncatedNormal()),
            ("uniform", Uniform()),
            ("untruncated_normal", Normal()),
        )
    )
    for family, (scale, mode, formula, source) in _FAMILIES.items()
)
xavier_normal, xavier_uniform = glorot_normal, glorot_uniform
xavier_untruncated_normal = glorot_untruncated_normal
kaiming_normal, kaiming_uniform = he_normal, he_uniform
kaiming_untruncated_normal = he_untruncated_normal


def nspl(
    alpha: float = 1.0,
    ratio: float = 100.0,
    *,
    scale: float = 2.0,
    mode: str = "fan_in",
    cutoff: str = "hard",
    normalize: str = "analytic",
    sampling: str = "iid",
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype=None,
) -> VarianceScaling:
    """Normalized Symmetric Power Law: p(w) ~ |w|^-alpha, cut off at both ends, Var(w) = scale / n.

        p(w) = |w|^-alpha / (2 b^(1-alpha) h(1-alpha, L)),   b/ratio <= |w| <= b,   L = ln(ratio),

    with h(s, L) = (1 - e^(-s L)) / s and b such that the variance is scale / n. alpha = 0 with an
    infinite ratio is the uniform law. Larger alpha or ratio: heavier tails. The default has
    kurtosis 4.6, within the range seen in trained convolutions.

    alpha, ratio and the normalization are our specification: those of the source (Xing, Sun, Shao &
    Sui, Computer Engineering 48(7):104-113, 2022; patent CN113255883B) are not in its abstract.

    Args:
      alpha: exponent, any real number.
      ratio: largest over smallest |w|, more than 1; inf where alpha < 1.
      scale: variance times n; 2 suits ReLU (He et al. 2015).
      mode: which n: "fan_in", "fan_out", "fan_avg", "fan_geo_avg".
      cutoff: "hard" ends the law at b; "exponential" lets it fade out as exp(-|w|/b) instead, and
        `ratio` is b over the smallest |w|.
      normalize: "analytic" or "empirical", as in `variance_scaling`; the source's word for
        normalized also means standardized, which is the latter.
      sampling: "iid" or "stratified", as in `variance_scaling`.
      in_axis: axis or axes of the inputs.
      out_axis: axis or axes of the outputs.
      batch_axis: axis or axes that stack independent layers.
      dtype: dtype of the weights where the call names none.

    Raises:
      UserError (a ValueError): an argument out of its range.

    Warns:
      UserWarning: the law is so heavy-tailed that the variance of a layer of this size varies by
        more than 5 % from draw to draw.

    >>> w = nspl(alpha=1.5, ratio=30)(jax.random.key(0), (512, 512))
    >>> bool(abs(w.std() / (2 / 512) ** 0.5 - 1) < 0.02)
    True
    """
    one_of(cutoff, ("hard", "exponential"), "cutoff")
    law = (SymmetricPowerLaw if cutoff == "hard" else CutoffPowerLaw)(alpha, ratio)
    return VarianceScaling(
        scale, mode, law, in_axis, out_axis, batch_axis, dtype, normalize, sampling
    )
