"""Heavy-tailed initializers that know where in a kernel a weight stands: PLI, scale mixtures."""

import abc
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from initjax.arguments import finite, not_negative, one_of, positive
from initjax.distributions import SymmetricPowerLaw
from initjax.errors import UserError
from initjax.fans import MODES, effective_fan, fans
from initjax.structured import Structured


@dataclasses.dataclass(frozen=True, repr=False)
class _Kernel(Structured):
    """Base: weights (..., in, out) of unit variance from `build_unit`, scaled to scale / fan."""

    scale: float = 2.0
    mode: str = "fan_in"
    dtype: str | None = None

    def __post_init__(self):
        super().__post_init__()
        one_of(self.mode, MODES, "mode")

    def build(self, key, shape, dtype):
        std = math.sqrt(self.scale / effective_fan(self.mode, *fans(shape)))
        return self.build_unit(key, shape, dtype) * dtype.type(std)

    @abc.abstractmethod
    def build_unit(self, key, shape, dtype):
        """Weights of variance 1 over the layer."""


@dataclasses.dataclass(frozen=True, repr=False)
class PLI(_Kernel):
    """See `pli`."""

    alpha_first: float = 1.0
    alpha_last: float = 1.0
    radial: float = 0.5
    power: float = 1.0
    depth: float = 0.0
    ratio: float = 100.0
    normalize: str = "kernel"
    factory = "pli"

    def __post_init__(self):
        super().__post_init__()
        for name in ("alpha_first", "alpha_last", "radial", "power", "depth"):
            object.__setattr__(self, name, finite(getattr(self, name), name))
        if not 0 <= self.depth <= 1:
            raise UserError(f"depth={self.depth} must be in [0, 1]: 0 the first layer, 1 the last.")
        positive(self.power, "power")
        one_of(self.normalize, ("kernel", "position"), "normalize")
        self._law(0.0), self._law(1.0)  # ratio is checked where the law is made

    def _law(self, radius):
        alpha = self.alpha_first + (self.alpha_last - self.alpha_first) * self.depth
        return SymmetricPowerLaw(alpha + self.radial * radius**self.power, self.ratio)

    def build_unit(self, key, shape, dtype):
        positions = shape[:-2]
        radius = relative_radius(positions).ravel()
        laws = [self._law(r) for r in radius]
        mean_variance = sum(law.std**2 for law in laws) / len(laws)
        w = jnp.zeros((len(laws), *shape[-2:]), dtype)
        # One draw for all positions of one radius, since they share their law.
        for number, r in enumerate(np.unique(radius)):
            law = self._law(r)
            where = np.flatnonzero(radius == r)
            std = math.sqrt(mean_variance) if self.normalize == "kernel" else law.std
            draw = law.draw(jax.random.fold_in(key, number), (len(where), *shape[-2:]), dtype, None)
            w = w.at[where].set(draw / dtype.type(std))
        return w.reshape(shape)


def relative_radius(positions: tuple[int, ...]) -> np.ndarray:
    """Distance of every kernel position from the centre, over the largest; 0 for one position.

    >>> relative_radius((3, 3))[0].round(3).tolist()
    [1.0, 0.707, 1.0]
    """
    axes = [np.arange(n) - (n - 1) / 2 for n in positions]
    squared = sum((g**2 for g in np.meshgrid(*axes, indexing="ij")), np.zeros(positions))
    # Rounded, so that positions at one distance have one radius to the last bit.
    return np.round(np.sqrt(squared / max(float(np.max(squared)), 1e-300)), 12)


def pli(
    alpha_first: float = 1.0,
    alpha_last: float = 1.0,
    *,
    radial: float = 0.5,
    power: float = 1.0,
    depth: float = 0.0,
    ratio: float = 100.0,
    normalize: str = "kernel",
    scale: float = 2.0,
    mode: str = "fan_in",
    dtype=None,
) -> PLI:
    """A power law whose exponent grows from a kernel's centre to its edge, and with depth.

        alpha(i, j) = alpha_first + (alpha_last - alpha_first) depth + radial (r_ij / r_max)^power,

    r_ij being the distance to the kernel's centre. Our specification of the power-law
    initialization (PLI) of Jiang et al. 2023, Neural Computing and Applications 35:22431, whose
    abstract says that exponents steepen with depth and flatten at the centre, but not its formula.
    Dense layers and 1x1 kernels have the plain law.

    Args:
      alpha_first: exponent at the centre of the first layer's kernels.
      alpha_last: exponent at the centre of the last layer's kernels.
      radial: how much larger the exponent is at the corners.
      power: of the relative distance.
      depth: where this layer stands: 0 the first, 1 the last.
      ratio: largest over smallest |w|.
      normalize: "kernel": all positions share their cut-offs and the kernel as a whole has its
        variance, so that the centre has more of it; "position": each position has it.
      scale: variance times n.
      mode: which n: "fan_in", "fan_out", "fan_avg", "fan_geo_avg".
      dtype: dtype of the weights where the call names none.
    """
    return PLI(scale, mode, dtype, alpha_first, alpha_last, radial, power, depth, ratio, normalize)


@dataclasses.dataclass(frozen=True, repr=False)
class ScaleMixture(_Kernel):
    """See `scale_mixture`."""

    position_spread: float = 0.5
    channel_spread: float = 0.5
    radial: float = 0.0
    factory = "scale_mixture"

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "radial", finite(self.radial, "radial"))
        for name in ("position_spread", "channel_spread"):
            object.__setattr__(self, name, not_negative(getattr(self, name), name))

    def build_unit(self, key, shape, dtype):
        key_position, key_channel, key_draw = jax.random.split(key, 3)
        log_position = -self.radial * jnp.asarray(relative_radius(shape[:-2]), dtype)
        noise = jax.random.normal(key_position, shape[:-2], dtype)
        log_position = log_position + self.position_spread * noise
        log_channel = self.channel_spread * jax.random.normal(key_channel, shape[-1:], dtype)
        w = jax.random.normal(key_draw, shape, dtype)
        return w * _unit_power(log_position)[..., None, None] * _unit_power(log_channel)


def _unit_power(log_scale):
    """exp(log_scale), divided so that its mean square is exactly 1."""
    scale = jnp.exp(log_scale - jnp.max(log_scale))
    return scale / jnp.sqrt(jnp.mean(jnp.square(scale)))


def scale_mixture(
    position_spread: float = 0.5,
    channel_spread: float = 0.5,
    *,
    radial: float = 0.0,
    scale: float = 2.0,
    mode: str = "fan_in",
    dtype=None,
) -> ScaleMixture:
    """w = scale of the position * scale of the output channel * a normal draw.

    In trained networks much of a layer's heavy tail is a mixture of positions and channels of
    different scales: dividing these out takes the kurtosis of depthwise kernels from 12-22 to
    2.5-3.1. The scales are log-normal and their mean squares over the layer are exactly 1, so that
    the weights' variance is scale / n. Ours; no source.

    Args:
      position_spread: standard deviation of the log scale of the kernel positions.
      channel_spread: standard deviation of the log scale of the output channels.
      radial: how much the log scale falls from a kernel's centre to its corners.
      scale: variance times n.
      mode: which n: "fan_in", "fan_out", "fan_avg", "fan_geo_avg".
      dtype: dtype of the weights where the call names none.
    """
    return ScaleMixture(scale, mode, dtype, position_spread, channel_spread, radial)
