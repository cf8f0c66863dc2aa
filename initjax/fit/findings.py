"""What a fit found, as values; and the same as json, which a fit file holds.

    to_json(findings) -> dict        names are those of the fields, in their order
    from_json(found) -> Findings     strict: every key is there, is known, and is of its type

A number that does not exist is NaN here and null there. Scales, supports and quantiles are in the
units of the weights.
"""

import dataclasses
import functools
import math
import reprlib
import sys
import types
import typing
from typing import Any, Literal

import numpy as np

from initjax.distributions.family import Law
from initjax.distributions.laws import LAWS
from initjax.fit import likelihood, tails
from initjax.fit.grids import Grid
from initjax.support.errors import UserError
from initjax.support.text import printable

VERSION = 1
_LEFT_OUT = {"left_out": True}  # where it is None or {}, json does not have the name


@dataclasses.dataclass(frozen=True)
class JarqueBera:
    """The test of normality of Jarque and Bera.

    Attributes:
      statistic: of chi squared with two degrees of freedom, were the weights normal.
      p: its p.
    """

    statistic: float
    p: float


@dataclasses.dataclass(frozen=True)
class Vuong:
    """Vuong's test of a law against another one.

    Attributes:
      z: positive where the law is nearer to the weights than the other one.
      p: two-sided.
    """

    z: float
    p: float


@dataclasses.dataclass(frozen=True)
class LikelihoodRatio:
    """The test of a law against another one that it contains, or is contained in.

    Attributes:
      statistic: 2 ln of the likelihoods' ratio, the larger law's over the smaller one's.
      degrees: of freedom of its chi squared.
      p: of the smaller law, halved where that lies at an edge of the larger one.
    """

    statistic: float
    degrees: int
    p: float


@dataclasses.dataclass(frozen=True)
class Claim:
    """Whether weights may be called a power law.

    Attributes:
      holds: a power law is the best law, and a good one, with alpha above 0, of enough weights.
      against: what speaks against it; none where it holds.
    """

    holds: bool
    against: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Sides:
    """Weights below 0 and above: laws are fitted to both together.

    Attributes:
      negative: how many are below 0.
      positive: how many are above.
      distance: of Kolmogorov and Smirnov, between |w| on either side; NaN without weights on both.
      p: of one law on both sides.
    """

    negative: int
    positive: int
    distance: float
    p: float

    @property
    def is_one_sided(self) -> bool:
        """Whether nine of ten weights have the same sign."""
        return max(self.negative, self.positive) > 0.9 * (self.negative + self.positive)


@dataclasses.dataclass(frozen=True)
class LawFit:
    """A law fitted to weights; see `likelihood.Fit`.

    Attributes:
      parameters: estimates by name.
      standard_errors: of the parameters.
      intervals: of 95 %.
      log_likelihood: in nats.
      num_parameters: end points that are estimated included.
      aic: Akaike's criterion.
      bic: Schwarz's criterion.
      ks: the distance of Kolmogorov and Smirnov.
      support: least and largest |w|.
      vuong_best: against the law with the least AIC; left out where one contains the other.
      vuong_normal: against the normal law; left out likewise, and where that was not fitted.
      nats_over_normal: how much better than the normal law it explains a weight; left out likewise.
      limit: what the family comes to here, where that is at its edge: "uniform", "normal", ...; the
        parameters that have no value there are null. See `likelihood.Fit`.
      converged: whether the search ended at a maximum; where not, errors and intervals are null.
      goodness: how well the law fits by itself, binned.
      ratio_best: against the law with the least AIC, where one contains the other; else left out.
      ratio_normal: against the normal law, likewise.
    """

    parameters: dict[str, float]
    standard_errors: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    log_likelihood: float
    num_parameters: int
    aic: float
    bic: float
    ks: float
    support: tuple[float, float]
    vuong_best: Vuong | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    vuong_normal: Vuong | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    nats_over_normal: float | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    limit: str | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    converged: bool | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    goodness: likelihood.Goodness | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    ratio_best: LikelihoodRatio | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    ratio_normal: LikelihoodRatio | None = dataclasses.field(default=None, metadata=_LEFT_OUT)

    def family(self, name: str) -> Law:
        """The law of that name, or what it comes to here.

        Raises:
          LookupError: an unknown limit.
        """
        return LAWS[name].limits[self.limit] if self.limit else LAWS[name]

    def above(self, name: str, sizes: np.ndarray) -> np.ndarray:
        """P(|w| > sizes) of this fit of the law of that name."""
        law = self.family(name)
        with np.errstate(all="ignore"):
            return 1 - law.cdf(sizes, self.support, *(self.parameters[k] for k in law.links))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlledTail(tails.Tail):
    """The tail that is most like a power law, beside those of Gaussian samples of as many weights.

    Attributes:
      gaussian_mean: of their alpha.
      gaussian_sd: of their alpha.
      gaussian_samples: how many there were.
      gaussian_p: the p of one of them, by as many bootstraps: over layers, the share that is
        compatible with a power law and is none. None without a bootstrap.
    """

    gaussian_mean: float
    gaussian_sd: float
    gaussian_samples: int
    gaussian_p: float | None = dataclasses.field(default=None, metadata=_LEFT_OUT)


