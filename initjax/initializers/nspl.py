"""NSPL: the normalized symmetric power law."""

from typing import Unpack

from jax.typing import DTypeLike

from initjax.distributions.cutoff_power_law import CutoffPowerLaw
from initjax.distributions.power_law import SymmetricPowerLaw
from initjax.initializers.axes import FanArguments
from initjax.initializers.base import register
from initjax.initializers.variance_scaling import VarianceScaling
from initjax.support.arguments import one_of


@register(
    "p(w) ~ |w|^-alpha, b/ratio <= |w| <= b, Var = scale / fan_in",
    "Xing et al. 2022, Computer Engineering 48(7):104-113; our specification",
    "to start from heavy-tailed weights, as trained networks have them",
)
def nspl(
    alpha: float = 1.0,
    ratio: float = 100.0,
    *,
    scale: float = 2.0,
    mode: str = "fan_in",
    cutoff: str = "hard",
    normalize: str = "analytic",
    sampling: str = "iid",
    dtype: DTypeLike | None = None,
    **fan: Unpack[FanArguments],
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
      dtype: dtype of the weights where the call names none.
      **fan: in_axis, out_axis, batch_axis, groups, transposed, split, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): an argument out of its range.

    Warns:
      UserWarning: the law is so heavy-tailed that the variance of a layer of this size varies by
        more than 5 % from draw to draw.

    >>> import jax
    >>> w = nspl(alpha=1.5, ratio=30)(jax.random.key(0), (512, 512))
    >>> bool(abs(w.std() / (2 / 512) ** 0.5 - 1) < 0.02)
    True
    """
    one_of(cutoff, ("hard", "exponential"), "cutoff")
    law = (SymmetricPowerLaw if cutoff == "hard" else CutoffPowerLaw)(alpha, ratio)
    return VarianceScaling(
        scale, mode, law, dtype=dtype, normalize=normalize, sampling=sampling, **fan
    )
