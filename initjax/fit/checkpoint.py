"""All layers of a checkpoint, one after the other, and all together."""

import numpy as np

from initjax import weights
from initjax.fit.analysis import analyze
from initjax.fit.findings import Findings, Layer, Source
from initjax.fit.histograms import histogram
from initjax.fit.selection import select
from initjax.support.bars import bar
from initjax.support.environment import describe_environment
from initjax.support.errors import UserError
from initjax.support.text import printable
from initjax.weights.layouts import parse_axes


def analyze_checkpoint(
    checkpoint: weights.Checkpoint,
    layers: str | None = None,
    *,
    layout: str = "",
    bootstraps: int = 100,
    seed: int = 0,
    progress: bool = False,
) -> Findings:
    """Findings on all layers of a checkpoint, as a fit file holds them.

    Args:
      checkpoint: from `weights.read`.
      layers: a regular expression on the paths; default: all kernels and embeddings, see
        `initjax.fit.selection`.
      layout: of the tensors, by their numbers of axes, "hwio,io"; of the others it is found, see
        `initjax.weights.layouts`.
      bootstraps: samples for the p of a layer's tail.
      seed: of the bootstraps and of the Gaussian controls.
      progress: show a bar.

    Raises:
      UserError (a ValueError): a pattern that is no regular expression or matches nothing that can
        be fitted, or no layout.
    """
    told = parse_axes(layout)
    checkpoint = weights.dequantize(checkpoint)
    tensors, others = select(checkpoint, layers)
    no_weights = (*checkpoint.skipped, *others)
    if not tensors:
        paths = [printable(tensor.path) for tensor in checkpoint.tensors]
        shown = ", ".join(paths[:8]) + (", ..." if len(paths) > 8 else "")
        what = "no kernels" if layers is None else f"nothing that matches --layers={layers!r}"
        raise UserError(
            f"{checkpoint.source} holds {what}. It holds: {shown or 'no tensors'}."
            + (f"\nNot read: {_reasons(no_weights)}" if no_weights else "")
        )
    shapes = {tensor.path: tensor.shape for tensor in checkpoint.tensors}
    dtypes = {tensor.dtype for tensor in tensors}
    pool_dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
    found, skipped, pool = [], [], None
    total = sum(_size(tensor) for tensor in tensors)
    with bar(total, "weights", silent=not progress) as shown:
        for tensor in tensors:
            shown.set_description(printable(tensor.path)[-30:])
            try:
                axes = told.get(len(tensor.shape)) or weights.find_axes(tensor, shapes)
                layer, counted = _analyze_tensor(tensor, axes, pool_dtype, bootstraps, seed)
                found.append(layer)
                pool = counted if pool is None else pool + counted
            except UserError as error:
                skipped.append((tensor.path, str(error)))
            shown.update(_size(tensor))
        if not found:
            raise UserError(f"{checkpoint.source}: no layer can be fitted. {_reasons(skipped)}")
        together = analyze(pool, bootstraps=bootstraps, seed=seed)
    return Findings(
        source=Source(checkpoint.source, checkpoint.format),
        environment=describe_environment(),
        layers=tuple(found),
        pool=together,
        skipped=tuple(skipped),
        no_weights=no_weights,
    )


def _size(tensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64))


def _reasons(skipped) -> str:
    """The first of (path, reason) pairs, for a message."""
    shown = "; ".join(f"{printable(path)}: {reason}" for path, reason in skipped[:3])
    return shown + ("; ..." if len(skipped) > 3 else "")


def _analyze_tensor(tensor, axes, pool_dtype, bootstraps, seed):
    """(findings, histogram for the pool) of one tensor."""
    values = tensor.load()
    counted = histogram(values)
    if counted.not_finite:
        raise UserError(f"{counted.not_finite} of {values.size} weights are infinite or NaN.")
    kernel = None if axes is None else weights.as_kernel(values, axes)
    layer = Layer(
        path=tensor.path,
        shape=tensor.shape,
        dtype=tensor.dtype,
        layout=tensor.layout if axes is None else ("torch" if axes[:2] == "oi" else "flax"),
        axes=axes,
        fan_in=None if kernel is None else int(np.prod(kernel.shape[:-1])),
        **vars(analyze(counted, kernel, bootstraps=bootstraps, seed=seed)),
    )
    same = counted.dtype.name == pool_dtype
    return layer, counted if same else histogram(values, dtype=pool_dtype)
