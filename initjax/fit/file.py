"""A fit is an initializer: fit.json, and the weights drawn from what it holds.

fit.json (version 1) is a json object:

    version        1
    source         what was read, and its format
    environment    hardware, versions, commit, date, and the command
    layers         a list of findings, one a layer, in the order of the checkpoint:
      path, shape, dtype, layout ("flax": kernels are (..., in, out); "torch": (out, in, ...)),
      fan_in, size, zeros, mean, sd, skewness, kurtosis (3 is normal), jarque_bera {statistic, p}
      best         the law with the least AIC
      laws         name -> {parameters, standard_errors, intervals (95 %), log_likelihood (nats),
                   num_parameters, aic, bic, ks, support (least and largest |w|),
                   vuong_best and vuong_normal {z, p}, nats_over_normal (a weight)}, by rising AIC
      tail         {alpha, standard_error, xmin, xmax, size, fraction, distance, p, bootstraps}, and
                   alpha's {gaussian_mean, gaussian_sd} over gaussian_samples of that size
      slope        the log-log slope of w > 0 {measured, gaussian_mean, gaussian_sd,
                   gaussian_samples}
      cutoffs      a list of {quantile, xmin, size, alpha, standard_error, gaussian_alpha}
      quantiles    those of `Empirical.probabilities()`
      scales       see `analysis.scales`; null for fewer than two axes
      positions    a list of {position, sd, kurtosis, best, cutoff_power_law {alpha,
                   standard_error}, truncated_power_law {...}}, for convolutions
    pool           the same findings for all layers together, without scales and positions
    skipped        layers that could not be fitted, a list of [path, reason]
    no_weights     what else the checkpoint holds, a list of [path, reason]

Numbers that do not exist are null. Scales, supports and quantiles are in the units of the weights.
"""

import functools
import json
import pathlib

from initjax.support.errors import UserError
from initjax.support.files import strict_json, write_whole

VERSION = 1


def save(found: dict, path: pathlib.Path) -> None:
    """Writes a fit file, whole or not at all."""
    write_whole(path, strict_json({"version": VERSION, **found}) + "\n")


def load(path) -> dict:
    """The content of a fit file.

    Raises:
      UserError (a ValueError): where there is none, or one that this version does not read.
    """
    path = pathlib.Path(path)
    path = path / "fit.json" if path.is_dir() else path
    try:
        stamp = path.stat().st_mtime_ns
        return _load(str(path), stamp)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}. `python -m initjax.fit WEIGHTS --out=DIR` makes a fit file."
        ) from None


@functools.lru_cache(maxsize=8)
def _load(path, stamp):
    try:
        found = json.loads(pathlib.Path(path).read_text())
        version = found["version"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is not a fit file of `python -m initjax.fit`.") from None
    if version != VERSION:
        raise UserError(f"{path} has version {version}; this initjax reads version {VERSION}.")
    return found
