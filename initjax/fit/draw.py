"""A fit is an initializer: weights drawn from what a fit file holds."""

import math
import os
import re
import warnings
from typing import Any

import numpy as np
from jax.typing import DTypeLike

from initjax.distributions.base import Distribution
from initjax.distributions.empirical import Empirical
from initjax.distributions.power_law import SymmetricPowerLaw
from initjax.distributions.symmetric import Symmetric
from initjax.distributions.with_zeros import WithZeros
from initjax.fit.file import load
from initjax.fit.findings import Analysis, Findings, Layer
from initjax.initializers.variance_scaling import VarianceScaling
from initjax.network.paths import named_leaves
from initjax.network.rules import Rule
from initjax.support.arguments import positive
from initjax.support.errors import UserError
from initjax.support.text import printable

# Weights whose squares float32, in which they are drawn, can add up.
_LEAST, _LARGEST = 1e-18, 1e18


def from_fit(
    path: str | os.PathLike[str],
    layer: str,
    *,
    law: str = "best",
    scale: float | str = 2.0,
    mode: str = "fan_in",
    zeros: bool = False,
    dtype: DTypeLike | None = None,
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
      scale: variance times n; "fitted" takes that of the fitted weights: var(w) * fan_in for
        law="empirical", which has their mean, and E[w^2] * fan_in for the others, whose mean is 0.
      mode: which n: "fan_in", "fan_out", "fan_avg", "fan_geo_avg".
      zeros: draw as many zeros as the weights had: laws are those of the others, but "empirical",
        which has them anyway.
      dtype: dtype of the weights where the call names none.

    Returns:
      A variance-scaling initializer over the law.

    Raises:
      UserError (a ValueError): no such file, layer or law; a damaged file; or a law that has no
        variance, or one beyond the range of float32.

    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from initjax import weights
    >>> from initjax.fit.checkpoint import analyze_checkpoint
    >>> from initjax.fit.file import save
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> trained = np.random.default_rng(0).laplace(scale=0.02, size=(80, 50))
    >>> np.savez(folder / "weights.npz", kernel=trained)
    >>> found = analyze_checkpoint(weights.read(str(folder / "weights.npz")), bootstraps=0)
    >>> save(found, folder / "fit.json")
    >>> from_fit(folder, "kernel", law="laplace").distribution
    Laplace()
    """
    found = load(path)
    return initializer_of(
        _layer(found, layer, path), layer, law=law, scale=scale, mode=mode, zeros=zeros, dtype=dtype
    )


def initializer_of(
    chosen: Analysis,
    layer: str,
    *,
    law: str = "best",
    scale: float | str = 2.0,
    mode: str = "fan_in",
    zeros: bool = False,
    dtype: DTypeLike | None = None,
) -> VarianceScaling:
    """`from_fit` of a layer of the findings; `layer` is what messages call it."""
    if scale == "fitted":
        if not (isinstance(chosen, Layer) and chosen.fan_in):
            raise UserError(f"{layer!r} has no fan_in; give scale as a number.")
        rms = math.hypot(chosen.sd, chosen.mean)
        if not _LEAST <= rms <= _LARGEST:
            raise UserError(f"{layer!r} has the scale {rms:.3g}; give scale as a number.")
        scale = chosen.fan_in * rms**2
    else:
        scale = positive(scale, "scale")
    distribution = distribution_of(chosen, law)
    if law != "empirical" and chosen.sides and chosen.sides.is_one_sided:
        warnings.warn(
            f"{printable(getattr(chosen, 'path', 'The pool'))} has {chosen.sides.negative} weights"
            f" below 0 and {chosen.sides.positive} above; {distribution} is symmetric. Take"
            " law='empirical'.",
            stacklevel=2,
        )
    if zeros and isinstance(distribution, Symmetric) and chosen.zeros:
        share = chosen.zeros / max(chosen.size, 1)
        distribution = WithZeros(distribution, share)  # an error, if a changed file has only zeros
    return VarianceScaling(scale, mode, distribution, dtype=dtype, normalize="empirical")


def _layer(found: Findings, pattern, path) -> Analysis:
    if pattern == "pool":
        return found.pool
    try:
        matches = [layer for layer in found.layers if re.search(pattern, layer.path)]
    except re.error as error:
        raise UserError(f"layer={pattern!r} is not a regular expression: {error}.") from None
    if not matches:
        shown = ", ".join(printable(layer.path) for layer in found.layers[:8])
        raise UserError(f"{path} has no layer {pattern!r}. It has: {shown}, ...")
    return matches[0]


def distribution_of(found: Analysis, law: str = "best") -> Distribution:
    """The unit-free law of a layer of a fit file; arguments and errors as in `from_fit`."""
    name = {"best": found.best, "nspl": "truncated_power_law"}.get(law, law)
    if law != "empirical" and name not in found.laws:
        known = ", ".join(["best", "nspl", "empirical", *found.laws])
        raise UserError(f"law={law!r} was not fitted. Known: {known}.")
    what = f"The {name} of {printable(getattr(found, 'path', 'the pool'))}"
    # What a file says that was changed by hand may be out of any law's range.
    with np.errstate(all="ignore"):
        try:
            distribution = _make(found, law, name)
            std = distribution.std
        except (ValueError, ArithmeticError, LookupError) as error:
            raise UserError(f"{what} cannot be made: {error}") from None
        hint = "" if law == "empirical" else " Take law='empirical'."
        if not math.isfinite(std):
            raise UserError(f"{what} has no finite variance: {distribution}.{hint}")
        p = np.float32([0.25, 0.75, 2.0**-27, 1 - 2.0**-24])  # quartiles, and the least and largest
        sizes = np.abs(np.asarray(distribution.icdf(p)))
    typical = std if law == "empirical" else sizes[:2].max()  # most trained weights may be 0
    if not (sizes.max() < _LARGEST and typical > _LEAST):
        raise UserError(f"{what} has no scale that float32 can hold: {distribution!r:.200}.{hint}")
    return distribution


def _make(found, law, name) -> Distribution:
    if law == "empirical":
        return Empirical(found.quantiles)
    fitted = found.laws[name]
    if law == "nspl":
        return SymmetricPowerLaw(fitted.parameters["alpha"], fitted.support[1] / fitted.support[0])
    return fitted.family(name).make(fitted.support, fitted.parameters)


def rules_from_fit(
    path: str | os.PathLike[str],
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
    if not found.layers:
        raise UserError(f"{path} has no layers.")
    return [
        Rule(f"^{re.escape(name)}$", initializer_of(layer, layer.path, law=law, scale=scale))
        for name, layer in layers_for(found, params, pattern)
    ]


def layers_for(found: Findings, params: Any, pattern: str) -> list[tuple[str, Layer]]:
    """[(path of a leaf, the fitted layer at its relative depth)]; see `rules_from_fit`."""
    leaves = named_leaves(params)
    chosen = [(name, leaf.shape) for name, leaf in leaves if re.search(pattern, name)]
    if not chosen:
        shown = ", ".join(name for name, _ in leaves[:8])
        raise UserError(f"pattern={pattern!r} matches no leaf. There are: {shown or 'none'}.")
    fitted = [layer for layer in found.layers if len(layer.shape) > 1] or found.layers
    pairs = []
    for kind in (True, False):
        new = [name for name, shape in chosen if (math.prod(shape[:-2]) > 1) == kind]
        old = [layer for layer in fitted if _is_spatial(layer) == kind] or fitted
        for i, name in enumerate(new):
            pairs.append((name, old[_same_depth(i, len(new), len(old))]))
    return pairs


def _is_spatial(layer: Layer) -> bool:
    if layer.axes:
        sizes = zip(layer.axes, layer.shape, strict=True)
        return any(axis in "hwd" and size > 1 for axis, size in sizes)
    return math.prod(layer.shape[:-2] if layer.layout == "flax" else layer.shape[2:]) > 1


def _same_depth(index: int, new: int, old: int) -> int:
    return round(index * (old - 1) / (new - 1)) if new > 1 else 0
