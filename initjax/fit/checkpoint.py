"""All layers of a checkpoint, one after the other, and all together."""

import re

import jax.numpy as jnp
import numpy as np
import tqdm

from initjax import weights
from initjax.fit.analysis import analyze
from initjax.fit.findings import Findings, Layer, Source
from initjax.fit.histograms import histogram
from initjax.support.environment import describe_environment
from initjax.support.errors import UserError

# What a checkpoint holds besides weights.
_STATE = re.compile(r"(^|[./])(opt_state|optimi[sz]er\w*|exp_avg\w*)[./]")


def analyze_checkpoint(
    checkpoint: weights.Checkpoint,
    layers: str | None = None,
    *,
    bootstraps: int = 100,
    seed: int = 0,
    progress: bool = False,
) -> Findings:
    """Findings on all layers of a checkpoint, as a fit file holds them.

    Args:
      checkpoint: from `weights.read`.
      layers: a regular expression on the paths; default: all kernels and embeddings, which are the
        float tensors of two or more axes that are no optimizer's state.
      bootstraps: samples for the p of a layer's tail.
      seed: of the bootstraps and of the Gaussian controls.
      progress: show a bar.

    Raises:
      UserError (a ValueError): a pattern that is no regular expression or matches nothing that can
        be fitted.
    """
    tensors = _select(checkpoint, layers)
    dtypes = {tensor.dtype for tensor in tensors}
    pool_dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
    found, skipped, pool = [], [], None
    total = sum(_size(tensor) for tensor in tensors)
    with tqdm.tqdm(total=total, unit="weights", unit_scale=True, disable=not progress) as bar:
        for tensor in tensors:
            try:
                layer, counted = _analyze_tensor(tensor, pool_dtype, bootstraps, seed)
                found.append(layer)
                pool = counted if pool is None else pool + counted
            except UserError as error:
                skipped.append((tensor.path, str(error)))
            bar.update(_size(tensor))
        if not found:
            raise UserError(f"{checkpoint.source}: no layer can be fitted. {_reasons(skipped)}")
        together = analyze(pool, bootstraps=bootstraps, seed=seed)
    return Findings(
        source=Source(checkpoint.source, checkpoint.format),
        environment=describe_environment(),
        layers=tuple(found),
        pool=together,
        skipped=tuple(skipped),
        no_weights=checkpoint.skipped,
    )


def _size(tensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64))


def _select(checkpoint, layers):
    try:
        pattern = re.compile(layers) if layers is not None else None
    except re.error as error:
        raise UserError(f"--layers={layers!r} is not a regular expression: {error}.") from None
    chosen = []
    for tensor in checkpoint.tensors:
        if pattern is not None:
            if pattern.search(tensor.path):
                chosen.append(tensor)
        elif len(tensor.shape) > 1 and _is_float(tensor) and not _STATE.search(tensor.path):
            chosen.append(tensor)
    if not chosen:
        paths = [tensor.path for tensor in checkpoint.tensors]
        shown = ", ".join(paths[:8]) + (", ..." if len(paths) > 8 else "")
        what = "no kernels" if pattern is None else f"nothing that matches --layers={layers!r}"
        skipped = f"\nNot read: {_reasons(checkpoint.skipped)}" if checkpoint.skipped else ""
        raise UserError(
            f"{checkpoint.source} holds {what}. It holds: {shown or 'no tensors'}.{skipped}"
        )
    return chosen


def _reasons(skipped) -> str:
    """The first of (path, reason) pairs, for a message."""
    shown = "; ".join(f"{path}: {reason}" for path, reason in skipped[:3])
    return shown + ("; ..." if len(skipped) > 3 else "")


def _is_float(tensor) -> bool:
    return jnp.issubdtype(jnp.dtype(tensor.dtype), jnp.floating)


def _analyze_tensor(tensor, pool_dtype, bootstraps, seed):
    """(findings, histogram for the pool) of one tensor."""
    values = tensor.load()
    counted = histogram(values)
    if counted.not_finite:
        raise UserError(f"{counted.not_finite} of {values.size} weights are infinite or NaN.")
    kernel = _kernel(values, tensor.layout)
    layer = Layer(
        path=tensor.path,
        shape=tensor.shape,
        dtype=tensor.dtype,
        layout=tensor.layout,
        fan_in=None if kernel is None else int(np.prod(kernel.shape[:-1])),
        **vars(analyze(counted, kernel, bootstraps=bootstraps, seed=seed)),
    )
    same = counted.dtype.name == pool_dtype
    return layer, counted if same else histogram(values, dtype=pool_dtype)


def _kernel(values, layout):
    """The weights as (..., in, out); None for fewer than two axes."""
    if values.ndim < 2:
        return None
    return values if layout == "flax" else np.moveaxis(values, (0, 1), (-1, -2))
