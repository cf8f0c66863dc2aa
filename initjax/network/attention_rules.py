"""Arrays of a transformer's block that are drawn together: mimetic attention, gated layers."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from initjax.initializers.layout import laid_out
from initjax.initializers.variance_scaling import variance_scaling
from initjax.network.joint_rules import JointRule, Part
from initjax.support.arguments import count, finite
from initjax.support.errors import UserError
from initjax.theory.gains import gain

_ATTENTION = ("query", "key", "value", "out")


@dataclasses.dataclass(frozen=True)
class MimeticAttention:
    """The weights of one attention layer; see `mimetic_attention`."""

    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    num_heads: int | None

    def __call__(
        self, key: jax.Array, parts: Mapping[str, Part], dtype: np.dtype
    ) -> dict[str, jax.Array]:
        missing = [role for role in _ATTENTION if role not in parts]
        if missing:
            raise UserError(f"there is no {' and no '.join(missing)}.")
        key_qk, key_vo = jax.random.split(key)
        width, heads, size = self._sizes(parts["query"])
        if size > width or heads * size > width:
            raise UserError(
                f"{heads} heads of {size} have more than rank {width}, the width of the layer."
            )
        eye = jnp.eye(width, dtype=dtype)
        (alpha, alpha_vo), (beta, beta_vo) = self.alphas, self.betas
        z = jax.random.normal(key_qk, (heads, width, width), dtype) / math.sqrt(width)
        left, right = _halves(alpha * z + beta * eye, size)
        z = jax.random.normal(key_vo, (width, width), dtype) / math.sqrt(width)
        value, out = _halves(alpha_vo * z - beta_vo * eye, heads * size)
        drawn = {
            "query": left.swapaxes(0, 1),
            "key": right.swapaxes(0, 1),
            "value": value.reshape(width, heads, size),
            "out": out.T.reshape(heads, size, width),
        }
        return {role: _laid_as(drawn[role], parts[role], role) for role in drawn}

    def _sizes(self, query: Part) -> tuple[int, int, int]:
        """(width, heads, size of a head)."""
        shape = query.shape
        if len(shape) == 3:
            return shape
        if self.num_heads is None or len(shape) != 2:
            raise UserError(f"a query of {shape} does not tell its heads: say num_heads.")
        width, both = reversed(shape) if _is_transposed(query) else shape
        if both % self.num_heads:
            raise UserError(f"num_heads={self.num_heads} does not divide {both}.")
        return width, self.num_heads, both // self.num_heads


def _halves(matrix, rank):
    """A, B [..., n, rank] with A B^T the part of rank `rank` of `matrix`, sharing its singular
    values."""
    u, s, vt = jnp.linalg.svd(matrix, full_matrices=False)
    root = jnp.sqrt(s[..., None, :rank])
    return u[..., :rank] * root, vt[..., :rank, :].swapaxes(-1, -2) * root


def _is_transposed(part: Part) -> bool:
    return part.layout is not None and part.layout.in_axis in ((1,), (-1,))


def _laid_as(w, part, role):
    if len(part.shape) == 3:
        return w
    w = w.reshape(-1, w.shape[-1]) if role == "out" else w.reshape(w.shape[0], -1)
    return w.T if _is_transposed(part) else w


def mimetic_attention(
    *,
    alphas: tuple[float, float] = (0.7, 0.4),
    betas: tuple[float, float] = (0.7, 0.4),
    num_heads: int | None = None,
    names: Mapping[str, str] | None = None,
    stacked: bool = False,
) -> JointRule:
    """Self-attention whose products look as if trained: a rule that sets four kernels together.

        W_q W_k^T ~ alpha_1 Z + beta_1 I of each head,    W_v W_o ~ alpha_2 Z - beta_2 I,

    Z ~ N(0, 1/d). By singular values U S V^T a head of size k gets W_q = U_k S_k^(1/2) and
    W_k = V_k S_k^(1/2), value and output projection those of the second matrix (Trockman & Kolter
    2023, Mimetic initialization of self-attention layers, arXiv:2305.09828). For vision
    transformers from scratch, with sinusoidal position embeddings; biases are left to other rules.

    Args:
      alphas: (alpha_1, alpha_2), shares of noise.
      betas: (beta_1, beta_2), shares of the identity.
      num_heads: where kernels are (d, heads * size) and not (d, heads, size), as in Flax.
      names: {role: layer} where the layers have other names than "query", "key", "value", "out".
      stacked: whether the first axis of the kernels stacks layers.

    Raises:
      UserError (a ValueError): an argument that is no number. When it is used, kernels that do not
        tell their heads, or more heads than their width has room for.
    """
    for name, pair in (("alphas", alphas), ("betas", betas)):
        if len(pair) != 2 or any(finite(value, name) is None for value in pair):
            raise UserError(f"{name}={pair!r} is no pair of numbers.")
    if num_heads is not None:
        count(num_heads, "num_heads")
    names = {role: role for role in _ATTENTION} | dict(names or {})
    patterns = {role: rf"(?<![^/]){name}/(kernel|weight)$" for role, name in names.items()}
    return JointRule(patterns, MimeticAttention(tuple(alphas), tuple(betas), num_heads), stacked)


@dataclasses.dataclass(frozen=True)
class GatedPair:
    """The two kernels of a gated layer; see `gated_linear_unit`."""

    activation: str | Callable[..., Any]

    def __call__(
        self, key: jax.Array, parts: Mapping[str, Part], dtype: np.dtype
    ) -> dict[str, jax.Array]:
        keys = jax.random.split(key)
        scales = {"gate": 1.0, "up": gain(self.activation) ** 2}
        return {
            role: laid_out(variance_scaling(scales[role]), parts[role].known_layout())(
                key_of, parts[role].shape, dtype
            )
            for key_of, role in zip(keys, ("gate", "up"), strict=True)
            if role in parts
        }


def gated_linear_unit(
    activation: str | Callable[..., Any] = "silu",
    *,
    names: Mapping[str, str] | None = None,
    stacked: bool = False,
) -> JointRule:
    """A gated layer phi(W x) * (V x) whose product has the mean square of x.

    Var(W) = 1 / fan_in and Var(V) = gain(phi)^2 / fan_in, as E[phi(g)^2 u^2] = E[phi(g)^2] E[u^2]
    for the independent g and u; with LeCun's for both SwiGLU loses 64 % of it. For GLU, GEGLU and
    SwiGLU (Shazeer 2020, arXiv:2002.05202). The rule is ours.

    Args:
      activation: phi, a name or an elementwise function of JAX arrays.
      names: {role: layer} where the layers have other names than "gate" and "up".
      stacked: whether the first axis of the kernels stacks layers.

    Raises:
      UserError (a ValueError): as `initjax.gain`.
    """
    gain(activation)
    names = {"gate": "gate", "up": "up"} | dict(names or {})
    patterns = {role: rf"(?<![^/]){name}/(kernel|weight)$" for role, name in names.items()}
    return JointRule(patterns, GatedPair(activation), stacked)
