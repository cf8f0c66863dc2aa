"""PLI: power laws whose exponent depends on the place in a kernel."""

import dataclasses
import math
from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.distributions.power_law import SymmetricPowerLaw
from initjax.initializers.axes import FanArguments
from initjax.initializers.base import FanScaled, register
from initjax.support.arguments import finite, one_of, positive
from initjax.support.errors import UserError


@dataclasses.dataclass(frozen=True, repr=False)
class PLI(FanScaled):
    """See `pli`."""

    alpha_first: float = 1.0
    alpha_last: float = 1.0
    radial: float = 0.5
    power: float = 1.0
    depth: float | None = None
    ratio: float = 100.0
    normalize: str = "kernel"
    factory: ClassVar[str] = "pli"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha_first", "alpha_last", "radial", "power"):
            object.__setattr__(self, name, finite(getattr(self, name), name))
        if self.depth is None and self.alpha_first != self.alpha_last:
            ends = f"alpha_first={self.alpha_first}, alpha_last={self.alpha_last}"
            raise UserError(
                f"pli: {ends}: where this layer stands, depth, it cannot know.\nSay it, 0 the first"
                f" layer and 1 the last, as in pli({ends}, depth=0.5)."
            )
        if self.depth is not None and not 0 <= finite(self.depth, "depth") <= 1:
            raise UserError(f"depth={self.depth} must be in [0, 1]: 0 the first layer, 1 the last.")
        positive(self.power, "power")
        one_of(self.normalize, ("kernel", "position"), "normalize")
        for radius in (0.0, 1.0):
            self._law(radius)  # ratio is checked where the law is made

    def _law(self, radius):
        alpha = self.alpha_first + (self.alpha_last - self.alpha_first) * (self.depth or 0)
        return SymmetricPowerLaw(alpha + self.radial * radius**self.power, self.ratio)

    def build_unit(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
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


@register(
    "nspl whose alpha grows with the distance to the kernel's centre and with depth",
    "Jiang et al. 2023, Neural Comput. & Applic. 35:22431; our specification",
    "convolutions of 3x3 and larger",
)
def pli(
    alpha_first: float = 1.0,
    alpha_last: float = 1.0,
    *,
    radial: float = 0.5,
    power: float = 1.0,
    depth: float | None = None,
    ratio: float = 100.0,
    normalize: str = "kernel",
    scale: float = 2.0,
    mode: str = "fan_in",
    dtype: DTypeLike | None = None,
    **fan: Unpack[FanArguments],
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
      depth: where this layer stands: 0 the first, 1 the last; needed where the exponents differ.
      ratio: largest over smallest |w|.
      normalize: "kernel": all positions share their cut-offs and the kernel as a whole has its
        variance, so that the centre has more of it; "position": each position has it.
      scale: variance times n.
      mode: which n: "fan_in", "fan_out", "fan_avg", "fan_geo_avg".
      dtype: dtype of the weights where the call names none.
      **fan: in_axis, out_axis, batch_axis, groups, transposed, split, as in `initjax.fans`.
    """
    return PLI(
        scale,
        mode,
        dtype,
        alpha_first,
        alpha_last,
        radial,
        power,
        depth,
        ratio,
        normalize,
        **fan,
    )
