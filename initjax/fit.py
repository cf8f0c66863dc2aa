"""What are trained weights distributed like?  python -m initjax.fit WEIGHTS [--out=DIR]

Reads a checkpoint (safetensors, npz, Flax msgpack, Orbax, PyTorch, a directory of shards, a workdir
of launch.py, or the name of a model), fits every layer, every kernel position and all layers
together, and prints a table. --out=DIR also writes fit.json, from which `initjax.from_fit` draws
new weights, and report.html.
"""

import re
import sys

import jax.numpy as jnp
import numpy as np
import tqdm

from initjax import analysis, fit_file, report, weights
from initjax.environment import describe_environment
from initjax.errors import UserError
from initjax.files import user_path, write_whole
from initjax.histograms import histogram
from initjax.support import command

# What a checkpoint holds besides weights.
_STATE = re.compile(r"(^|[./])(opt_state|optimi[sz]er\w*|exp_avg\w*)[./]")


def analyze_checkpoint(
    checkpoint: weights.Checkpoint,
    layers: str | None = None,
    *,
    bootstraps: int = 100,
    seed: int = 0,
    progress: bool = False,
) -> dict:
    """Findings on all layers of a checkpoint, as a fit file holds them (see `fit_file`).

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
                skipped.append([tensor.path, str(error)])
            bar.update(_size(tensor))
        if not found:
            reasons = "; ".join(f"{path}: {reason}" for path, reason in skipped[:3])
            raise UserError(f"{checkpoint.source}: no layer can be fitted. {reasons}")
        together = analysis.analyze(pool, bootstraps=bootstraps, seed=seed)
    return {
        "source": {"path": checkpoint.source, "format": checkpoint.format},
        "environment": describe_environment(),
        "layers": found,
        "pool": together,
        "skipped": skipped,
        "no_weights": [list(item) for item in checkpoint.skipped],
    }


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
        raise UserError(f"{checkpoint.source} holds {what}. It holds: {shown or 'no tensors'}.")
    return chosen


def _is_float(tensor) -> bool:
    return jnp.issubdtype(jnp.dtype(tensor.dtype), jnp.floating)


def _analyze_tensor(tensor, pool_dtype, bootstraps, seed):
    """(findings, histogram for the pool) of one tensor."""
    values = tensor.load()
    counted = histogram(values)
    if counted.not_finite:
        raise UserError(f"{counted.not_finite} of {values.size} weights are infinite or NaN.")
    kernel = _kernel(values, tensor.layout)
    layer = {
        "path": tensor.path,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "layout": tensor.layout,
        "fan_in": None if kernel is None else int(np.prod(kernel.shape[:-1])),
        **analysis.analyze(counted, kernel, bootstraps=bootstraps, seed=seed),
    }
    same = counted.dtype.name == pool_dtype
    return layer, counted if same else histogram(values, dtype=pool_dtype)


def _kernel(values, layout):
    """The weights as (..., in, out); None for fewer than two axes."""
    if values.ndim < 2:
        return None
    return values if layout == "flax" else np.moveaxis(values, (0, 1), (-1, -2))


def main(arguments=None) -> None:
    parser = command.Parser(
        prog="python -m initjax.fit",
        description=__doc__.partition("\n\n")[2],
    )
    parser.add_argument("weights", help="a file, a directory, or the name of a model")
    parser.add_argument("--layers", help="a regular expression on the layers' paths")
    parser.add_argument("--out", type=user_path, help="where to write fit.json and report.html")
    parser.add_argument(
        "--bootstraps", type=int, default=100, help="samples for the p of each tail; 0: none"
    )
    parser.add_argument("--seed", type=int, default=0, help="of bootstraps and Gaussian controls")
    with command.answers():
        _run(parser.parse_args(arguments))


def _run(args) -> None:
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = weights.read(args.weights)
    number = len(checkpoint.tensors)
    print(f"{args.weights}: {checkpoint.format}, {number} tensors", flush=True)
    found = analyze_checkpoint(
        checkpoint,
        args.layers,
        bootstraps=args.bootstraps,
        seed=args.seed,
        progress=sys.stderr.isatty(),
    )
    print(f"\n{report.table(found)}")
    print("\n" + "\n".join(report.verdict(found)))
    if args.out:
        fit_file.save(found, args.out / "fit.json")
        write_whole(args.out / "report.html", report.html_page(found))
        print(f"\nin {args.out}: fit.json, report.html")


if __name__ == "__main__":
    command.run(main)