@dataclasses.dataclass(frozen=True)
class Slope:
    """The log-log slope of a histogram of w > 0, beside those of as many Gaussian samples.

    Attributes:
      measured: that of the weights.
      gaussian_mean: that of the samples.
      gaussian_sd: over the samples.
      gaussian_samples: how many there were.
    """

    measured: float
    gaussian_mean: float
    gaussian_sd: float
    gaussian_samples: int


@dataclasses.dataclass(frozen=True)
class Cutoff:
    """The exponent of a power law from a quantile of |w| on.

    Attributes:
      quantile: where it begins.
      xmin: the |w| there.
      size: how many weights lie beyond.
      alpha: the exponent.
      standard_error: of alpha.
      gaussian_alpha: the exponent that the normal law has there.
    """

    quantile: float
    xmin: float
    size: int
    alpha: float
    standard_error: float
    gaussian_alpha: float


@dataclasses.dataclass(frozen=True, eq=False)
class Scales:
    """How much of a heavy tail is a mixture of kernel positions and channels of other scales.

    Attributes:
      position_scale: float64[positions], root mean squares over that of the kernel.
      position_spread: the standard deviation of the logarithm of position_scale.
      channel_spread: the same of the output channels' root mean squares.
      kurtosis: E[w^4] / E[w^2]^2.
      kurtosis_without_position: the same after the positions' scales are divided out.
      kurtosis_without_channel: after the output channels' are.
      kurtosis_without_both: after both are.
      normal_floor: what independent normal weights have when m of them are divided by their own
        root mean square, 3 m / (m + 2): no kurtosis after a division is evidence below it.
    """

    position_scale: np.ndarray
    position_spread: float
    channel_spread: float
    kurtosis: float
    kurtosis_without_position: float
    kurtosis_without_channel: float
    kurtosis_without_both: float
    normal_floor: float


@dataclasses.dataclass(frozen=True)
class Exponent:
    """The exponent of a law.

    Attributes:
      alpha: the exponent.
      standard_error: of alpha.
    """

    alpha: float
    standard_error: float


