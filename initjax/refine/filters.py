"""Filters made of patches of the data: principal components, or centres of k-means."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from initjax.network.paths import get_layer, set_layer
from initjax.refine.calibration import inputs_of, split_batch
from initjax.refine.methods import register
from initjax.refine.network import Network
from initjax.refine.reports import Report, variance_report
from initjax.support.arguments import count

_RIDGE = 1e-3  # of the source: W = V (s + 1e-3)^(-1/2)
_MOST_PATCHES = 20_000


@register
def pca_filters(
    model: Any, params: Any, batch: Any, key: jax.Array, *, held_out: Any = None
) -> tuple[Any, Report]:
    """Principal components of the patches that a layer sees (Krähenbühl et al. 2016).

    In the order in which layers compute, each given the new ones before it: with the covariance
    V diag(s) V^T of a layer's patches [fan_in] (for dense layers, of its inputs), its filters are

        w_i = v_i (s_i + 1e-3)^(-1/2),

    those of the largest s_i first, divided by the standard deviation of what they put out; biases
    take the means away: every channel has mean 0 and variance 1. Channels beyond the directions
    that vary are random ones of the whitened patches, V (s + 1e-3)^(-1/2) u, |u| = 1.

    Grouped and transposed convolutions, layers of several axes and those that are constant keep
    their weights, and the report names them.

    Args:
      model: as in `consistency`.
      params: its parameters, of which the shapes matter.
      batch: as in `consistency`; a patch more than its size is needed for each direction.
      key: a PRNG key, for the patches that are taken (20,000 at most), the random directions, and
        dropout.
      held_out: as in `consistency`.

    Returns:
      (params, report), the report's objective being mean_l |Var(z_l) - 1|.

    Raises:
      UserError (a ValueError): a model without layers.
    """
    return _filtered("pca_filters", _principal, model, params, batch, key, held_out)


@register
def kmeans_filters(
    model: Any,
    params: Any,
    batch: Any,
    key: jax.Array,
    *,
    iterations: int = 10,
    held_out: Any = None,
) -> tuple[Any, Report]:
    """Centres of clusters of the patches that a layer sees (Coates & Ng 2012; Krähenbühl et al.).

    As `pca_filters`, but the filters are the centres c_i of k-means (Lloyd's, from patches drawn at
    random) on whitened patches, w_i = V diag(s + 1e-3)^(-1/2) V^T c_i (ZCA). A cluster that loses
    all its patches takes a random one.

    Args:
      model: as `pca_filters`.
      params: as `pca_filters`.
      batch: as `pca_filters`.
      key: as `pca_filters`.
      iterations: of Lloyd's algorithm.
      held_out: as `pca_filters`.

    Returns:
      As `pca_filters`.

    Raises:
      UserError (a ValueError): a model without layers; iterations below 1.
    """
    iterations = count(iterations, "iterations")

    def centres(patches, v, s, number, rng):
        white = patches @ v / np.sqrt(s + _RIDGE) @ v.T
        found = white[rng.choice(len(white), number, replace=len(white) < number)]
        for _ in range(iterations):
            distances = (found**2).sum(1) - 2 * white @ found.T
            nearest = distances.argmin(1)
            sizes = np.bincount(nearest, minlength=number)
            sums = np.zeros_like(found)
            np.add.at(sums, nearest, white)
            empty = sizes == 0
            found = sums / np.maximum(sizes, 1)[:, None]
            found[empty] = white[rng.choice(len(white), int(empty.sum()))]
        return v / np.sqrt(s + _RIDGE) @ v.T @ found.T

    return _filtered("kmeans_filters", centres, model, params, batch, key, held_out)


def _principal(patches, v, s, number, rng):
    directions = v / np.sqrt(s + _RIDGE)
    varying = int((s > 1e-10 * s.max()).sum())
    first = directions[:, : min(number, varying)]
    u = rng.standard_normal((varying, max(number - varying, 0)))
    u /= np.linalg.norm(u, axis=0)
    return np.concatenate([first, directions[:, :varying] @ u], 1)


def _filtered(name, make, model, params, batch, key, held_out):
    """Every layer's filters from make(patches, V, s, number, rng) -> [fan_in, number]."""
    calibration, held_out = map(inputs_of, split_batch(batch, held_out))
    network = Network(model, key)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    refined, left = params, []
    for path in network.shapes(params, calibration):
        call = network.calls(refined, calibration)[path]
        is_whole = jnp.shape(get_layer(refined, path)["kernel"]) == call.kernel.shape
        patches = _patches(call, rng) if is_whole else None  # not of a stack
        if patches is None:
            left.append(path or "the model")
            continue
        mean = patches.mean(0)
        centred = patches - mean
        s, v = np.linalg.eigh(centred.T @ centred / len(centred))
        s, v = np.maximum(s[::-1], 0), v[:, ::-1]
        if not s[0] > 0:
            left.append(path or "the model")
            continue
        kernel = call.kernel
        filters = make(centred, v, s, kernel.shape[-1], rng)
        sd = (centred @ filters).std(0)
        filters = filters / np.where(sd > 0, sd, 1)
        layer = dict(get_layer(refined, path))
        layer["kernel"] = jnp.asarray(filters.reshape(kernel.shape), kernel.dtype)
        if "bias" in layer:
            layer["bias"] = jnp.asarray(-mean @ filters, layer["bias"].dtype)
        refined = set_layer(refined, path, layer)
    notes = []
    if left:
        notes.append(f"{', '.join(left)}: no patches can be read, the weights were kept")
    return refined, variance_report(name, network, params, refined, calibration, held_out, notes)


def _patches(call, rng) -> np.ndarray | None:
    """What the filters of a layer are multiplied with, [rows, fan_in], read by the layer itself.

    A filter that is 1 in one place puts out what it sees there: whatever the strides and padding.
    """
    kernel, x = call.kernel, call.inputs
    *window, inputs, outputs = kernel.shape
    if x is None or x.shape[-1] != inputs or call.output.shape[-1] != outputs:
        return None  # in groups, or of several axes
    if len(window) != x.ndim - 2 and window:
        return None
    fan_in = math.prod(kernel.shape[:-1])
    bias = None if call.bias is None else jnp.zeros_like(call.bias)
    rows = math.prod(call.output.shape[:-1])
    if window and rows > x.shape[0] * math.prod(x.shape[1:-1]):
        return None  # transposed
    chosen = rng.permutation(rows)[:_MOST_PATCHES]
    parts = []
    for first in range(0, fan_in, outputs):
        places = np.eye(fan_in, dtype=np.float32)[:, first : first + outputs]
        places = np.pad(places, [(0, 0), (0, outputs - places.shape[1])])
        seen = call.replay(jnp.asarray(places.reshape(kernel.shape), kernel.dtype), bias, x)
        parts.append(np.asarray(seen.reshape(rows, outputs)[chosen], np.float64))
    patches = np.concatenate(parts, 1)[:, :fan_in]
    return patches if np.isfinite(patches).all() else None
