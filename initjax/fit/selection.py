"""Which tensors of a checkpoint are weights to be fitted, and why the others are not."""

import re

from initjax.support.errors import UserError
from initjax.weights import Checkpoint, Tensor

# Names of containers, anywhere in a path, that hold what an optimizer keeps.
_OPTIMIZER = re.compile(
    r"(^|[/.])(\w*optim(s|i[sz]ers?)?(_?states?)?(_dict)?|opt(_?states?)?|\w*_opt)\d*([/.]|$)"
    r"|(^|/)state/\d+/\w+$",  # PyTorch's, in a container of any name
    re.IGNORECASE,
)
# Copies of all parameters that optimizers keep under these names, in containers of any name.
_MOMENTS = re.compile(r"(^|.*[/.])(mu|nu|trace|exp_avg\w*|momentum\w*|velocity|sum_of_squares)[/.]")
_LEAVES = (
    (
        r"momentum_buffer|(max_)?exp_avg(_sq)?|square_avg|grad_avg|acc_delta",
        "it is an optimizer's state",
    ),
    (
        r"running_(mean|var|std)|moving_(mean|variance)|num_batches_tracked|ema_\w+",
        "it is a running statistic",
    ),
    (
        r"\w*scales?(_inv|_\d+)?|w(eight)?_g|original0|scb|\w*absmax|\w*zeros?|\w*zero_points?"
        r"|\w*quant_map|g_idx|gamma",
        "it is a scale or a zero point",
    ),
    (r"\w*bias(es)?|bias_\w+|beta", "it is a bias"),
    (
        r"\w*buffer|inv_freq|\w*freqs?(_cis)?|\w*window|\w*basis|\w*(filter|mel)_?banks?|mel_?filters"
        r"|\w*mask|\w*_index|\w*position_ids|anchors?|(cos|sin)(_cached)?|pe",
        "it is a buffer",
    ),
)
_LEAVES = tuple((re.compile(pattern, re.IGNORECASE), why) for pattern, why in _LEAVES)
NOT_ASKED = "--layers does not match it"
_STATISTICS = re.compile(r"(^|/)batch_stats/")


def select(
    checkpoint: Checkpoint, layers: str | None = None
) -> tuple[list[Tensor], list[tuple[str, str]]]:
    """(tensors to fit, (path, reason) of all others) of a checkpoint.

    Args:
      checkpoint: from `weights.read`.
      layers: a regular expression on the paths, which alone decides; default: all kernels and
        embeddings, which are the float tensors of two or more axes that no name calls otherwise.

    Raises:
      UserError: a pattern that is no regular expression.
    """
    try:
        pattern = re.compile(layers) if layers is not None else None
    except re.error as error:
        raise UserError(f"--layers={layers!r} is not a regular expression: {error}.") from None
    paths = {tensor.path for tensor in checkpoint.tensors}
    chosen, others = [], []
    for tensor in checkpoint.tensors:
        if pattern is None:
            reason = _why_not(tensor, paths)
        elif pattern.search(tensor.path):
            reason = _no_float(tensor)
        else:
            reason = NOT_ASKED
        if reason:
            others.append((tensor.path, reason))
        else:
            chosen.append(tensor)
    return chosen, others


def _why_not(tensor: Tensor, paths: set[str]) -> str | None:
    """Why a tensor is no kernel and no embedding; None if it is one."""
    leaf = re.split("[/.]", tensor.path)[-1]
    if _OPTIMIZER.search(tensor.path) or _is_moment(tensor.path, paths):
        return "it is an optimizer's state"
    if _STATISTICS.search(tensor.path):
        return "it is a running statistic"
    for pattern, reason in _LEAVES:
        if pattern.fullmatch(leaf):
            return reason
    if reason := _no_float(tensor):
        return reason
    number = len(tensor.shape)
    return None if number > 1 else f"it has {('no axis', 'one axis')[number]}"


def _no_float(tensor: Tensor) -> str | None:
    if "float" in tensor.dtype:
        return None
    if tensor.dtype.startswith("complex"):
        return "its numbers are complex"
    return "it holds truth values" if tensor.dtype == "bool" else "its numbers are integers"


def _is_moment(path: str, paths: set[str]) -> bool:
    """Whether a path is that of a moment: mu has a twin nu, and traces none of a layer's names."""
    if not (match := _MOMENTS.match(path)):
        return False
    before, name, rest = match[1], match[2], path[match.end(2) :]
    twin = {"mu": "nu", "nu": "mu"}.get(name)
    return twin is None or f"{before}{twin}{rest}" in paths
