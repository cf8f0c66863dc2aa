"""What every layer multiplies its kernel by, as a matrix: what adapters from data need."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from initjax.initializers.layout import Layout
from initjax.network.adapters import Matrix
from initjax.network.rules import compile_pattern
from initjax.support.errors import UserError


def layer_inputs(
    model: Any,
    variables: Any,
    x: Any,
    *,
    pattern: str = "kernel$",
    layouts: Mapping[str, Layout] | None = None,
    **apply_kwargs: Any,
) -> dict[str, jax.Array]:
    """{path of a kernel: X [samples, in]} with X W what the layer puts out, before its bias.

    Samples are a batch's examples, times the positions of sequences and images; the inputs of a
    convolution are its patches. A layer is linear in its kernel, and so a kernel of ones and zeros
    makes it put out what it sees.

    Args:
      model: a Flax Linen or NNX module, as in `initjax.network.taps.record`.
      variables: its variables.
      x: a batch.
      pattern: a regular expression on the paths of kernels.
      layouts: as in `create_adapters`.
      **apply_kwargs: as in `initjax.network.taps.record`.

    Raises:
      UserError (a ValueError): no kernel that matches, a convolution in groups, whose outputs see
        different inputs, or what `record` raises.
    """
    from initjax.network.taps import record_calls  # which needs flax

    compile_pattern(pattern)
    _, calls = record_calls(model, variables, x, **apply_kwargs)
    found: dict[str, list[jax.Array]] = {}
    for call in calls:
        path = f"{call.path}/kernel".lstrip("/")
        if not re.search(pattern, path) or call.inputs is None:
            continue
        shape = call.kernel.shape
        matrix = Matrix(path, shape, (layouts or {}).get(path), None)
        if matrix.positions and call.inputs.shape[-1] != matrix.inputs:
            raise UserError(f"{path}, shape {shape}: groups see different inputs; leave it out.")
        rows, columns = matrix.shape
        bias = None if call.bias is None else jnp.zeros_like(call.bias)
        parts = []
        for first in range(0, rows, columns):
            shown = matrix.back(jnp.eye(rows, columns, k=-first)).astype(call.kernel.dtype)
            z = call.replay(shown, bias, call.inputs).reshape(-1, columns)
            parts.append(jnp.asarray(z[:, : rows - first], jnp.float32))
        found.setdefault(path, []).append(jnp.concatenate(parts, 1))
    if not found:
        raise UserError(f"pattern={pattern!r} matches no kernel of a layer.")
    return {path: jnp.concatenate(values) for path, values in found.items()}
