"""A fit is an initializer: weights drawn from what a fit file holds."""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax

from initjax.distributions.base import Distribution
from initjax.distributions.empirical import Empirical
from initjax.distributions.laws import LAWS
from initjax.distributions.power_law import SymmetricPowerLaw
from initjax.fit.file import load
from initjax.initializers.variance_scaling import VarianceScaling
from initjax.network.paths import path_name
from initjax.network.rules import Rule
from initjax.support.arguments import positive
from initjax.support.errors import UserError


def from_fit(
    path,
    layer: str,
    *,
    law: str = "best",
    scale: float | str = 2.0,
    mode: str = "fan_in",
    dtype=None,
) -> VarianceScaling:
    """An initializer that draws from the law that was found in a layer of trained weights.

    The law gives the shape of the distribution; the variance is scale / n, from the fans of the new
    layer, and exactly that in every layer (`normalize="empirical"`): laws with tails as heavy as
    trained weights' would else give layers of very different variances.

    Args:
      path: a fit file of `python -m initjax.fit`, or its directory.
      layer: a regular expression that is searched in the layers' paths: the first match is taken;
        or "pool", all layers together.
      law: "best", the law of least AIC; "nspl", the symmetric power law with the fitted alpha and
        ratio; "empirical", the quantiles of the weights; or the name of any law that was fitted.
      scale: variance times n; "fitted" takes that of the fitted weights, var(w) * fan_in.
      mode: which n: "fan_in", "fan_out", "fan_avg", "fan_geo_avg".
      dtype: dtype of the weights where the call names none.

    Returns:
      A variance-scaling initializer over the law.

    Raises:
      UserError (a ValueError): no such file, layer or law, or a law that has no variance.

    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from initjax import fit, weights
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> trained = np.random.default_rng(0).laplace(scale=0.02, size=(80, 50))
    >>> np.savez(folder / "weights.npz", kernel=trained)
    >>> found = fit.analyze_checkpoint(weights.read(str(folder / "weights.npz")), bootstraps=0)
    >>> save(found, folder / "fit.json")
    >>> from_fit(folder, "kernel", law="laplace").distribution
    Laplace()
    """
    found = load(path)
    chosen = _layer(found, layer, path)
    if scale == "fitted":
        if not chosen.get("fan_in"):
            raise UserError(f"{layer!r} has no fan_in; give scale as a number.")
        scale = chosen["fan_in"] * (chosen["sd"] ** 2 + chosen["mean"] ** 2)
    else:
        scale = positive(scale, "scale")
    distribution = distribution_of(chosen, law)
    return VarianceScaling(scale, mode, distribution, dtype=dtype, normalize="empirical")


def _layer(found, pattern, path):
    if pattern == "pool":
        return found["pool"]
    try:
        matches = [layer for layer in found["layers"] if re.search(pattern, layer["path"])]
    except re.error as error:
        raise UserError(f"layer={pattern!r} is not a regular expression: {error}.") from None
    if not matches:
        shown = ", ".join(layer["path"] for layer in found["layers"][:8])
        raise UserError(f"{path} has no layer {pattern!r}. It has: {shown}, ...")
    return matches[0]


def distribution_of(layer: dict, law: str = "best") -> Distribution:
    """The unit-free law of a layer of a fit file; arguments as in `from_fit`."""
    if law == "empirical":
        return Empirical(tuple(layer["quantiles"]))
    name = {"best": layer["best"], "nspl": "truncated_power_law"}.get(law, law)
    if name not in layer["laws"]:
        known = ", ".join(["best", "nspl", "empirical", *layer["laws"]])
        raise UserError(f"law={law!r} was not fitted. Known: {known}.")
    fitted = layer["laws"][name]
    parameters, support = fitted["parameters"], fitted["support"]
    if law == "nspl":
        return SymmetricPowerLaw(parameters["alpha"], support[1] / support[0])
    distribution = LAWS[name].make(support, parameters)
    if not math.isfinite(distribution.std):
        raise UserError(
            f"The {name} of {layer.get('path', 'the pool')} has no finite variance:"
            f" {distribution}. Take law='empirical'."
        )
    return distribution


def rules_from_fit(
    path,
    params: Any,
    *,
    law: str = "best",
    scale: float | str = 2.0,
    pattern: str = "kernel$",
) -> list[Rule]:
    """Rules that start another network, of any size, from the laws of a fitted one.

    Every leaf that `pattern` matches takes the law of the fitted layer at the same relative depth:
    among convolutions for a convolution of more than one position, among the others for the rest;
    among all where the fitted network has none of the kind.

    Args:
      path: a fit file, or its directory.
      params: the parameter tree that is to be initialized, or its shapes.
      law: as in `from_fit`.
      scale: as in `from_fit`.
      pattern: a regular expression on the leaves' paths.

    Returns:
      Rules for `initjax.reinitialize`, one a leaf.

    Raises:
      UserError (a ValueError): as `from_fit`, and where no leaf matches.
    """
    found = load(path)
    leaves = [(path_name(p), leaf) for p, leaf in jax.tree_util.tree_leaves_with_path(params)]
    chosen = [(name, leaf.shape) for name, leaf in leaves if re.search(pattern, name)]
    if not chosen:
        shown = ", ".join(name for name, _ in leaves[:8])
        raise UserError(f"pattern={pattern!r} matches no leaf. There are: {shown or 'none'}.")
    fitted = [layer for layer in found["layers"] if len(layer["shape"]) > 1] or found["layers"]
    if not fitted:
        raise UserError(f"{path} has no layers.")
    rules = []
    for kind in (True, False):
        new = [name for name, shape in chosen if (math.prod(shape[:-2]) > 1) == kind]
        old = [layer for layer in fitted if _is_spatial(layer) == kind] or fitted
        for i, name in enumerate(new):
            layer = old[_same_depth(i, len(new), len(old))]
            init = from_fit(path, f"^{re.escape(layer['path'])}$", law=law, scale=scale)
            rules.append(Rule(f"^{re.escape(name)}$", init))
    return rules


def _is_spatial(layer) -> bool:
    shape: Sequence[int] = layer["shape"]
    positions = shape[:-2] if layer["layout"] == "flax" else shape[2:]
    return math.prod(positions) > 1


def _same_depth(index: int, new: int, old: int) -> int:
    return round(index * (old - 1) / (new - 1)) if new > 1 else 0
