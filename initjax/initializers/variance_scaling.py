"""Any law, scaled by a fan; the families of LeCun, Glorot and He."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.distributions.base import Distribution
from initjax.distributions.normal import Normal
from initjax.distributions.truncated_normal import TruncatedNormal
from initjax.distributions.uniform import Uniform
from initjax.initializers.axes import check_axes
from initjax.initializers.base import (
    Initializer,
    as_distribution,
    check_scale,
    register,
    reshard,
)
from initjax.initializers.fans import MODES, Axes, axes_tuple, effective_fan, fans
from initjax.support.arguments import one_of
from initjax.support.dtypes import canonical_dtype, compute_dtype, dtype_name
from initjax.support.errors import UserError
from initjax.theory.gains import gain

# A layer's variance is itself random. Above this relative standard error, and where the heavy tail
# and not just the smallness of the layer is the cause, `nspl` warns.
_NOISY_VARIANCE = 0.05
_HEAVY_KURTOSIS = 9.0  # (9 - 1) / (3 - 1): twice the standard error of a normal law


@dataclasses.dataclass(frozen=True, repr=False)
class VarianceScaling(Initializer):
    """Samples of a distribution, scaled to E[w^2] = scale / n, n being a fan of the layer."""

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: Distribution = TruncatedNormal()
    in_axis: Axes = -2
    out_axis: Axes = -1
    batch_axis: Axes = ()
    dtype: DTypeLike | None = None
    normalize: str = "analytic"
    sampling: str = "iid"
    groups: int = 1
    transposed: Axes | bool = False
    split: int = 1
    factory: ClassVar[str] = "variance_scaling"

    def __post_init__(self) -> None:
        check_scale(self, "scale")
        for name, choices in (
            ("mode", MODES),
            ("normalize", ("analytic", "empirical")),
            ("sampling", ("iid", "stratified")),
        ):
            one_of(getattr(self, name), choices, name)
        object.__setattr__(self, "distribution", as_distribution(self.distribution))
        if not math.isfinite(self.distribution.std):
            raise UserError(
                f"distribution={self.distribution} has no finite variance that could be scaled;"
                " `scaled(scale, distribution)` takes it as it is."
            )
        check_axes(self)
        object.__setattr__(self, "dtype", dtype_name(self.dtype))

    def variance(self, shape: Sequence[int]) -> float:
        """The variance of a weight in an array of `shape`; E[w^2] where the law has a mean."""
        in_axis, out_axis = self.in_axis, self.out_axis
        if _same_axis(in_axis, out_axis, len(shape)):
            # variance_scaling(1., "fan_in", "normal", out_axis=0) is Flax's for embeddings (number,
            # features): one axis is named twice, and both fans are the features.
            fan_in = fan_out = fans(shape, (), out_axis, self.batch_axis)[0]
        else:
            packing = {name: getattr(self, name) for name in ("groups", "transposed", "split")}
            fan_in, fan_out = fans(shape, in_axis, out_axis, self.batch_axis, **packing)
        return self.scale / effective_fan(self.mode, fan_in, fan_out)

    def _weights(self, key, shape, dtype, out_sharding):
        dtype = dtype if dtype is not None else self.dtype
        real_dtype = compute_dtype(dtype)
        if math.prod(shape) == 0:  # no weights, and a fan of zero to divide by
            return jnp.zeros(shape, canonical_dtype(dtype), out_sharding=out_sharding)
        variance = _representable(self.variance(shape), real_dtype)
        law = self.distribution
        if self.sampling == "iid" and self.normalize == "analytic":
            self._warn_if_noisy(shape)
            multiplier = real_dtype.type(law.multiplier(variance))
            return law.sample_scaled(key, shape, dtype, multiplier, out_sharding)
        if jnp.issubdtype(canonical_dtype(dtype), jnp.complexfloating):
            raise UserError("Complex weights need sampling='iid' and normalize='analytic'.")
        w = _standardized(law, self.sampling, self.normalize, key, shape, real_dtype)
        return reshard(
            (w * real_dtype.type(np.sqrt(variance))).astype(canonical_dtype(dtype)), out_sharding
        )

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


def _same_axis(left, right, ndim) -> bool:
    """Whether both name one and the same axis of an array."""
    axes = (axes_tuple(left, "in_axis"), axes_tuple(right, "out_axis"))
    return all(len(a) == 1 and -ndim <= a[0] < ndim for a in axes) and (
        axes[0][0] % ndim == axes[1][0] % ndim
    )


def _representable(variance, dtype):
    """A variance in `dtype`, or in float64 where only its root is a number of `dtype`."""
    limits = np.finfo(dtype)
    fits = limits.tiny <= variance <= limits.max
    return dtype.type(variance) if fits else np.float64(variance)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 4, 5))
def _standardized(law, sampling, normalize, key, shape, dtype):
    """Samples of root mean square 1, for other than plain draws."""
    if sampling == "stratified":
        w = _stratified(law, key, shape, dtype)
    else:
        w = law.draw(key, shape, dtype, None)
    if normalize == "empirical":
        return w / jnp.sqrt(jnp.mean(jnp.square(w)))
    return w / dtype.type(law.rms)


def _stratified(law, key, shape, dtype):
    """One sample in each of N equally probable strata, in random order."""
    size = math.prod(shape)
    key_order, key_position = jax.random.split(key)
    order = jax.random.permutation(key_order, size)
    position = jax.random.uniform(key_position, (size,), dtype)
    # In float32 a stratum of 1 / 2^22 holds four numbers, and one of 1 / 2^26 none.
    with jax.enable_x64(True):
        p = (order.astype(np.float64) + position.astype(np.float64)) / size
        w = law.icdf(jnp.clip(p, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg))
        return w.astype(dtype).reshape(shape)


@register(
    "any distribution, Var = scale / n",
    "jax.nn.initializers",
    "a law, a fan or an axis that no other name has",
)
def variance_scaling(
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: Distribution | str = "truncated_normal",
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
    *,
    normalize: str = "analytic",
    sampling: str = "iid",
    groups: int = 1,
    transposed: Axes | bool = False,
    split: int = 1,
) -> VarianceScaling:
    """Any distribution, scaled to the variance `scale` / n.

    Of a law whose mean is not 0 it is E[w^2] that is `scale` / n: that is what a layer multiplies
    the mean square of its inputs by.

    Args:
      scale: the variance times n: gain^2.
      mode: which n: "fan_in", "fan_out", "fan_avg" (their mean), "fan_geo_avg" (geometric mean).
      distribution: a `Distribution`, or "normal", "truncated_normal" (at +-2 standard deviations),
        "uniform".
      in_axis: axis or axes of the inputs; with the default, weights are (..., in, out).
      out_axis: axis or axes of the outputs.
      batch_axis: axis or axes that stack independent layers.
      dtype: dtype of the weights where the call names none.
      normalize: "analytic" scales by the law's variance (its mean square); "empirical" by that of
        the very sample, which then is exact.
      sampling: "iid", or "stratified": one sample in each of N equally probable strata, in random
        order, so that the array's own distribution is as close to the law as it can be.
      groups: groups of a convolution, which `fan_out` counts; see `initjax.fans`.
      transposed: strides of a transposed convolution, which `fan_in` counts.
      split: layers packed side by side along the outputs, which `fan_out` counts.

    Raises:
      UserError (a ValueError): an argument out of its range, when the initializer is made; axes
        that a shape does not have, when it is called.

    >>> from initjax.distributions import SymmetricPowerLaw
    >>> init = variance_scaling(2.0, "fan_in", SymmetricPowerLaw(alpha=1.5, ratio=30))
    >>> init(jax.random.key(0), (256, 128)).shape
    (256, 128)
    """
    law = as_distribution(distribution)
    axes = in_axis, out_axis, batch_axis
    packing = groups, transposed, split
    return VarianceScaling(scale, mode, law, *axes, dtype, normalize, sampling, *packing)


@dataclasses.dataclass(frozen=True)
class _Family:
    """What the factories of LeCun, Glorot or He share; a family may have a second name."""

    name: str
    alias: str
    scale: float
    mode: str
    variance: str
    shown: str  # the variance, in the catalogue
    source: str
    reference: str  # the source, in the catalogue


_LECUN = _Family(
    "lecun",
    "",
    1.0,
    "fan_in",
    "1 / fan_in",
    "1 / fan_in",
    "LeCun, Bottou, Orr & Mueller 1998, Efficient BackProp",
    "LeCun et al. 1998, Efficient BackProp",
)
_GLOROT = _Family(
    "glorot",
    "xavier",
    1.0,
    "fan_avg",
    "2 / (fan_in + fan_out)",
    "2 / (fan_in + fan_out)",
    "Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward networks",
    "Glorot & Bengio 2010",
)
_HE = _Family(
    "he",
    "kaiming",
    2.0,
    "fan_in",
    "2 / fan_in",
    "gain^2 / fan_in, gain^2 = 2",
    "He, Zhang, Ren & Sun 2015, arXiv:1502.01852",
    "He et al. 2015, arXiv:1502.01852",
)


class FanFactory(Protocol):
    """How the factories of LeCun, Glorot and He are called."""

    __name__: str

    def __call__(
        self,
        in_axis: Axes = -2,
        out_axis: Axes = -1,
        batch_axis: Axes = (),
        dtype: DTypeLike | None = None,
        *,
        activation: str | Callable[..., Any] | None = None,
        mode: str = ...,
        groups: int = 1,
        transposed: Axes | bool = False,
        split: int = 1,
    ) -> VarianceScaling: ...


def _factory(family: _Family, law: Distribution, use: str) -> FanFactory:
    """A factory of a family, registered."""

    def factory(
        in_axis: Axes = -2,
        out_axis: Axes = -1,
        batch_axis: Axes = (),
        dtype: DTypeLike | None = None,
        *,
        activation: str | Callable[..., Any] | None = None,
        mode: str = family.mode,
        groups: int = 1,
        transposed: Axes | bool = False,
        split: int = 1,
    ) -> VarianceScaling:
        scale = family.scale if activation is None else gain(activation) ** 2
        axes = in_axis, out_axis, batch_axis
        packing = groups, transposed, split
        return VarianceScaling(scale, mode, law, *axes, dtype, "analytic", "iid", *packing)

    # As in JAX, `normal` is truncated here; `untruncated_normal` is the law of the sources.
    name, shape, shown = {
        TruncatedNormal(): (
            "normal",
            "normal, truncated at 2 standard deviations",
            "truncated normal",
        ),
        Uniform(): ("uniform", "uniform", "uniform"),
        Normal(): ("untruncated_normal", "normal, without truncation", "normal"),
    }[law]
    factory.__name__ = factory.__qualname__ = f"{family.name}_{name}"
    factory.__doc__ = f"""Var(w) = {family.variance}, {shape}.

    {family.source}.

    Args:
      in_axis: axis or axes of the inputs.
      out_axis: axis or axes of the outputs.
      batch_axis: axis or axes that stack independent layers.
      dtype: dtype of the weights where the call names none.
      activation: name or callable; its gain^2 (`initjax.gain`) replaces the numerator.
      mode: which fan divides: "fan_in", "fan_out", "fan_avg", "fan_geo_avg".
      groups: groups of a convolution, as in `initjax.fans`.
      transposed: strides of a transposed convolution, as in `initjax.fans`.
      split: layers packed side by side along the outputs, as in `initjax.fans`.
    """
    aliases = (f"{family.alias}_{name}",) if family.alias else ()
    return register(f"{shown}, Var = {family.shown}", family.reference, use, *aliases)(factory)


lecun_normal: FanFactory = _factory(
    _LECUN, TruncatedNormal(), "SELU and linear layers; Flax's own default"
)
lecun_uniform: FanFactory = _factory(_LECUN, Uniform(), "as lecun_normal, bounded")
lecun_untruncated_normal: FanFactory = _factory(_LECUN, Normal(), "as in the source")
glorot_normal: FanFactory = _factory(
    _GLOROT,
    TruncatedNormal(),
    "tanh and sigmoid, where forward and backward signal matter alike",
)
xavier_normal: FanFactory = glorot_normal
glorot_uniform: FanFactory = _factory(
    _GLOROT, Uniform(), "as glorot_normal, bounded; Keras' default"
)
xavier_uniform: FanFactory = glorot_uniform
glorot_untruncated_normal: FanFactory = _factory(
    _GLOROT, Normal(), "as glorot_normal, without truncation"
)
xavier_untruncated_normal: FanFactory = glorot_untruncated_normal
he_normal: FanFactory = _factory(
    _HE, TruncatedNormal(), "ReLU; any other activation by activation=..."
)
kaiming_normal: FanFactory = he_normal
he_uniform: FanFactory = _factory(_HE, Uniform(), "as he_normal, bounded")
kaiming_uniform: FanFactory = he_uniform
he_untruncated_normal: FanFactory = _factory(_HE, Normal(), "as in the source: N(0, 2 / n)")
kaiming_untruncated_normal: FanFactory = he_untruncated_normal
