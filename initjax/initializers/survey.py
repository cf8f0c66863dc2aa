"""Two rules as a survey of initialization prints them, which their own sources do not have.

It has Xavier change its variance with the activation, and calls Kaiming's weights a truncated
normal law. It also says that Kaiming's standard deviation should follow the loss; it gives no rule
for that, and so there is none here.
"""

from collections.abc import Callable
from typing import Any, Unpack

from jax.typing import DTypeLike

from initjax.distributions.normal import Normal
from initjax.distributions.truncated_normal import TruncatedNormal
from initjax.initializers.axes import FanArguments
from initjax.initializers.base import register
from initjax.initializers.variance_scaling import VarianceScaling
from initjax.support.arguments import one_of
from initjax.theory.gains import gain

_XAVIER = {"relu": (2.0, "fan_in"), "sigmoid": (1.0, "fan_avg"), "tanh": (1.0, "fan_avg")}
# Of |z|, z ~ N(0, 1). A bound is finite; what lies above 10 sd has a probability of 2e-23.
_HALF_NORMAL = TruncatedNormal(0.0, 10.0)


@register(
    "N(0, 2 / fan_in) for ReLU, N(0, 2 / (fan_in + fan_out)) for sigmoid and tanh",
    "a survey's reading of Glorot & Bengio 2010, who do not treat ReLU; its ReLU rule is that of"
    " He et al. 2015",
    "to repeat that survey: it is he_untruncated_normal or xavier_untruncated_normal",
)
def survey_xavier(
    *,
    activation: str = "relu",
    dtype: DTypeLike | None = None,
    **fan: Unpack[FanArguments],
) -> VarianceScaling:
    """Xavier that switches on the activation, as a survey has it.

        relu:           w ~ N(0, 2 / fan_in), sd sqrt(2 / n)
        sigmoid, tanh:  w ~ N(0, 2 / (fan_in + fan_out))

    Args:
      activation: "relu", "sigmoid" or "tanh"; the survey has no rule for others. It is not taken
        from the model: say the same in both places.
      dtype: dtype of the weights where the call names none.
      **fan: in_axis, out_axis, batch_axis, groups, transposed, split, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): another activation.

    >>> survey_xavier(activation="tanh")
    variance_scaling(mode='fan_avg', distribution=Normal())
    """
    scale, mode = _XAVIER[one_of(activation, _XAVIER, "activation")]
    return VarianceScaling(scale, mode, Normal(), dtype=dtype, **fan)


@register(
    "|N(0, gain^2 / fan_in)|, gain^2 = 2 for ReLU",
    "a survey's truncated normal Kaiming, read as half of one; He et al. 2015 truncate nothing",
    "to see it fail: with no negative weight each layer's mean is 2 sqrt(fan_in / pi) times that"
    " of the one before, 18 at 256 units, and outputs no longer tell inputs apart; to train, take"
    " he_normal",
)
def survey_kaiming(
    *,
    activation: str | Callable[..., Any] = "relu",
    dtype: DTypeLike | None = None,
    **fan: Unpack[FanArguments],
) -> VarianceScaling:
    """Half-normal weights, w = |z|, z ~ N(0, gain^2 / fan_in). They do not train.

    A survey calls Kaiming's weights a truncated normal law whose standard deviation follows the
    layer's size, the activation and the loss; cut at 0 it is this one. (It gives no rule for the
    loss. Cut at two standard deviations on both sides it is `he_normal`.)

    Weights of mean m = gain sqrt(2 / (pi fan_in)) add up what they are given instead of averaging
    it out. Behind a ReLU inputs are not negative, and with xbar their mean, a unit's z has

        E[z] = fan_in m xbar = gain sqrt(2 fan_in / pi) xbar,

    which grows with the width: by 2 sqrt(fan_in / pi) a ReLU layer, 18.05 at 256 units, 1.9e6 in
    five layers. All units then are positive, so that the network is linear, and all follow xbar, so
    that inputs differ in the size of the outputs and in nothing else. Sigmoid and tanh saturate.
    `mlp(depth=4)` on the digits, 110 steps at rate 0.01, one seed: 0.100 of the test images, which
    is chance, where `he_normal` gets 0.894.

    Args:
      activation: a name or an elementwise function; `initjax.gain(activation)` is the gain.
      dtype: dtype of the weights where the call names none.
      **fan: in_axis, out_axis, batch_axis, groups, transposed, split, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): an unknown activation.

    >>> import jax
    >>> w = survey_kaiming()(jax.random.key(0), (256, 256))
    >>> float(w.min()) >= 0, round(float((w**2).mean() * 256), 1)
    (True, 2.0)
    """
    scale = gain(activation) ** 2
    return VarianceScaling(scale, "fan_in", _HALF_NORMAL, dtype=dtype, **fan)
