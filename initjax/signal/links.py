"""What every layer is given: the network's input, an activated layer, a residual stream.

Found by comparing numbers and not by reading code, so that it holds for any network: a layer's
input is looked for among what earlier layers put out.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from initjax.theory.activations import ACTIVATIONS, get_activation

# How many layers back an input, or the beginning of a residual branch, is looked for.
_REACH = 8


@dataclasses.dataclass(frozen=True)
class Link:
    """Where a layer's input comes from, as numbers of layers in execution order.

    Attributes:
      layer: the layer whose output z, or phi(z), is the input, or the branch that is added to the
        stream; None where the input is the network's.
      activated: whether it is phi(z), not z.
      stream: the layer whose input is the residual stream to which that is added; None without.
    """

    layer: int | None = None
    activated: bool = False
    stream: int | None = None


@dataclasses.dataclass(frozen=True)
class Sample:
    """Two examples of a run, to compare: the network's input, and every layer's in and out."""

    x: np.ndarray
    inputs: Sequence[np.ndarray | None]
    outputs: Sequence[np.ndarray]
    output: np.ndarray | None
    tolerance: float


def find_links(sample: Sample, activation: Callable | None) -> list[Link | None]:
    """The link of every layer; None where its input is something else, such as pooled."""
    activated = _activated(sample, activation)
    return [_find(sample, activated, i) for i in range(len(sample.outputs))]


def find_output(sample: Sample) -> int | None:
    """The last layer that the network's output is, up to its shape; None if it is none."""
    for i in reversed(range(len(sample.outputs))):
        if sample.output is not None and is_same(sample.output, sample.outputs[i], sample):
            return i
    return None


def find_activated(
    sample: Sample, activation: Callable | None, links: Sequence[Link | None]
) -> list[bool]:
    """Whether the activation follows directly upon each layer, pooling aside."""
    found = [False] * len(sample.outputs)
    for link in links:
        if link is not None and link.activated and link.layer is not None:
            found[link.layer] = True
    activated = _activated(sample, activation)
    for i, link in enumerate(links[1:], 1):
        given, before = sample.inputs[i], activated[i - 1]
        if link is None and given is not None and before is not None and not found[i - 1]:
            found[i - 1] = _is_pooled(given, before, sample.tolerance)
    return found


def infer_activation(sample: Sample) -> str | None:
    """The name of the activation for which most layers are given what it makes of another."""
    best, most = None, 0
    for name in ACTIVATIONS:
        if name == "linear":
            continue
        links = find_links(sample, get_activation(name))
        number = sum(find_activated(sample, get_activation(name), links))
        if number > most:
            best, most = name, number
    return best


def _activated(sample, activation):
    if activation is None:
        return [None] * len(sample.outputs)
    return [np.asarray(activation(z), np.float32) for z in sample.outputs]


def _find(sample, activated, i):
    given = sample.inputs[i]
    if given is None:
        return None
    if is_same(given, sample.x, sample):
        return Link()
    before = range(i - 1, max(-1, i - 1 - _REACH), -1)
    for j in before:
        if is_same(given, activated[j], sample):
            return Link(j, activated=True)
        if is_same(given, sample.outputs[j], sample):
            return Link(j)
    for k in before[:2]:
        for branch, is_activated in ((sample.outputs[k], False), (activated[k], True)):
            if branch is None or branch.size != given.size:
                continue
            for j in range(k, max(-1, k - _REACH), -1):
                stream = sample.inputs[j]
                if stream is not None and stream.shape == branch.shape:
                    if is_same(given, stream + branch, sample):
                        return Link(k, is_activated, stream=j)
    return None


def is_same(a: np.ndarray, b: np.ndarray | None, sample: Sample) -> bool:
    """Whether two arrays hold the same numbers, up to their shape and the sample's tolerance."""
    if b is None or a.size != b.size:
        return False
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False
    return np.abs(a - b).max() <= sample.tolerance * max(np.abs(b).max(), 1e-37)


def _is_pooled(given, before, tolerance):
    """Whether `given` is a selection (maximum pooling) or an average of `before`."""
    if not (np.isfinite(given).all() and np.isfinite(before).all()) or not before.size:
        return False
    if given.size < before.size and np.isin(given, before).all():
        return True
    scale = np.abs(before).max()
    means = given.reshape(len(given), -1).mean(1), before.reshape(len(before), -1).mean(1)
    return given.size < before.size and bool(
        np.abs(means[0] - means[1]).max() <= tolerance * max(scale, 1e-37)
    )
