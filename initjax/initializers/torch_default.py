"""What PyTorch's layers do by themselves."""

import dataclasses
import math
from typing import ClassVar

import jax
import numpy as np
from jax.typing import DTypeLike

from initjax.distributions.uniform import Uniform
from initjax.initializers.base import Structured, register
from initjax.initializers.fans import Axes, gate_size
from initjax.initializers.variance_scaling import VarianceScaling
from initjax.support.arguments import count


@register(
    "U(-b, b), b = 1 / sqrt(fan_in)",
    "PyTorch, torch.nn.Linear and torch.nn.Conv2d",
    "to start as a PyTorch network does; no deep plain network, whose signal it loses: ReLU leaves"
    " 1/6 of the variance a layer",
)
def torch_default(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
    *,
    groups: int = 1,
    transposed: Axes | bool = False,
    split: int = 1,
) -> VarianceScaling:
    """w ~ U(-b, b), b = 1 / sqrt(fan_in): Var(w) = 1 / (3 fan_in), a third of LeCun's.

    PyTorch writes `kaiming_uniform_(a=sqrt(5))` for the kernels of `nn.Linear` and `nn.Conv*d`.
    Their biases have the same b, and so the fan of their kernel: `initjax.torch_rules` starts both.
    An `nn.Embedding` is `normal(1.0)`, attention's packed projection `glorot_uniform()`, an
    `nn.LSTM` or `nn.GRU` `torch_recurrent()`. A transposed convolution of PyTorch takes its outputs
    for inputs: in_axis=-1, out_axis=-2.

    Args:
      in_axis: axis or axes of the inputs.
      out_axis: axis or axes of the outputs.
      batch_axis: axis or axes that stack independent layers.
      dtype: dtype of the weights where the call names none.
      groups: groups of a convolution, as in `initjax.fans`.
      transposed: strides of a transposed convolution, as in `initjax.fans`.
      split: layers packed side by side along the outputs, as in `initjax.fans`.

    >>> round(torch_default().variance((300, 100)) * 300, 6)
    0.333333
    """
    axes = in_axis, out_axis, batch_axis
    packing = groups, transposed, split
    return VarianceScaling(1 / 3, "fan_in", Uniform(), *axes, dtype, "analytic", "iid", *packing)


@dataclasses.dataclass(frozen=True, repr=False)
class TorchRecurrent(Structured):
    """See `torch_recurrent`."""

    gates: int = 1
    dtype: DTypeLike | None = None
    factory: ClassVar[str] = "torch_recurrent"
    least_axes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        count(self.gates, "gates")

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        bound = math.sqrt(1 / gate_size(self.gates, shape))
        return jax.random.uniform(key, shape, dtype, -bound, bound)


@register(
    "U(-b, b), b = 1 / sqrt(hidden size)",
    "PyTorch, torch.nn.LSTM and torch.nn.GRU",
    "every kernel and bias of a recurrent cell that should start as PyTorch's; its forget gates are"
    " half open, which long memories do not survive: lstm_bias, chrono",
)
def torch_recurrent(gates: int = 1, *, dtype: DTypeLike | None = None) -> TorchRecurrent:
    """w ~ U(-b, b), b = 1 / sqrt(hidden size): all kernels and biases of PyTorch's LSTM and GRU.

    Args:
      gates: how many are packed along the last axis, of gates * hidden size: 4 of NNX's
        `OptimizedLSTMCell`, 3 of a GRU, 1 where each has an array of its own, as in Flax Linen.
      dtype: dtype of the weights where the call names none.

    Raises:
      UserError (a ValueError): gates that do not divide the last axis, when it is called.
    """
    return TorchRecurrent(gates, dtype)
