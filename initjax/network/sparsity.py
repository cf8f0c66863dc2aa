"""Which weights of a sparse network are kept: Erdos-Renyi kernels."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from initjax.network.paths import named_leaves, path_key
from initjax.support.arguments import finite
from initjax.support.errors import UserError


def erk_densities(params: Any, density: float) -> dict[str, float]:
    """The share of weights that each kernel keeps, {path: share}, by Erdos-Renyi-Kernel.

    density_l ~ (in + out + height + width) / (in out height width), at most 1, with the factor for
    which all kernels together keep `density` of their weights: small layers stay dense, large ones
    become sparse (Mocanu et al. 2018; Evci et al. 2020, Rigging the lottery, arXiv:1911.11134).
    Counts are whole: the total is that of `density` to within half a weight.

    Args:
      params: any tree of arrays, or of their shapes. Leaves of less than two axes stay dense and do
        not count.
      density: the share that is kept, in (0, 1].

    Raises:
      UserError (a ValueError): a density out of its range, or no kernel.

    >>> shapes = {"a": jnp.zeros((100, 10)), "b": jnp.zeros((100, 1000))}
    >>> {path: round(share, 3) for path, share in erk_densities(shapes, 0.1).items()}
    {'a': 0.918, 'b': 0.092}
    """
    counts = _counts(params, density)
    shapes = dict(named_leaves(params))
    return {path: kept / math.prod(np.shape(shapes[path])) for path, kept in counts.items()}


def erk_masks(params: Any, density: float, key: jax.Array) -> Any:
    """Masks of bools like `params`, with the densities of `erk_densities`, drawn at random.

    Multiply weights and gradients by them; what is kept of a layer has its variance times its
    density, which He's rule would make up for by 1 / density (Evci et al. 2022, arXiv:2010.03533).

    Args:
      params: as in `erk_densities`.
      density: as in `erk_densities`.
      key: a PRNG key; each leaf's own is folded from its path.

    Raises:
      UserError (a ValueError): as `erk_densities`.
    """
    counts = _counts(params, density)
    masks = []
    for path, leaf in named_leaves(params):
        shape = np.shape(leaf)
        if path not in counts:
            masks.append(jnp.ones(shape, bool))
            continue
        order = jax.random.permutation(path_key(key, path), math.prod(shape))
        masks.append((order < counts[path]).reshape(shape))
    return jax.tree.unflatten(jax.tree.structure(params), masks)


def _counts(params, density) -> dict[str, int]:
    """How many weights each kernel keeps."""
    density = finite(density, "density")
    if not 0 < density <= 1:
        raise UserError(f"density={density} must lie in (0, 1].")
    shapes = {path: np.shape(leaf) for path, leaf in named_leaves(params)}
    shapes = {path: shape for path, shape in shapes.items() if len(shape) > 1 and math.prod(shape)}
    if not shapes:
        raise UserError("There is no leaf of two axes or more.")
    sizes = np.array([math.prod(shape) for shape in shapes.values()])
    raw = np.array([sum(shape) for shape in shapes.values()]) / sizes
    total = round(density * int(sizes.sum()))
    dense = np.zeros(len(sizes), bool)
    while True:  # layers that would keep more than they have are dense, the rest share what is left
        rest = np.where(dense, 0, raw * sizes).sum()
        factor = (total - sizes[dense].sum()) / rest if rest else 0.0
        more = ~dense & (factor * raw > 1)
        if not more.any():
            break
        dense |= more
    exact = np.where(dense, sizes, factor * raw * sizes)
    kept = np.floor(exact).astype(int)
    for i in np.argsort(kept - exact)[: total - kept.sum()]:  # the largest remainders
        kept[i] += 1
    return dict(zip(shapes, kept.tolist(), strict=True))
