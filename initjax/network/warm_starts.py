"""Starts from a checkpoint: parameters of one network made of those of another that was trained.

    params, origins = initjax.from_checkpoint(params, "runs/vgg11", "depth_warm_start")

A method says what becomes of which array; it registers itself in a file of its own.
"""

import abc
import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp

from initjax.network.paths import named_leaves
from initjax.support.errors import UserError
from initjax.support.naming import Call, Registry

METHODS = Registry("method to start from a checkpoint")
_DEFAULT = "depth_warm_start"

Arrays = Mapping[str, Any]  # by path
_Method = TypeVar("_Method", bound="type[WarmStart]")


def register(name: str) -> Callable[[_Method], _Method]:
    """Decorator: lets `from_checkpoint` and `--init_from` make a `WarmStart` by its name."""

    def add(method: _Method) -> _Method:
        method.factory = name
        METHODS.add(name, method)
        return method

    return add


@dataclasses.dataclass(frozen=True, repr=False)
class WarmStart(abc.ABC):
    """Base: a value that is called with parameters, and gives those to start from.

    It prints as the text that makes it.

    Attributes:
      source: what `initjax.weights.read` opens, such as the folder of a run; or a tree of arrays.
    """

    source: Any
    factory: ClassVar[str] = ""

    def __repr__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return str(Call(self.factory, (), tuple(given.items())))

    @abc.abstractmethod
    def take(self, params: Arrays, source: Arrays) -> dict[str, tuple[Any, str]]:
        """{path: (its new array, where it came from)} of the leaves that are taken over."""

    def arrays(self) -> dict[str, Any]:
        """The arrays of the source, by path.

        Raises:
          UserError (a ValueError): it cannot be read.
        """
        if isinstance(self.source, str | os.PathLike):
            from initjax import weights  # not at import: `import initjax` reads no files

            return {tensor.path: tensor.load() for tensor in weights.read(self.source).tensors}
        return arrays_of(self.source)

    def __call__(self, params: Any) -> tuple[Any, dict[str, str | None]]:
        """See `from_checkpoint`."""
        old = arrays_of(params)
        taken = self.take(old, self.arrays())
        if not taken:
            raise UserError(f"Nothing of {_shown(self.source)} fits this network.")
        leaves = [
            jnp.asarray(taken[path][0], jnp.result_type(leaf)) if path in taken else leaf
            for path, leaf in old.items()
        ]
        origins = {path: taken[path][1] if path in taken else None for path in old}
        return jax.tree.unflatten(jax.tree.structure(params), leaves), origins


def from_checkpoint(
    params: Any, source: Any, method: str = _DEFAULT, **options: Any
) -> tuple[Any, dict[str, str | None]]:
    """Parameters of one network made of those of another that was trained.

    Args:
      params: any tree of arrays, from any initializer. Where nothing is taken over they stay.
      source: what `initjax.weights.read` opens: the folder of a run of launch.py (its newest
        parameters), a file of weights; or a tree of arrays.
      method: the name of one:
        "depth_warm_start": layers in their order, by shape, such as VGG-19 from VGG-11;
        "weight_selection", "subcloning": a smaller network from some units, or the most important;
        "stacking": a deeper one from blocks one after the other, or each several times;
        "net2net_wider", "net2net_deeper": a larger one that computes the same;
        "filter_covariance", "laws": drawn like the trained ones, whatever the sizes.
      **options: of the method.

    Returns:
      (params, origins): a tree of the structure, shapes and dtypes of `params`; and for the path of
      each leaf where it came from, None where it is as it was.

    Raises:
      UserError (a ValueError): an unknown method or option; a source that cannot be read, or of
        which nothing fits.

    >>> trained = {"Dense_0": {"kernel": jnp.ones((4, 3))}, "Dense_1": {"kernel": jnp.ones((3, 2))}}
    >>> names = [("Dense_0", (4, 3)), ("Dense_1", (3, 3)), ("Dense_2", (3, 2))]
    >>> params = {name: {"kernel": jnp.zeros(shape)} for name, shape in names}
    >>> params, origins = from_checkpoint(params, trained)
    >>> origins
    {'Dense_0/kernel': 'Dense_0/kernel', 'Dense_1/kernel': None, 'Dense_2/kernel': 'Dense_1/kernel'}
    """
    return METHODS.bind(Call(method, (source,), tuple(options.items())))(params)


def read_warm_start(text: str | Call | WarmStart) -> WarmStart:
    """What `--init_from` names: "runs/vgg11", or "depth_warm_start('runs/vgg11', layers='Conv')".

    The source is not opened yet.

    Raises:
      UserError (a ValueError): an unknown method or option, or a source that is no path.
    """
    if isinstance(text, str) and not re.match(r"\s*\w+\s*\(", text):
        text = Call(_DEFAULT, (text,))
    start = text if isinstance(text, WarmStart) else METHODS.bind(text)
    if not isinstance(start.source, str):
        raise UserError(f"source={start.source!r} is not a path.")
    return start


def arrays_of(tree: Any) -> dict[str, Any]:
    """{path: leaf}."""
    return dict(named_leaves(tree))


def _shown(source) -> str:
    return source if isinstance(source, str) else type(source).__name__
