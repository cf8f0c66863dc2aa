"""Initializers of a fixed scale, whatever the shape."""

import dataclasses
from typing import ClassVar

from jax.typing import DTypeLike

from initjax.distributions.base import Distribution
from initjax.distributions.normal import Normal
from initjax.distributions.truncated_normal import TruncatedNormal
from initjax.distributions.uniform import Uniform
from initjax.initializers.base import Initializer, as_distribution, check_scale, register
from initjax.support.arguments import finite
from initjax.support.dtypes import dtype_name


@dataclasses.dataclass(frozen=True, repr=False)
class Scaled(Initializer):
    """Samples of a distribution times a fixed `scale`, whatever the shape."""

    scale: float = 1.0
    distribution: Distribution = Normal()
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "scaled"

    def __post_init__(self) -> None:
        check_scale(self, "scale")
        object.__setattr__(self, "distribution", as_distribution(self.distribution))
        object.__setattr__(self, "dtype", dtype_name(self.dtype))

    def _weights(self, key, shape, dtype, out_sharding):
        dtype = dtype if dtype is not None else self.dtype
        return self.distribution.sample_scaled(key, shape, dtype, self.scale, out_sharding)


@register("N(0, stddev^2)", "jax.nn.initializers", "a fixed scale, as in embeddings")
def normal(stddev: float = 0.01, dtype: DTypeLike | None = None) -> Scaled:
    """w ~ N(0, stddev^2), whatever the shape."""
    return Scaled(finite(stddev, "stddev"), Normal(), dtype)


@register(
    "N(0, stddev^2) cut at [lower, upper] stddev",
    "jax.nn.initializers",
    "a fixed scale without outliers, as in vision transformers",
)
def truncated_normal(
    stddev: float = 0.01, dtype: DTypeLike | None = None, lower: float = -2.0, upper: float = 2.0
) -> Scaled:
    """w = stddev z, z ~ N(0, 1) conditioned on lower <= z <= upper.

    As in JAX, `stddev` is that of the law before truncation; `variance_scaling` corrects for it.
    """
    law = TruncatedNormal(lower, upper)
    return Scaled(finite(stddev, "stddev"), law, dtype)


@register("U(-scale, scale)", "symmetric, unlike JAX's", "a fixed bound")
def uniform(scale: float = 0.01, dtype: DTypeLike | None = None) -> Scaled:
    """w uniform on [-scale, scale].

    Symmetric, unlike `jax.nn.initializers.uniform`, which draws from [0, scale).
    """
    return Scaled(scale, Uniform(), dtype)


@register(
    "scale * any distribution", "initjax", "a law with no variance, or a scale that no fan gives"
)
def scaled(
    scale: float = 1.0, distribution: Distribution | str = "normal", dtype: DTypeLike | None = None
) -> Scaled:
    """w = scale z, z from any distribution, whatever the shape.

    Args:
      scale: what multiplies the samples. The law may have no variance.
      distribution: a `Distribution`, or "normal", "truncated_normal" (at +-2 standard deviations),
        "uniform".
      dtype: dtype of the weights where the call names none.

    Raises:
      UserError (a ValueError): an argument out of its range.

    >>> from initjax.distributions import Laplace
    >>> scaled(0.01, Laplace())
    scaled(scale=0.01, distribution=Laplace())
    """
    return Scaled(scale, as_distribution(distribution), dtype)
