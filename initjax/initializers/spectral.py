"""Weights whose spectral norm is that of the spectral condition, whatever the width."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from initjax.initializers.base import Structured, register


@dataclasses.dataclass(frozen=True, repr=False)
class Spectral(Structured):
    """See `spectral`."""

    scale: float = 1.0
    dtype: str | None = None
    factory = "spectral"

    def build(self, key, shape, dtype):
        inputs, outputs = math.prod(shape[:-1]), shape[-1]
        w = jax.random.normal(key, shape, dtype)
        # All singular values: a power iteration stops too early where two lie close together.
        norm = jnp.linalg.svd(w.reshape(inputs, outputs), compute_uv=False)[0]
        return w * (dtype.type(self.scale * math.sqrt(outputs / inputs)) / norm)


@register(
    "z sqrt(out / in) / ||z||, z ~ N(0, 1)",
    "Yang et al. 2023, arXiv:2310.17813",
    "feature learning at every width: the spectral norm is exact",
)
def spectral(scale: float = 1.0, *, dtype=None) -> Spectral:
    """Normal weights of spectral norm `scale` sqrt(out / in), exactly.

    The spectral condition for feature learning at every width (Yang, Simon & Bernstein 2023,
    arXiv:2310.17813): so does a layer make outputs of size 1 of inputs of size 1. A convolution
    counts as the matrix of its patches, (positions * in, out). Not for embeddings.

    Args:
      scale: what the norm is multiplied by.
      dtype: dtype of the weights where the call names none.

    >>> w = spectral()(jax.random.key(0), (64, 16))
    >>> round(float(jnp.linalg.norm(w, 2)), 4)
    0.5
    """
    return Spectral(scale, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class SpectralNormal(Structured):
    """See `spectral_normal`."""

    scale: float = 1.0
    dtype: str | None = None
    factory = "spectral_normal"

    def build(self, key, shape, dtype):
        inputs, outputs = math.prod(shape[:-1]), shape[-1]
        stddev = self.scale * min(1.0, math.sqrt(outputs / inputs)) / math.sqrt(inputs)
        return jax.random.normal(key, shape, dtype) * dtype.type(stddev)


@register(
    "N(0, min(1, out / in) / in)",
    "Yang et al. 2023, arXiv:2310.17813",
    "feature learning at every width, from independent weights",
)
def spectral_normal(scale: float = 1.0, *, dtype=None) -> SpectralNormal:
    """w ~ N(0, s^2), s = `scale` min(1, sqrt(out / in)) / sqrt(in).

    The spectral norm is then about s (sqrt(in) + sqrt(out)): that of the spectral condition up to a
    factor that no width changes (Yang, Simon & Bernstein 2023, arXiv:2310.17813, section 3).
    """
    return SpectralNormal(scale, dtype)
