"""Low-rank adapters of a trained network: W = W0 + s A B, of which A and B are trained.

    frozen, adapters = create_adapters(params, "pissa", rank=8, key=key)
    logits = model.apply({"params": merge_adapters(frozen, adapters)}, x)

W is (in, out), A (in, rank), B (rank, out); other libraries, whose weights are (out, in), write
W0 + s B A. A method says how A and B begin, and what is taken from W0 so that the network begins as
it was, or near it; it registers itself in a file of its own.
"""

import abc
import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from initjax.initializers.layout import Layout
from initjax.network.conventions import conventional_layout
from initjax.network.paths import get_owner, named_leaves, path_key
from initjax.network.rules import compile_pattern
from initjax.support.arguments import count, positive
from initjax.support.dtypes import wide_dtype
from initjax.support.errors import UserError
from initjax.support.naming import Call, Registry

METHODS = Registry("method of adapters")
_Method = TypeVar("_Method", bound="type[AdapterStart]")


def register(name: str) -> Callable[[_Method], _Method]:
    """Decorator: lets `create_adapters` use a method by its name."""

    def add(method: _Method) -> _Method:
        METHODS.add(name, method)
        return method

    return add


@functools.partial(jax.tree_util.register_dataclass, data_fields=["a", "b"], meta_fields=["scale"])
@dataclasses.dataclass(frozen=True)
class Adapter:
    """What is trained of one leaf: a tree of A and B.

    Attributes:
      a: (in, rank).
      b: (rank, out).
      scale: s, of their product; not a leaf, so that no optimizer moves it.
    """

    a: jax.Array
    b: jax.Array
    scale: float

    @property
    def change(self) -> jax.Array:
        """s A B."""
        return self.scale * (self.a @ self.b)


@dataclasses.dataclass(frozen=True)
class AdapterStart(abc.ABC):
    """Base: how A and B of one leaf begin.

    Attributes:
      rank: r, of A and B.
      alpha: s = alpha / r; None: alpha = r.
    """

    rank: int = 8
    alpha: float | None = None

    def __post_init__(self) -> None:
        count(self.rank, "rank")
        if self.alpha is not None:
            positive(self.alpha, "alpha")

    @property
    def scale(self) -> float:
        """s."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    @abc.abstractmethod
    def begin(
        self, key: jax.Array, w: jax.Array, gradient: jax.Array | None, inputs: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(A, B, what stays frozen) of a matrix (in, out); `w` itself where all of it does."""


def check_inputs(method: str, inputs: jax.Array | None, w: jax.Array, least: int) -> jax.Array:
    """The inputs [samples, in] of a layer.

    Raises:
      UserError (a ValueError): none, of another width, or fewer samples than `least`.
    """
    if inputs is None:
        raise UserError(
            f"{method} needs the inputs of each layer:\ninputs="
            "initjax.network.layer_inputs(model, variables, x)."
        )
    x = jnp.asarray(inputs, w.dtype)
    if x.ndim != 2 or x.shape[1] != w.shape[0] or len(x) < least:
        raise UserError(
            f"inputs of {x.shape} are not [samples, {w.shape[0]}], with {least} samples or more."
        )
    return x


