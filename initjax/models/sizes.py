"""What is too large to begin with: parameters beyond the memory, more layers than a compiler ends.

A network is a Python program: it is known only by running it. `bounded` watches a trace, in which
nothing is computed, and ends it at the first layer that is too much.
"""

import contextlib
import math
from collections.abc import Iterator

import flax.linen as nn

from initjax.support.errors import UserError
from initjax.support.memory import check_fits

# Twice the layers of the deepest network that the sources train: 10,000 (Xiao et al. 2018).
_MOST_LAYERS = 20_000
# Of tracing and compiling a dense layer's part of a training step on one core: 33 s for 100.
_LAYER_SECONDS = 0.33


@contextlib.contextmanager
def bounded(name: str, copies: int = 1) -> Iterator[None]:
    """A context in which a network may be traced, if it is of a size that can be trained.

    Args:
      name: of the model, for messages.
      copies: how often its parameters will be in memory: themselves, gradients, moments.

    Raises:
      UserError: with the figure, at the first layer that is too much; where the network has a field
        `depth`, before the first.
    """
    layers, total = 0, 0

    def watch(call, args, kwargs, context):
        nonlocal layers, total
        module = context.module
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        if module.scope is not None and not module.scope.path:
            layers = total = 0  # the network itself: another trace
            depth = getattr(module, "depth", 0)
            _check_layers(name, depth if isinstance(depth, int) else 0)
        if hasattr(module, "features"):
            layers, total = layers + 1, total + _kernel_size(module, args)
            _check_layers(name, layers)
            what = f"{name}: {total:.4g} parameters" + f", {copies} times," * (copies > 1)
            check_fits(what, 4 * copies * total, "Take a smaller width or depth.")
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        yield


def _check_layers(name: str, layers: int) -> None:
    if layers > _MOST_LAYERS:
        raise UserError(
            f"{name} has {layers:,} layers or more, which take about"
            f" {layers * _LAYER_SECONDS / 3600:,.2g} hours to compile.\n"
            f"Take a smaller depth: up to {_MOST_LAYERS:,} layers are begun."
        )


def _kernel_size(module, args) -> int:
    """Numbers in the kernel of a layer that has features, before it is made."""
    sizes = [module.features, getattr(module, "kernel_size", 1) or 1]
    if args and getattr(args[0], "shape", ()):
        sizes.append(args[0].shape[-1])
    found = math.prod(math.prod(s) if isinstance(s, tuple | list) else s for s in sizes)
    return found // (getattr(module, "feature_group_count", 1) or 1)
