"""Dtypes: in which one samples are drawn, and how an initializer names its own."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.support.errors import UserError


def wide_dtype(dtype: DTypeLike) -> np.dtype:
    """The dtype in which weights that end in `dtype` are multiplied: at least float32."""
    real = compute_dtype(dtype)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return jnp.promote_types(real, jnp.complex64)
    return real


def compute_dtype(dtype: DTypeLike | None) -> np.dtype:
    """The real dtype in which a sample that ends in `dtype` is drawn: float32, or float64."""
    if dtype is None:
        dtype = float
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise UserError(
            f"dtype={np.dtype(dtype).name} cannot hold random weights; use a float dtype."
        )
    real = jnp.finfo(dtype).dtype
    return np.dtype(np.float64 if real == np.float64 else np.float32)


def dtype_name(dtype: DTypeLike | None) -> str | None:
    """A dtype argument as its name, which is hashable and prints well."""
    if dtype is None:
        return None
    try:
        return jnp.dtype(dtype).name
    except TypeError:
        raise UserError(f"dtype={dtype!r} is not a dtype.") from None


def canonical_dtype(dtype: DTypeLike | None) -> np.dtype:
    return jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
