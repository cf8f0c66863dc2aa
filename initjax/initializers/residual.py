"""Initialization that knows how deep the network is: scales of residual branches.

- scales, by which the weights of a residual branch are multiplied (`fixup_scale`,
  `residual_scale`), and `rescale`, which multiplies any initializer;
- factories of initializers that have them built in (`fixup`, `rezero`, `gpt2_residual`, `deepnorm`,
  `mean_field_residual`), for a `kernel_init` or a rule of `initjax.reinitialize`.

`initjax.theory.fixed_points` predicts what they do.
"""

import dataclasses
import math
from typing import Unpack

from jax.typing import DTypeLike

from initjax.distributions.normal import Normal
from initjax.distributions.truncated_normal import TruncatedNormal
from initjax.initializers.axes import FanArguments, FanFields, check_axes, fan_arguments
from initjax.initializers.base import Initializer, register
from initjax.initializers.constant import Constant
from initjax.initializers.scaled import Scaled
from initjax.initializers.variance_scaling import VarianceScaling
from initjax.support.arguments import count, finite
from initjax.support.dtypes import dtype_name
from initjax.support.errors import UserError


def fixup_scale(num_branches: int, layers_per_branch: int = 2) -> float:
    """What Fixup multiplies He's weights by: L^(-1 / (2 m - 2)).

    For all weight layers of a residual branch but its last, which starts at zero, as does the
    classifier; one SGD step then changes the output of the network by an amount that does not grow
    with L (Zhang, Dauphin & Ma 2019, arXiv:1901.09321).

    Args:
      num_branches: L, the residual branches of the network.
      layers_per_branch: m, the weight layers of one branch, at least 2.

    Returns:
      The multiplier of the standard deviation.

    Raises:
      UserError (a ValueError): no branches, or a branch of one layer, which starts at zero.

    >>> round(fixup_scale(12, 2), 6), round(fixup_scale(12, 3), 6)
    (0.288675, 0.537285)
    """
    num_branches = count(num_branches, "num_branches")
    layers_per_branch = count(layers_per_branch, "layers_per_branch", 2)
    return num_branches ** (-1 / (2 * layers_per_branch - 2))


@register(
    "he_normal * L^(-1 / (2m - 2)), L branches of m layers",
    "Zhang et al. 2019, arXiv:1901.09321",
    "residual branches without normalization; their last layer and the classifier start at 0",
    example="fixup(num_branches=16)",
)
def fixup(
    num_branches: int,
    layers_per_branch: int = 2,
    *,
    dtype: DTypeLike | None = None,
    **fan: Unpack[FanArguments],
) -> VarianceScaling:
    """He's normal initializer times `fixup_scale`: Var(w) = 2 L^(-1 / (m - 1)) / fan_in.

    As rules for a network of L = 16 branches of two convolutions:

        rules = [
            (r"Block_\\d+/Conv_1/kernel", initjax.zeros),  # the last of each branch
            (r"Block_\\d+/Conv_\\d+/kernel", fixup(16, 2)),
            (r"Dense_0/(kernel|bias)", initjax.zeros),  # the classifier
        ]

    Args:
      num_branches: L, the residual branches of the network.
      layers_per_branch: m, the weight layers of one branch, at least 2.
      dtype: dtype of the weights where the call names none.
      **fan: in_axis, out_axis, batch_axis, groups, transposed, split, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): as `fixup_scale`.

    >>> fixup(16, 2)
    variance_scaling(scale=0.125)
    """
    scale = 2 * fixup_scale(num_branches, layers_per_branch) ** 2
    return VarianceScaling(scale, "fan_in", TruncatedNormal(), dtype=dtype, **fan)


@register(
    "w = 0",
    "Bachlechner et al. 2020, arXiv:2003.04887; De & Smith 2020, arXiv:2002.10444",
    "the gate that multiplies a residual branch",
    "skipinit",
)
def rezero(*, dtype: DTypeLike | None = None) -> Constant:
    """Zero, for the gate that multiplies a residual branch: x + gate * f(x).

    The network starts as the identity, exactly. SkipInit (De & Smith 2020, arXiv:2002.10444) and
    ReZero (Bachlechner et al. 2020, arXiv:2003.04887) are the same at initialization.

    >>> import jax
    >>> rezero()(jax.random.key(0), ())
    Array(0., dtype=float32)
    """
    return Constant(0.0, dtype)


skipinit = rezero


def residual_scale(num_layers: int, branches_per_layer: int = 2) -> float:
    """1 / sqrt(branches L): GPT-2's factor for the last projection of every residual branch.

    The sum of all branches then has the variance of one (Radford et al. 2019, section 2.3).

    Args:
      num_layers: L, the blocks of the network.
      branches_per_layer: residual branches of one block; 2 for a transformer, which has attention
        and a perceptron.

    Raises:
      UserError (a ValueError): a count below 1.

    >>> residual_scale(8)
    0.25
    """
    branches = count(num_layers, "num_layers") * count(branches_per_layer, "branches_per_layer")
    return 1 / math.sqrt(branches)


