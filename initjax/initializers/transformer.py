"""Transformers: small and Wang's initialization, T-Fixup, DeepNorm of encoders with decoders."""

import dataclasses
import math
from typing import ClassVar, Unpack

import jax
import numpy as np
from jax.typing import DTypeLike

from initjax.distributions.normal import Normal
from initjax.distributions.uniform import Uniform
from initjax.initializers.axes import AxisArguments, AxisFields, FanArguments
from initjax.initializers.base import Structured, register
from initjax.initializers.residual import DeepNorm
from initjax.initializers.variance_scaling import VarianceScaling
from initjax.support.arguments import count, one_of


@dataclasses.dataclass(frozen=True, repr=False)
class SmallInit(AxisFields, Structured):
    """See `small_init`."""

    width: int | None = None
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "small_init"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width is not None:
            count(self.width, "width")

    def stddev(self, width: int) -> float:
        """The standard deviation in a transformer of this width."""
        return math.sqrt(0.4 / width)

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        width = self.width or min(math.prod(shape[:-1]), shape[-1])
        return jax.random.normal(key, shape, dtype) * dtype.type(self.stddev(width))


@register(
    "N(0, 2 / (5 d)), d the width of the transformer",
    "Nguyen & Salazar 2019, arXiv:1910.05895",
    "all matrices of a pre-norm transformer but those that wang_init starts; no convolutions",
)
def small_init(
    width: int | None = None, *, dtype: DTypeLike | None = None, **axes: Unpack[AxisArguments]
) -> SmallInit:
    """w ~ N(0, 2 / (5 d)): for all matrices what Xavier gives a d x 4 d one.

    Nguyen & Salazar 2019, Transformers without tears (arXiv:1910.05895); as in GPT-NeoX.

    Args:
      width: d, the width of the transformer; None: the smaller side of the matrix, which is d in
        attention (d x d or d x 3 d), the perceptron (d x 4 d, 4 d x d) and embeddings.
      dtype: dtype of the weights where the call names none.
      **axes: in_axis, out_axis and batch_axis, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): a width below 1.
    """
    return SmallInit(width, dtype, **axes)


@dataclasses.dataclass(frozen=True, repr=False)
class WangInit(SmallInit):
    """See `wang_init`."""

    num_layers: int = 0  # no depth: it must be given
    factory: ClassVar[str] = "wang_init"

    def __post_init__(self) -> None:
        super().__post_init__()
        count(self.num_layers, "num_layers")

    def stddev(self, width: int) -> float:
        return 2 / (self.num_layers * math.sqrt(width))


@register(
    "N(0, (2 / (L sqrt(d)))^2), L layers of width d",
    "Wang & Komatsuzaki 2021 (GPT-J); GPT-NeoX, wang_init_method",
    "the last projections of a transformer's residual branches, beside small_init; num_layers=L",
    example="wang_init(num_layers=12)",
)
def wang_init(
    num_layers: int,
    width: int | None = None,
    *,
    dtype: DTypeLike | None = None,
    **axes: Unpack[AxisArguments],
) -> WangInit:
    """w ~ N(0, (2 / (L sqrt d))^2), for the output projections of attention and perceptron.

    Args:
      num_layers: L, the blocks of the transformer.
      width: d, as in `small_init`.
      dtype: dtype of the weights where the call names none.
      **axes: in_axis, out_axis and batch_axis, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): no number of layers, or one below 1.
    """
    return WangInit(width, dtype, num_layers, **axes)


_PARTS = ("encoder", "decoder", "encoder_embedding", "decoder_embedding")


def t_fixup_scale(num_layers: int, part: str = "encoder") -> float:
    """T-Fixup's factor: .67 N^(-1/4) in the encoder, else (9 N)^(-1/4).

    Huang, Perez, Ba & Volkovs 2020, Improving transformer optimization through better
    initialization (ICML), for transformers without layer normalization and warm-up.

    Args:
      num_layers: N, the layers of the encoder, or of the decoder.
      part: "encoder" or "decoder", for the weights of the perceptron and of attention's value and
        output projections, cross-attention's too; "encoder_embedding", "decoder_embedding".

    Raises:
      UserError (a ValueError): a count below 1, an unknown part.

    >>> round(t_fixup_scale(6), 6), round(t_fixup_scale(6, "decoder"), 6)
    (0.428092, 0.368894)
    """
    num_layers = count(num_layers, "num_layers")
    if one_of(part, _PARTS, "part") == "encoder":
        return 0.67 * num_layers**-0.25
    return (9 * num_layers) ** -0.25


@register(
    "glorot_uniform * .67 N^(-1/4), in decoders (9 N)^(-1/4)",
    "Huang et al. 2020 (T-Fixup), ICML",
    "perceptron, value and output projections, embeddings of transformers without layer"
    " normalization; num_layers=N; the others start by glorot_uniform",
    example="t_fixup(num_layers=6)",
)
def t_fixup(
    num_layers: int,
    part: str = "encoder",
    *,
    dtype: DTypeLike | None = None,
    **fan: Unpack[FanArguments],
) -> VarianceScaling:
    """Xavier's uniform weights times `t_fixup_scale`; embeddings are N(0, 1 / d) times it.

    Queries and keys keep Xavier's. Weights are drawn for a d x d matrix: where query, key and value
    are packed, say split=3.

    Args:
      num_layers: N, the layers of the encoder, or of the decoder.
      part: as in `t_fixup_scale`. An embedding is (vocabulary, d).
      dtype: dtype of the weights where the call names none.
      **fan: in_axis, out_axis, batch_axis, groups, transposed, split, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): no number of layers; as `t_fixup_scale`.
    """
    variance = t_fixup_scale(num_layers, part) ** 2
    if part.endswith("embedding"):
        fan = FanArguments(in_axis=-1, out_axis=-2) | fan
        return VarianceScaling(variance, "fan_in", Normal(), dtype=dtype, **fan)
    return VarianceScaling(variance, "fan_avg", Uniform(), dtype=dtype, **fan)


def deepnorm_encoder_decoder(
    num_encoder_layers: int, num_decoder_layers: int
) -> tuple[DeepNorm, DeepNorm]:
    """DeepNorm's constants of a transformer that has both: (of the encoder, of the decoder).

        encoder: alpha = .81 (N^4 M)^(1/16),  beta = .87 (N^4 M)^(-1/16)
        decoder: alpha = (3 M)^(1/4),         beta = (12 M)^(-1/4)

    Wang et al. 2022, arXiv:2203.00555, table in figure 2. What they multiply: `deepnorm`.

    Args:
      num_encoder_layers: N.
      num_decoder_layers: M.

    Raises:
      UserError (a ValueError): a count below 1.

    >>> encoder, decoder = deepnorm_encoder_decoder(6, 6)
    >>> round(encoder.alpha, 6), round(decoder.beta, 6)
    (1.417938, 0.343295)
    """
    n = count(num_encoder_layers, "num_encoder_layers")
    m = count(num_decoder_layers, "num_decoder_layers")
    root = (n**4 * m) ** (1 / 16)
    return DeepNorm(0.81 * root, 0.87 / root), DeepNorm((3 * m) ** 0.25, (12 * m) ** -0.25)
