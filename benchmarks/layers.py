"""Thirty real layers, evenly from networks trained on ImageNet, for benchmarks of fits."""

import pathlib

import numpy as np

from initjax import weights

# Files, and how many layers of each.
_FILES = {"caffenet_conv1_conv2": 2, "resnet18_bn_folded": 13, "resnet152_part": 15}


def thirty_layers(folder: pathlib.Path, most: int) -> list[tuple[str, np.ndarray]]:
    """(name, float64[sizes]) of each: |w| that is not 0, at most so many, drawn evenly at random.

    Args:
      folder: of the three npz files.
      most: weights a layer.
    """
    found = []
    for name, number in _FILES.items():
        tensors = weights.read(folder / f"{name}.npz").tensors
        kernels = [tensor for tensor in tensors if len(tensor.shape) > 1]
        for i in np.linspace(0, len(kernels) - 1, number).round().astype(int):
            sizes = np.abs(kernels[i].load().ravel())
            sizes = sizes[sizes > 0]
            if len(sizes) > most:
                sizes = np.random.default_rng(0).choice(sizes, most, replace=False)
            found.append((f"{name}/{kernels[i].path}", sizes.astype(np.float64)))
    return found