@register(
    "N(0, stddev^2 / (2 L))",
    "Radford et al. 2019, section 2.3",
    "the last projection of a transformer's residual branches; num_layers=L",
    example="gpt2_residual(num_layers=12)",
)
def gpt2_residual(
    num_layers: int,
    stddev: float = 0.02,
    *,
    branches_per_layer: int = 2,
    dtype: DTypeLike | None = None,
) -> Scaled:
    """w ~ N(0, stddev^2 / (branches L)): GPT-2's last projection of a residual branch.

    Args:
      num_layers: L, the blocks of the network.
      stddev: standard deviation of the other weights.
      branches_per_layer: residual branches of one block.
      dtype: dtype of the weights where the call names none.

    Raises:
      UserError (a ValueError): a count below 1, or a standard deviation of 0 or less.

    >>> gpt2_residual(num_layers=8)
    scaled(scale=0.005)
    """
    scale = finite(stddev, "stddev") * residual_scale(num_layers, branches_per_layer)
    return Scaled(scale, Normal(), dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class DeepNorm(FanFields, Initializer):
    """The two constants of DeepNorm, and the weights that they ask for; see `deepnorm`.

    Attributes:
      alpha: multiplies the shortcut: LayerNorm(alpha x + f(x)).
      beta: multiplies the Xavier weights of the perceptron, value and output projections.
      num_layers: from which both are, where that is a name's argument.
      dtype: dtype of the weights where the call names none.
      in_axis, out_axis, batch_axis, groups, split, transposed: as in `initjax.fans`.
    """

    alpha: float
    beta: float
    num_layers: int | None = None
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", dtype_name(self.dtype))
        check_axes(self)

    def __repr__(self) -> str:
        if self.num_layers is None:
            return f"DeepNorm(alpha={self.alpha!r}, beta={self.beta!r})"
        told = ({"dtype": self.dtype} if self.dtype else {}) | fan_arguments(self)
        shown = "".join(f", {name}={value!r}" for name, value in told.items())
        return f"deepnorm(num_layers={self.num_layers}{shown})"

    @property
    def kernel_init(self) -> VarianceScaling:
        """Xavier's normal initializer times beta."""
        fan = fan_arguments(self)
        return VarianceScaling(self.beta**2, "fan_avg", Normal(), dtype=self.dtype, **fan)

    def _weights(self, key, shape, dtype, out_sharding):
        return self.kernel_init(key, shape, dtype, out_sharding)


@register(
    "N(0, beta^2 2 / (fan_in + fan_out)), beta = (8 N)^(-1/4)",
    "Wang et al. 2022, arXiv:2203.00555",
    "perceptron, value and output projections of a post-norm transformer whose shortcuts are"
    " multiplied by alpha = (2 N)^(1/4); num_layers=N",
    example="deepnorm(num_layers=12)",
)
def deepnorm(
    num_layers: int, *, dtype: DTypeLike | None = None, **fan: Unpack[FanArguments]
) -> DeepNorm:
    """DeepNorm's constants for an encoder or a decoder: alpha = (2 N)^(1/4), beta = (8 N)^(-1/4).

    Of the weights, beta scales those of the perceptron and of the value and output projections;
    queries and keys keep Xavier's (Wang et al. 2022, arXiv:2203.00555). The value is the
    initializer of the former, Xavier's normal one times beta.

    Args:
      num_layers: N, the layers of the transformer, each with attention and a perceptron.
      dtype: dtype of the weights where the call names none.
      **fan: in_axis, out_axis, batch_axis, groups, transposed, split, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): a count below 1.

    >>> init = deepnorm(8)
    >>> init.alpha, round(init.beta, 6), round(init.kernel_init.scale, 6)
    (2.0, 0.353553, 0.125)
    """
    num_layers = count(num_layers, "num_layers")
    alpha, beta = (2 * num_layers) ** 0.25, (8 * num_layers) ** -0.25
    return DeepNorm(alpha, beta, num_layers, dtype, **fan)


@register(
    "N(0, c / (L fan_in))",
    "Hanin & Rolnick 2018, arXiv:1803.01719; Hayou et al. 2021, arXiv:2010.12859",
    "the last layer of residual branches: a variance that depends on depth; num_layers=L",
    example="mean_field_residual(num_layers=20)",
)
def mean_field_residual(
    num_layers: int,
    c: float = 1.0,
    *,
    dtype: DTypeLike | None = None,
    **fan: Unpack[FanArguments],
) -> VarianceScaling:
    """w ~ N(0, sv^2 / fan_in), sv^2 = c / L, for the last layer of every residual branch.

    Xavier's and He's rules are not optimal for residual networks: the right variance depends on the
    depth (Yang & Schoenholz 2017, arXiv:1712.08969). This one is that of Hanin & Rolnick 2018
    (arXiv:1803.01719) and of Hayou et al. 2021 (Stable ResNet, arXiv:2010.12859). With c / L the
    variance of the stream grows by
    a factor that tends to exp(c sw^2 / 2) for ReLU, whatever L, instead of (1 + sw^2 / 2)^L: see
    `predict_residual_variance`.

    Args:
      num_layers: L, the residual branches of the network.
      c: the sum of sv^2 over all branches, positive.
      dtype: dtype of the weights where the call names none.
      **fan: in_axis, out_axis, batch_axis, groups, transposed, split, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): a count below 1, c of 0 or less.

    >>> mean_field_residual(num_layers=20)
    variance_scaling(scale=0.05, distribution=Normal())
    """
    if finite(c, "c") <= 0:
        raise UserError(f"c={c} must be positive.")
    scale = float(c) / count(num_layers, "num_layers")
    return VarianceScaling(scale, "fan_in", Normal(), dtype=dtype, **fan)