def create_adapters(
    params: Any,
    method: str,
    *,
    key: jax.Array,
    pattern: str = "kernel$",
    gradients: Any = None,
    inputs: Mapping[str, Any] | None = None,
    layouts: Mapping[str, Layout] | None = None,
    **options: Any,
) -> tuple[Any, dict[str, Adapter]]:
    """Adapters of a trained network's kernels, and what stays frozen beside them.

    Args:
      params: the trained parameters, such as those of `from_checkpoint` or `load_run`.
      method: "lora", "rslora", "pissa", "olora", "lora_ga", "eva", "corda" or "loftq".
      key: a PRNG key; that of a leaf is folded from its path.
      pattern: a regular expression on the paths of the leaves that are adapted.
      gradients: a tree like `params` of the loss's gradients on a batch, for "lora_ga".
      inputs: {path: [samples, in]} of a batch, from `layer_inputs`, for "eva" and "corda".
      layouts: what `find_layouts` found, for leaves of more than two axes, whose inputs and outputs
        then count as one axis each.
      **options: of the method: `rank`, `alpha`, and its own.

    Returns:
      (frozen, {path: `Adapter`}): W0, less what the adapters begin with, in the tree's own dtypes;
      the adapters in float32 or more. Of "loftq" the first are quantized weights.

    Raises:
      UserError (a ValueError): a method or option that is none, no leaf that matches, a leaf whose
        axes are not known or of fewer than `rank` inputs or outputs, no gradients or inputs.

    >>> params = {"Dense_0": {"kernel": jnp.ones((6, 4)), "bias": jnp.zeros(4)}}
    >>> frozen, adapters = create_adapters(params, "lora", key=jax.random.key(0), rank=2)
    >>> adapters["Dense_0/kernel"].a.shape, bool((merge_adapters(frozen, adapters)["Dense_0"][
    ...     "kernel"] == 1).all())
    ((6, 2), True)
    """
    start = METHODS.bind(Call(method, (), tuple(options.items())))
    compile_pattern(pattern)
    by_path = {} if gradients is None else dict(named_leaves(gradients))
    keys = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    frozen, adapters = [], {}
    for at, (path, leaf) in zip(keys, named_leaves(params), strict=True):
        if not re.search(pattern, path):
            frozen.append(leaf)
            continue
        layout = (layouts or {}).get(path)
        matrix = Matrix(path, np.shape(leaf), layout, get_owner(params, at))
        w = matrix.of(leaf)
        if start.rank > min(w.shape):
            raise UserError(f"{path}: rank={start.rank} is more than {w.shape} has.")
        gradient = matrix.of(by_path[path]) if path in by_path else None
        try:
            a, b, kept = start.begin(path_key(key, path), w, gradient, (inputs or {}).get(path))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        adapters[path] = Adapter(a, b, start.scale)
        frozen.append(leaf if kept is w else matrix.back(kept).astype(leaf.dtype))
    if not adapters:
        shown = ", ".join(path for path, _ in named_leaves(params)[:8])
        raise UserError(f"pattern={pattern!r} matches no leaf. There are: {shown or 'none'}.")
    return jax.tree.unflatten(jax.tree.structure(params), frozen), adapters


def merge_adapters(
    frozen: Any,
    adapters: Mapping[str, Adapter],
    layouts: Mapping[str, Layout] | None = None,
) -> Any:
    """The network's parameters: W0 + s A B. Differentiable, in the adapters and in `frozen`."""
    keys = [path for path, _ in jax.tree_util.tree_leaves_with_path(frozen)]
    merged = []
    for at, (path, leaf) in zip(keys, named_leaves(frozen), strict=True):
        if path in adapters:
            layout = (layouts or {}).get(path)
            matrix = Matrix(path, np.shape(leaf), layout, get_owner(frozen, at))
            leaf = matrix.back(matrix.of(leaf) + adapters[path].change).astype(leaf.dtype)
        merged.append(leaf)
    return jax.tree.unflatten(jax.tree.structure(frozen), merged)


class Matrix:
    """A leaf as a matrix (in, out), positions of a kernel among the inputs; and back.

    Attributes:
      positions: of a convolution's window; 0 of other layers.
      inputs: at one position.
      outputs: of all.
      shape: of the matrix.
    """

    def __init__(self, path: str, shape: tuple[int, ...], layout: Layout | None, owner: Any):
        layout = layout or conventional_layout(path, shape, owner)
        if layout is None or len(shape) < 2:
            raise UserError(
                f"{path}, shape {shape}: which axes are inputs is not known.\nGive"
                " layouts=initjax.find_layouts(model, params, x), or another pattern."
            )
        stacked, positions, inputs, outputs = layout.roles(shape)
        if stacked:
            raise UserError(f"{path}, shape {shape}: stacked layers have an adapter each, not one.")
        self._order = (*positions, *inputs, *outputs)
        self._ordered = [shape[i] for i in self._order]
        self.positions: int = math.prod(shape[i] for i in positions) if positions else 0
        self.inputs: int = math.prod(shape[i] for i in inputs)
        self.outputs: int = math.prod(shape[i] for i in outputs)
        self.shape: tuple[int, int] = (max(self.positions, 1) * self.inputs, self.outputs)

    def of(self, leaf: jax.Array) -> jax.Array:
        """The matrix, in float32 or more."""
        wide = wide_dtype(jnp.result_type(leaf))
        return jnp.asarray(leaf, wide).transpose(self._order).reshape(self.shape)

    def back(self, matrix: jax.Array) -> jax.Array:
        """The leaf."""
        return matrix.reshape(self._ordered).transpose(np.argsort(self._order))
