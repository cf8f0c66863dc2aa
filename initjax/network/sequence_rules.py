"""Arrays of a recurrent or state space layer that are drawn together."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from initjax.initializers.constant import ones
from initjax.initializers.lru import LRUNuLog
from initjax.initializers.mamba import mamba_a_log, mamba_step_bias
from initjax.initializers.recurrent import Chrono
from initjax.initializers.torch_default import torch_default
from initjax.network.joint_rules import JointRule, Part
from initjax.network.rules import Rule
from initjax.support.arguments import count


@dataclasses.dataclass(frozen=True)
class ChronoPair:
    """The biases of one cell's two gates; see `chrono_rule`."""

    chrono: Chrono

    def __call__(
        self, key: jax.Array, parts: Mapping[str, Part], dtype: np.dtype
    ) -> dict[str, jax.Array]:
        shape = next(iter(parts.values())).shape
        drawn = self.chrono.build_gates(key, shape, dtype)
        return {role: drawn[role[0]] for role in parts}


def chrono_rule(max_time: float, *, stacked: bool = False) -> JointRule:
    """The forget and input biases of Flax's LSTM cells, b_f = ln U(1, T - 1) and b_i = -b_f.

    As `initjax.chrono`, where each gate has a bias of its own ("hf/bias", "hi/bias"): the two
    belong to one draw.

    Args:
      max_time: T, the range of the dependencies, above 2.
      stacked: whether the first axis of the biases stacks layers.

    Raises:
      UserError (a ValueError): a time of 2 or less.
    """
    init = ChronoPair(Chrono(max_time=max_time))
    return JointRule({"forget": "(?<![^/])hf/bias$", "input": "(?<![^/])hi/bias$"}, init, stacked)


@dataclasses.dataclass(frozen=True)
class LRURing:
    """The decay and the input's gamma of one layer; see `lru_rule`."""

    nu_log: LRUNuLog

    def __call__(
        self, key: jax.Array, parts: Mapping[str, Part], dtype: np.dtype
    ) -> dict[str, jax.Array]:
        nu_log = self.nu_log.build(key, next(iter(parts.values())).shape, dtype)
        # ln sqrt(1 - |lambda|^2), exact near |lambda| = 1.
        gamma_log = 0.5 * jnp.log(-jnp.expm1(-2 * jnp.exp(nu_log)))
        drawn = {"nu_log": nu_log, "gamma_log": gamma_log, "gamma": jnp.exp(gamma_log)}
        return {role: drawn[role] for role in parts}


def lru_rule(low: float = 0.9, high: float = 0.999, *, stacked: bool = False) -> JointRule:
    """The decay nu_log of an LRU and gamma = sqrt(1 - |lambda|^2), or gamma_log, from one draw.

    gamma keeps the state's variance at that of its input (Orvieto et al. 2023, arXiv:2303.06349).
    The phase theta_log is `initjax.lru_theta_log`.

    Args:
      low, high: the range of |lambda|, in [0, 1].
      stacked: whether the first axis of the arrays stacks layers.

    Raises:
      UserError (a ValueError): other than 0 <= low < high <= 1.
    """
    names = ("nu_log", "gamma_log", "gamma")
    patterns = {name: f"(?<![^/]){name}$" for name in names}
    return JointRule(patterns, LRURing(LRUNuLog(low, high)), stacked)


def mamba_rules(num_layers: int) -> list[Rule]:
    """The rules of a Mamba block, for leaves that are named as in state-spaces/mamba.

    A_log = ln(1 ... N); dt_proj: kernel U(+-dt_rank^(-1/2)), bias softplus^-1(dt), dt log-uniform
    on [.001, .1]; D = 1; out_proj: PyTorch's over sqrt(L). The others start as PyTorch's
    (`initjax.torch_rules` behind these).

    Args:
      num_layers: L.

    Raises:
      UserError (a ValueError): a count below 1.
    """
    torch = torch_default()
    last = dataclasses.replace(torch, scale=torch.scale / count(num_layers, "num_layers"))
    return [
        Rule("(?<![^/])A_log$", mamba_a_log()),
        Rule("dt_proj/kernel$", torch),
        Rule("dt_proj/bias$", mamba_step_bias()),
        Rule("(?<![^/])D$", ones),
        Rule("out_proj/kernel$", last),
    ]
