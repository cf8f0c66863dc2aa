"""What a run starts from: made, then refined parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from initjax.data.augmentation import normalize
from initjax.data.dataset import Dataset
from initjax.models.catalog import create_model, resized
from initjax.models.sizes import bounded
from initjax.network.parametrization import Parametrization, initial_factors, of_module
from initjax.refine import methods
from initjax.refine.reports import Report
from initjax.support.compiling import OF_SAMPLERS, compile_program
from initjax.support.errors import UserError
from initjax.support.naming import Call
from initjax.training.config import Config
from initjax.training.step import TrainState

_CALIBRATION_IMAGES = 1024
COPIES = 3  # of the parameters, at least: themselves, gradients, and one moment


def model_of(config: Config, num_classes: int, axis_name: str | None = None):
    """The model that a Config names, for inference or, over a mapped axis, for training."""
    return create_model(
        config.model.value,
        num_classes=num_classes,
        kernel_init=config.init.value,
        dense_init=config.dense_init.value,
        bias_init=config.bias_init.value,
        activation=config.activation,
        dtype=jnp.dtype(config.precision),
        axis_name=axis_name,
    )


def on_axis(model, axis_name: str | None):
    """`model` mapped over an axis, or over none, if it has a field that says so."""
    return model.clone(axis_name=axis_name) if hasattr(model, "axis_name") else model


def parametrization_of(config: Config, model, image_shape) -> Parametrization | None:
    """What --parametrization makes of a run's model, which is left as it is; None: nothing.

    Raises:
      UserError: a model whose width cannot be changed, or that the parametrization does not fit.
    """
    if config.parametrization.value is None:
        return None
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    try:
        base = resized(model, config.base_width or None, config.base_depth or None)
        found = of_module(config.parametrization.value, base, model, images, config.optimizer)
    except UserError as error:
        raise UserError(f"--parametrization={config.parametrization}: {error}") from None
    return found.folded()


def drawn_by(model, image_shape, key, parametrization: Parametrization | None = None):
    """The compiled `model.init`, for keys such as `key`: key -> variables, whatever the seed.

    Weights are of the size that a parametrization gives them.

    Raises:
      UserError: the network is more than this machine can train; or it shrinks these images to
        nothing: it would train on its last bias, or on NaN.
    """
    factors = {}
    if parametrization is not None:
        dense_init = getattr(model, "dense_init", None)
        factors = initial_factors(parametrization, model.kernel_init, dense_init)

    def draw(key):
        variables = model.init(key, jnp.zeros((1, *image_shape)))
        if not factors:
            return variables
        params = parametrization.scale(variables["params"], factors)
        return {**variables, "params": params}

    with bounded(type(model).__name__, COPIES):
        program = jax.jit(draw).trace(key)
    if empty := _first_empty(program.jaxpr):
        size = "x".join(map(str, image_shape))
        raise UserError(
            f"{type(model).__name__} shrinks images of {size} to nothing: {empty}.\n"
            "Take larger ones (--image_size=32 resizes) or a network that pools less."
        )
    options = OF_SAMPLERS if jax.default_backend() == "cpu" else {}
    return compile_program(program.lower(), options)


def _first_empty(jaxpr) -> str | None:
    """Where a program first computes floats [B, ...] of size 0, in words; None if nowhere."""
    for equation in jaxpr.eqns:
        for out in equation.outvars:
            shape = getattr(out.aval, "shape", ())
            if len(shape) > 1 and 0 in shape and jnp.issubdtype(out.aval.dtype, jnp.floating):
                return f"{equation.source_info.name_stack} computes an array of {shape}"
        parts = jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program)
        for part in filter(_is_program, parts):
            if empty := _first_empty(part):
                return empty
    return None


def _is_program(value) -> bool:
    return hasattr(value, "eqns")


def state_of(optimizer, variables) -> TrainState:
    """The state before the first step, of what a model starts from."""
    params = variables["params"]
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
    )


def warm_started(config: Config, params):
    """`params` with what `--init_from` takes over, and its report: where each leaf came from."""
    try:
        params, origins = config.init_from.value(params)
    except UserError as error:
        raise UserError(f"--init_from: {error}") from None
    return params, {"init_from": config.init_from, "origins": origins}


def create_state(
    model, optimizer, image_shape, key, variables=None, parametrization=None
) -> TrainState:
    """The state before the first step.

    Args:
      model: a Flax Linen module.
      optimizer: optax transformation.
      image_shape: (H, W, C).
      key: of the weights.
      variables: to start from, in place of what `model.init` draws.
      parametrization: of the run, if any.
    """
    if variables is None:
        variables = drawn_by(model, image_shape, key, parametrization)(key)
    return jax.device_get(jax.jit(functools.partial(state_of, optimizer))(variables))


def calibration_batch(dataset: Dataset, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(images, labels): up to 1,024 of the training split, normalized, not augmented.

    Refinements hold out the last quarter.
    """
    number = min(_CALIBRATION_IMAGES, len(dataset.train_labels))
    indices = np.asarray(jax.random.permutation(key, len(dataset.train_labels)))[:number]
    return (
        normalize(jnp.asarray(dataset.train_images[indices]), dataset.mean, dataset.std),
        jnp.asarray(dataset.train_labels[indices]),
    )


class Refinement:
    """The refinement that a run's `--refine` names.

    Args:
      call: what `refine` takes.
      model: the run's model. Its statistics are those of the whole batch on one device.
      dataset: the run's data.
      key: a PRNG key, from the run's seed.
    """

    def __init__(self, call: Call, model, dataset: Dataset, key: jax.Array):
        self._call, self._model = call, on_axis(model, None)
        self._key, key_order = jax.random.split(key)
        self._batch = calibration_batch(dataset, key_order)

    def apply(self, params) -> tuple[dict, Report]:
        """The refined parameters, and the report."""
        try:
            return methods.refine(self._call, self._model, params, self._batch, self._key)
        except UserError as error:
            raise UserError(f"--refine: {error}") from None
