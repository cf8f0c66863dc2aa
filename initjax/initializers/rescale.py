"""Any initializer, times a number."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from initjax.initializers.base import Initializer
from initjax.initializers.constant import Constant
from initjax.initializers.scaled import Scaled
from initjax.initializers.variance_scaling import VarianceScaling
from initjax.support.arguments import finite
from initjax.support.dtypes import wide_dtype
from initjax.support.errors import UserError


@dataclasses.dataclass(frozen=True, repr=False)
class Rescaled(Initializer):
    """The weights of another initializer times a factor."""

    initializer: Callable[..., Any]
    multiplier: float
    factory: ClassVar[str] = "rescale"

    def _weights(self, key, shape, dtype, out_sharding):
        if dtype is None:
            dtype = jax.eval_shape(lambda: self.initializer(key, shape)).dtype
        dtype = jax.dtypes.canonicalize_dtype(dtype)
        wide = wide_dtype(dtype)  # multiplied first, rounded last
        sharding = () if out_sharding is None else (out_sharding,)
        weights = self.initializer(key, shape, wide, *sharding)
        return (weights * jnp.asarray(self.multiplier, wide)).astype(dtype)


def rescale(initializer: Callable[..., Any], multiplier: float) -> Initializer:
    """The weights of `initializer` times `multiplier`.

    Args:
      initializer: a value of initjax, or any `init(key, shape, dtype)`.
      multiplier: any finite number; 0 gives zeros.

    Returns:
      An initializer: of the same kind where `initializer` is one of initjax's.

    Raises:
      UserError (a ValueError): a multiplier that is not a finite number, an initializer that
        cannot be called.

    >>> from initjax.initializers import he_normal
    >>> rescale(he_normal(), 0.5)
    variance_scaling(scale=0.5)
    """
    multiplier = finite(multiplier, "multiplier")
    if not callable(initializer):
        raise UserError(f"initializer={initializer!r} is not callable; `initjax.get` reads names.")
    if multiplier == 0:
        return Constant(0.0, getattr(initializer, "dtype", None))
    if isinstance(initializer, Constant):
        return dataclasses.replace(initializer, value=initializer.value * multiplier)
    # The laws of the samples may be asymmetric, so a sign is not absorbed.
    if isinstance(initializer, VarianceScaling) and multiplier > 0:
        return dataclasses.replace(initializer, scale=initializer.scale * multiplier**2)
    if isinstance(initializer, Scaled) and multiplier > 0:
        return dataclasses.replace(initializer, scale=initializer.scale * multiplier)
    return Rescaled(initializer, multiplier)
