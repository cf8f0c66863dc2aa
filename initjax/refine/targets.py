"""The laws that pre-activations are to follow: what `consistency` compares with.

A target gives every layer a `Law`, for the inputs at hand. As text, in `--refine` for example, they
are "gaussian", "mean_field(activation='tanh')" and "saved(file='statistics.json')".
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from initjax.initializers.edge_of_chaos import edge_of_chaos
from initjax.refine.divergences import Law, midpoints
from initjax.refine.network import Network, split_variables
from initjax.refine.statistics import channel_moments
from initjax.support.arguments import finite, not_negative, positive
from initjax.support.errors import UserError
from initjax.support.files import intact, json_row, write_whole
from initjax.theory.gaussian import second_moment

SCHEMA_VERSION = 1
NUM_QUANTILES = 129


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """N(mean, variance) in every channel of every layer; the unit Gaussian by default."""

    mean: float = 0.0
    variance: float = 1.0

    def __post_init__(self) -> None:
        finite(self.mean, "mean")
        positive(self.variance, "variance")

    def laws(
        self, network: Network, shapes: Mapping[str, jax.ShapeDtypeStruct], inputs: Any
    ) -> dict[str, Law]:
        """The `Law` of every layer, by path; `shapes` are those of what they put out, [..., C]."""
        return {path: _normal(z, self.mean, self.variance) for path, z in shapes.items()}


@dataclasses.dataclass(frozen=True)
class MeanField:
    """N(0, q_l), q_l the variance that a wide plain network has in its layer l.

        q_1 = sw^2 E[x^2] + sb^2,    q_l = sw^2 E[phi(sqrt(q_(l-1)) z)^2] + sb^2,

    x the inputs (Poole et al. 2016, arXiv:1606.05340). Layers are counted in the order in which
    they compute, also where a network is not plain.

    Args:
      activation: phi, a name or an elementwise function.
      weight_variance: sw^2. Default: with the biases' that of `initjax.edge_of_chaos(activation)`.
      bias_variance: sb^2; 0 where only `weight_variance` is given.
    """

    activation: str | Callable = "relu"
    weight_variance: float | None = None
    bias_variance: float | None = None

    def laws(
        self, network: Network, shapes: Mapping[str, jax.ShapeDtypeStruct], inputs: Any
    ) -> dict[str, Law]:
        """As `Gaussian.laws`."""
        weight_variance, bias_variance = self.weight_variance, self.bias_variance
        if weight_variance is None:
            point = edge_of_chaos(self.activation, bias_variance=bias_variance)
            weight_variance, bias_variance = point.weight_variance, point.bias_variance
        weight_variance = positive(weight_variance, "weight_variance")
        bias_variance = not_negative(bias_variance or 0.0, "bias_variance")
        moment = float(jnp.mean(jnp.square(inputs.astype(jnp.float32))))
        laws = {}
        for path, z in shapes.items():
            variance = weight_variance * moment + bias_variance
            laws[path] = _normal(z, 0.0, positive(variance, f"the mean-field variance of {path}"))
            moment = second_moment(self.activation, variance)
        return laws


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What another network's layers give for the same inputs.

    Args:
      params: its parameters, or all its variables.
      model: its model, whose layers have the same paths and widths; default: the one refined.
    """

    params: Any
    model: Any = None

    def laws(
        self, network: Network, shapes: Mapping[str, jax.ShapeDtypeStruct], inputs: Any
    ) -> dict[str, Law]:
        """As `Gaussian.laws`; the quantiles are the sorted values themselves."""
        model, params = split_variables(self.model or network.model, self.params)
        if model is not network.model:
            network = Network(model, network.key)
        found = network.each_layer(lambda path, z: _measure(jnp.sort(z, axis=0)))(params, inputs)
        return _matched(found, shapes, "the reference network")


@dataclasses.dataclass(frozen=True)
class Saved:
    """The statistics of a file that `save_statistics` or `initjax.training.reference` wrote.

    Images of any size give statistics of the same form: those of a channel are over all positions.

    Args:
      file: its path.
      pooled: a normal law in all channels of a layer, of the mean and variance that the reference
        has over all of that layer's values, in place of a law a channel. It fits a layer of any
        width, such as the last one of a network for another number of classes.
    """

    file: str | os.PathLike[str]
    pooled: bool = False

    def laws(
        self, network: Network, shapes: Mapping[str, jax.ShapeDtypeStruct], inputs: Any
    ) -> dict[str, Law]:
        """As `Gaussian.laws`."""
        found = {}
        for layer in load_statistics(self.file)["layers"]:
            mean, variance, table = (np.array(layer[k]) for k in ("mean", "var", "quantiles"))
            found[layer["path"]] = Law(mean, np.sqrt(variance), table[:, None])
        if self.pooled:
            _check_paths(found, shapes, str(self.file))
            return {path: _pooled(found[path], z) for path, z in shapes.items()}
        return _matched(found, shapes, str(self.file), "\npooled=True takes any number.")


