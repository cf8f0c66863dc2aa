"""Erdos-Renyi kernels: densities by shape, and exact totals."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax import erk_densities, erk_masks
from initjax.support.errors import UserError

SHAPES = {
    "conv1": {"kernel": (3, 3, 3, 16), "bias": (16,)},
    "conv2": {"kernel": (3, 3, 16, 32)},
    "conv3": {"kernel": (1, 1, 32, 67)},
    "head": {"kernel": (67, 10), "bias": (10,)},
}
TREE = jax.tree.map(jnp.zeros, SHAPES, is_leaf=lambda x: isinstance(x, tuple))
KERNELS = {f"{layer}/kernel": leaves["kernel"] for layer, leaves in SHAPES.items()}


@pytest.mark.parametrize("density", [0.01, 0.1, 0.3, 0.8, 1.0])
def test_densities(density):
    found = erk_densities(TREE, density)
    assert set(found) == set(KERNELS)
    kept = sum(found[path] * math.prod(shape) for path, shape in KERNELS.items())
    assert abs(kept - density * sum(map(math.prod, KERNELS.values()))) <= 1
    factors = {path: found[path] * math.prod(shape) / sum(shape) for path, shape in KERNELS.items()}
    sparse = [path for path in found if found[path] < 1]
    for path in sparse:  # one factor, but for rounding to whole weights
        rounding = 1 / sum(KERNELS[path])
        assert abs(factors[path] - factors[sparse[0]]) <= rounding + 1 / sum(KERNELS[sparse[0]])
    for path in set(found) - set(sparse):  # dense ones would have more
        assert not sparse or factors[path] <= max(factors[p] for p in sparse) + 0.05


@pytest.mark.slow
def test_masks():
    masks = erk_masks(TREE, 0.1, jax.random.key(0))
    assert jax.tree.structure(masks) == jax.tree.structure(TREE)
    assert masks["head"]["bias"].all()
    for path, share in erk_densities(TREE, 0.1).items():
        layer, leaf = path.split("/")
        mask = np.asarray(masks[layer][leaf])
        assert mask.dtype == bool and mask.sum() == round(share * mask.size)
    other = erk_masks(TREE, 0.1, jax.random.key(1))
    assert not np.array_equal(other["conv2"]["kernel"], masks["conv2"]["kernel"])


@pytest.mark.parametrize("density", [0.0, 1.1, math.nan])
def test_refuses(density):
    with pytest.raises(UserError, match=f"density={density}"):
        erk_densities(TREE, density)


def test_refuses_a_tree_without_kernels():
    with pytest.raises(UserError, match="no leaf of two axes"):
        erk_densities({"bias": jnp.zeros(3)}, 0.5)