@dataclasses.dataclass(frozen=True)
class Position:
    """The weights at one position of a convolution's kernel.

    Attributes:
      position: its index along the kernel's spatial axes.
      sd: standard deviation.
      kurtosis: 3 is normal.
      best: the law with the least AIC.
      truncated_power_law: its exponent; left out where it was not fitted.
      cutoff_power_law: likewise.
    """

    position: tuple[int, ...]
    sd: float
    kurtosis: float
    best: str
    truncated_power_law: Exponent | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    cutoff_power_law: Exponent | None = dataclasses.field(default=None, metadata=_LEFT_OUT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """Size and moments of weights.

    Attributes:
      size: how many are finite, zeros included.
      zeros: how many are exactly 0.
      mean: of all.
      sd: standard deviation.
      skewness: 0 is symmetric.
      kurtosis: 3 is normal.
      jarque_bera: the test of normality.
    """

    size: int
    zeros: int
    mean: float
    sd: float
    skewness: float
    kurtosis: float
    jarque_bera: JarqueBera


@dataclasses.dataclass(frozen=True, kw_only=True)
class Analysis(Description):
    """Everything that was asked about some weights.

    Attributes:
      best: the law with the least AIC.
      laws: the fitted laws by name, by rising AIC.
      slope: of the log-log histogram; null for too few weights.
      cutoffs: exponents by the quantile from which on they are fitted.
      quantiles: those of `Empirical.probabilities()`.
      tail: left out where |w| has too few different sizes.
      scales: of a kernel; left out for fewer than two axes.
      positions: of a convolution's kernel, none of any other's; left out for fewer than two axes.
      grid: where |w| cannot be: rounding, few sizes, pruning; left out where it may be anything.
      sides: weights below 0 beside those above.
      claim: whether this may be called a power law; left out where that is not the best law.
      failed: what of this could not be found, and why: "tail", "slope", "law student_t", ...
    """

    best: str
    laws: dict[str, LawFit]
    slope: Slope | None
    cutoffs: tuple[Cutoff, ...]
    quantiles: tuple[float, ...]
    tail: ControlledTail | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    scales: Scales | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    positions: tuple[Position, ...] | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    grid: Grid | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    sides: Sides | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    claim: Claim | None = dataclasses.field(default=None, metadata=_LEFT_OUT)
    failed: dict[str, str] = dataclasses.field(default_factory=dict, metadata=_LEFT_OUT)

    def __post_init__(self):
        for law in (self.best, *self.laws):
            if law not in LAWS:
                raise UserError(f"{law!r:.80} is no law that is known here")
        if self.best not in self.laws:
            raise UserError(f"the best law, {self.best!r}, is not among those fitted")

    @property
    def best_law(self) -> LawFit:
        """What was fitted of the best law."""
        return self.laws[self.best]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where weights are from.

    Attributes:
      path: the layer's, in the checkpoint.
      shape: of the tensor.
      dtype: of its numbers.
      layout: "flax" where kernels are (..., in, out), "torch" where they are (out, in, ...).
      fan_in: null for fewer than two axes, and where the layout is not known.
      axes: a letter an axis, see `initjax.weights.layouts`; left out where it is not known.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    layout: Literal["flax", "torch"]
    fan_in: int | None
    axes: str | None = dataclasses.field(default=None, metadata=_LEFT_OUT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer(Analysis, Place):
    """The findings on one layer: of where, and what."""


@dataclasses.dataclass(frozen=True)
class Source:
    """What was read.

    Attributes:
      path: as the user named it.
      format: of the file.
    """

    path: str
    format: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """The content of a fit file.

    Attributes:
      version: of these names.
      source: what was read.
      environment: hardware, versions, commit, date, and the command.
      layers: in the order of the checkpoint.
      pool: all layers together, without scales and positions.
      skipped: layers that could not be fitted, (path, reason).
      no_weights: what else the checkpoint holds, (path, reason).
    """

    version: int = VERSION
    source: Source
    environment: dict[str, Any]
    layers: tuple[Layer, ...]
    pool: Analysis
    skipped: tuple[tuple[str, str], ...]
    no_weights: tuple[tuple[str, str], ...]


def to_json(value: Any) -> Any:
    """Findings, or a part of them, as what `json` writes; `strict_json` turns NaN into null."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: to_json(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not field.metadata or getattr(value, field.name) not in (None, {})
        }
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def from_json(found: Any) -> Findings:
    """The findings that a fit file holds.

    Raises:
      UserError (a ValueError): a key is missing or unknown, or its value is of another type; the
        message says where.
    """
    return _read(found, Findings, "")


def _read(value, kind, where):
    """`value` as a `kind`, which a field is annotated with."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if isinstance(value, dict):
            return _read_fields(value, kind, where)
    elif origin is types.UnionType:  # something | None
        return None if value is None else _read(value, parts[0], where)
    elif origin is dict:
        if isinstance(value, dict):
            return {name: _read(item, parts[1], _at(where, name)) for name, item in value.items()}
    elif origin is tuple:
        if isinstance(value, list):
            kinds = [parts[0]] * len(value) if parts[-1] is ... else parts
            if len(kinds) == len(value):
                pairs = enumerate(zip(value, kinds, strict=True))
                return tuple(_read(item, part, f"{where}[{i}]") for i, (item, part) in pairs)
    elif kind is np.ndarray:
        return _array(value, where)
    elif kind is float:
        if value is None:
            return math.nan
        # Neither json's NaN and Infinity, nor an integer that is larger than floats are.
        if type(value) in (int, float) and abs(value) <= sys.float_info.max:
            return float(value)
    elif kind is int:
        if type(value) is int and 0 <= value < 2**63:
            return value
    elif kind is bool:
        if type(value) is bool:
            return value
    elif kind is Any or (isinstance(value, str) and value in (parts or (value,))):
        return value
    raise UserError(f"{where or 'it'} is {reprlib.repr(value)}")


def _read_fields(value, kind, where):
    hints = _hints(kind)
    for field in dataclasses.fields(kind):
        if field.name not in value and not field.metadata:
            raise UserError(f"{where or 'it'} has no {field.name!r}")
    for name in value:
        if name not in hints:
            raise UserError(f"{where or 'it'} has {name!r:.80}, which is no name of a fit file")
    values = {name: _read(item, hints[name], _at(where, name)) for name, item in value.items()}
    try:
        return kind(**values)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


_hints = functools.cache(typing.get_type_hints)


def _at(where, name):
    return f"{where}.{printable(name[:80])}".removeprefix(".")


def _array(value, where):
    """Lists in lists of floats, as many on each level; or a float alone."""
    try:
        array = np.array(value, np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError):
        array = np.array(math.inf)
    if np.isinf(array).any():
        raise UserError(f"{where} is {reprlib.repr(value)}")
    return array