Target = Gaussian | MeanField | Reference | Saved

TARGETS = {"gaussian": Gaussian, "mean_field": MeanField, "saved": Saved}


def _normal(z, mean, variance) -> Law:
    dtype = jnp.promote_types(z.dtype, jnp.float32)
    return Law(jnp.full(z.shape[-1], mean, dtype), jnp.full(z.shape[-1], np.sqrt(variance), dtype))


def _pooled(law, z) -> Law:
    return _normal(z, law.mean.mean(), np.mean(law.sd**2) + law.mean.var())


def _measure(z) -> Law:
    """The law of sorted values z [rows, C]."""
    mean, sd, alive = channel_moments(z)
    return Law(mean, jnp.where(alive, sd, 0), (z - mean) / jnp.where(alive, sd, 1))


def _check_paths(found, shapes, what) -> None:
    if missing := [path for path in shapes if path not in found]:
        shown = ", ".join(list(found)[:6]) + (", ..." if len(found) > 6 else "")
        raise UserError(f"{what} has no layer {missing[0]}; it has {shown or 'none'}.")


def _matched(found, shapes, what, cure="") -> dict[str, Law]:
    """The laws of `found`, checked to be those of the network's layers."""
    _check_paths(found, shapes, what)
    for path, z in shapes.items():
        if len(found[path].mean) != z.shape[-1]:
            raise UserError(
                f"{what} has {len(found[path].mean)} channels in {path}; the network refined has"
                f" {z.shape[-1]}.{cure}"
            )
    return {path: found[path] for path in shapes}


def digest(inputs: Any) -> str:
    """SHA-256 of a batch: its dtype, shape and values."""
    array = np.ascontiguousarray(inputs)
    header = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(header + array.tobytes()).hexdigest()


def save_statistics(
    model: Any,
    params: Any,
    inputs: Any,
    file: str | os.PathLike[str],
    *,
    key: jax.Array | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Measures a network's pre-activations and writes them to a file that `Saved` reads.

    The file is JSON: {"schema_version": 1, "digest": SHA-256 of the inputs, "layers": [{"path",
    "shape" (of the pre-activations), "n" (values a channel), "mean" [C], "var" [C], "quantiles"
    [129]}], "sha256": of all of it}. The quantiles are of (z - mean) / sd of all living channels
    together, at the probabilities (i - 1/2) / 129. `about`, where it is given, stands in front.

    Args:
      model: a Flax Linen module.
      params: its parameters, or all its variables.
      inputs: [n, ...].
      file: where to write.
      key: of dropout, if the model has any.
      about: where they come from, for who reads the file.
    """
    model, params = split_variables(model, params)
    network = Network(model, jax.random.key(0) if key is None else key)

    def measure(path, z):
        mean, sd, alive = channel_moments(z)
        unit = jnp.where(alive, (z - mean) / jnp.where(alive, sd, 1), jnp.nan)
        p = midpoints(NUM_QUANTILES, z.dtype)
        quantiles = jnp.where(alive.any(), jnp.nanquantile(unit, p), 0)
        return {
            "n": jnp.int32(z.shape[0]),
            "mean": mean,
            "var": jnp.where(alive, sd**2, 0),
            "quantiles": quantiles,
        }

    found = network.each_layer(measure)(params, inputs)
    shapes = network.shapes(params, inputs)
    layers = [
        {"path": path, "shape": list(shapes[path].shape)}
        | {name: np.asarray(x).tolist() for name, x in layer.items()}
        for path, layer in found.items()
    ]
    content = {"schema_version": SCHEMA_VERSION, "digest": digest(inputs), "layers": layers}
    write_whole(pathlib.Path(file), json_row(({"about": about} if about else {}) | content))


def load_statistics(file: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a file of `save_statistics`, checked.

    Raises:
      UserError: a file that cannot be read, is of another form, or of a later version.
    """
    try:
        content = json.loads(pathlib.Path(file).read_text())
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise UserError(f"{file} is no statistics file: it is not JSON.") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{file} has schema_version={version!r}; this version of initjax reads"
            f" {SCHEMA_VERSION}."
        )
    try:
        for layer in content["layers"]:
            widths = {np.shape(layer["mean"]), np.shape(layer["var"])}
            numbers = np.concatenate([layer["mean"], layer["var"], layer["quantiles"]])
            if (
                len(widths) != 1
                or len(layer["quantiles"]) != NUM_QUANTILES
                or not np.isfinite(numbers.astype(float)).all()
                or min(layer["var"]) < 0
                or not isinstance(layer["path"], str)
            ):
                raise ValueError
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{file} is damaged: a layer lacks finite mean, var or quantiles."
        ) from None
    if intact(content) is None:
        raise UserError(f"{file} is damaged: it is not what was written.\nMeasure it again.")
    return content
