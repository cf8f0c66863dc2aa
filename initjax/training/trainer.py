"""The compiled programs of one run."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from initjax.data.dataset import Dataset
from initjax.support.errors import UserError
from initjax.training.config import NUMBERS, Config
from initjax.training.devices import Devices, tree_of_first
from initjax.training.feed import Feed
from initjax.training.objective import means, zero_metrics
from initjax.training.optimizers import create_optimizer
from initjax.training.randomness import refinement_key, run_key, step_keys, weights_key
from initjax.training.start import (
    Refinement,
    create_state,
    model_of,
    on_axis,
    parametrization_of,
    warm_started,
)
from initjax.training.statistics import LayerStatistics
from initjax.training.step import TrainState, eval_step, train_step


def identity(config: Config) -> dict[str, Any]:
    """What tells runs of one program apart; its arguments."""
    numbers = {name: np.float32(getattr(config, name)) for name in NUMBERS}
    return {"seed": np.uint32(config.seed), **numbers}


class Trainer:
    """The compiled programs of one run; over `ReplicaDevices` those of several at once.

    Attributes:
      identity: of this run, on its devices; of each replica.
      seed: by which a stream shows its images.
      statistics: of the layers, for a run that records them; else None.
      parametrization: of the run's model; None: the standard one.

    Args:
      config: the run's settings.
      dataset: its data.
      model: a Flax Linen module of the user's own; None takes the one that `config` names.
      devices: None takes all of them, in all processes.
    """

    def __init__(
        self, config: Config, dataset: Dataset, model=None, devices: Devices | None = None
    ):
        self.devices = Devices() if devices is None else devices
        self.feed = Feed(dataset, config.batch_size, config.augment, self.devices)
        self.config, self.seed = config, config.seed
        self.steps_per_epoch = self.feed.steps_per_epoch
        self.total_steps = config.total_steps(self.steps_per_epoch)
        # Not over a stream, whose batches come one by one: between them signals are heard.
        self.loops_on_device = self.devices.loop_in_programs and not self.feed.streams
        if model is None:
            self.model = model_of(config, dataset.num_classes, self.devices.axis)
        else:
            self.model = on_axis(model, self.devices.axis)
        self.num_classes = dataset.num_classes
        self._zeros = zero_metrics(dataset.num_classes)
        self._key = run_key(config.seed)
        self._refinement = self.statistics = None
        key = refinement_key(self._key)
        if config.refine:
            self._refinement = Refinement(config.refine.value, self.model, dataset, key)
        self._tells_layers = bool(config.refine) and config.refine.value.name == "consistency"
        if config.record_statistics or self._tells_layers:
            self.statistics = LayerStatistics(self.model, dataset, key)
        self.identity = self.devices.place_own(identity(config))
        self.parametrization = parametrization_of(config, self.model, self.feed.image_shape)
        self._optimizer = self.create_optimizer()
        program = self.devices.program
        self._order = program(self._order_of)
        images = self.feed.evaluation[0].shape[1]
        evaluation = f"An evaluation of {images} images at a time"
        self._evaluate = program(self._evaluate_rows, self.model, evaluation)
        step = f"A training step of {config.batch_size} images"
        self._run = functools.cache(
            lambda num_steps: program(
                functools.partial(self._run_steps, num_steps=num_steps), self.model, step
            )
        )

    def create_optimizer(self, numbers=None):
        """The run's optax transformation; see `create_optimizer`."""
        rates = {} if self.parametrization is None else self.parametrization.rates
        return create_optimizer(self.config, self.total_steps, numbers, rates)

    @property
    def compile_seconds(self) -> float:
        """Seconds that compiling, and beginning to stream, have taken so far."""
        return self.devices.compile_seconds + self.feed.starting_seconds

    def place(self, tree):
        """A tree of host arrays on every device."""
        return self.devices.place(tree)

    def create_state(self, variables=None) -> TrainState:
        """The state before the first step, on every device; of `variables` if there are any."""
        key = weights_key(self._key)
        state = create_state(
            self.model, self._optimizer, self.feed.image_shape, key, variables, self.parametrization
        )
        if state.batch_stats and self.devices.number > 1 and not hasattr(self.model, "axis_name"):
            raise UserError(
                f"{type(self.model).__name__} has batch statistics, which {self.devices.number}"
                " devices have to share.\nGive it a field `axis_name: str | None = None`, and that"
                " to nn.BatchNorm; or train on one device."
            )
        return self.place(tree_of_first(state))

    def warm_start(self, state: TrainState):
        """The state before the first step with what `--init_from` names, and the report of it."""
        params, report = warm_started(self.config, jax.device_get(state.params))
        return self._with(state, params), report

    def refine(self, state: TrainState):
        """The state before the first step with refined parameters, and the report of it."""
        params, report = self._refinement.apply(jax.device_get(state.params))
        return self._with(state, params), report

    def _with(self, state, params):
        state = state.replace(params=params, opt_state=self._optimizer.init(params))
        return self.place(tree_of_first(jax.device_get(state)))

    def layer_statistics(self, state: TrainState) -> dict[str, float]:
        """What a run that is refined for consistency tells of every layer in its rows, as
        {"Conv_0/mean": ...}; else nothing.
        """
        if not self._tells_layers:
            return {}
        layers = self.statistics.measure(jax.device_get(state.params))
        return {
            f"{path}/{k}": value for path, found in layers.items() for k, value in found.items()
        }

    def zero_metrics(self):
        """Sums over no steps, on every device."""
        return self.devices.place_own(self._zeros)

    def order(self, epoch: int) -> jax.Array:
        """The training images in the order in which `epoch` shows them."""
        return self._order((), (self.identity, np.int32(epoch)))

    def run(self, state: TrainState, totals, order, num_steps: int):
        """`num_steps` steps of one epoch, and the metrics summed on; donates state and totals."""
        if not self.feed.streams:
            return self._run(num_steps)((state, totals), ((self.identity, order), self.feed.train))
        here = state.step.addressable_shards[0].data  # of one of the replicas, which are as far
        first = int(np.ravel(here)[0])
        for step in range(first, first + num_steps):
            batch = self.feed.streamed_batch(self.seed, step, self.total_steps)
            jax.block_until_ready(totals)  # devices hold no more than the batch that comes next
            state, totals = self._run(1)((state, totals), ((self.identity, order), batch))
        return state, totals

    def evaluate(self, state: TrainState) -> tuple[float, ...]:
        """The metrics' means, (loss, accuracy, ...), over the test set, each image counted once."""
        return means(jax.device_get(self.evaluation_sums(state)))

    def evaluation_sums(self, state: TrainState) -> dict[str, jax.Array]:
        """The metrics' sums over the test set, on every device."""
        totals = self.zero_metrics()
        for data in self._evaluation_data():
            if self.feed.streams:
                jax.block_until_ready(totals)
            totals = self._evaluate(totals, (state, data))
        return totals

    def compile_evaluation(self, state: TrainState) -> None:
        """So that what cannot be evaluated here is refused before it is trained.

        Not of a stream, whose workers would begin for it.

        Raises:
          TooLarge (a UserError): it would take more memory than there is.
        """
        if not self.feed.streams:
            self._evaluate.compile(self.zero_metrics(), (state, next(self._evaluation_data())))

    def _evaluation_data(self):
        """(data, indices, mask) of each call of the program that evaluates."""
        indices, mask = self.feed.evaluation
        if self.feed.streams:
            for i, batch in enumerate(self.feed.streamed_evaluation()):
                yield batch, indices[i : i + 1], mask[i : i + 1]
            return
        rows = len(indices) if self.loops_on_device else 1
        for start in range(0, len(indices), rows):
            part = slice(start, start + rows)
            yield self.feed.test, indices[part], mask[part]

    def _order_of(self, _, kept):
        identity, epoch = kept
        return self.feed.order(run_key(identity["seed"]), epoch)

    def _run_steps(self, state_and_totals, kept, *, num_steps):
        (identity, order), data = kept
        key = run_key(identity["seed"])
        optimizer = self.create_optimizer(identity)

        def step(carry, _):
            state, totals = carry
            key_augment, key_model = step_keys(key, state.step)
            state, metrics = train_step(
                state,
                self.feed.batch(data, order, state.step, key_augment),
                key_model,
                model=self.model,
                optimizer=optimizer,
                label_smoothing=identity["label_smoothing"],
                loss=self.config.loss,
                axis=self.devices.axis,
            )
            return (state, jax.tree.map(jnp.add, totals, metrics)), None

        if num_steps == 1:
            return step(state_and_totals, None)[0]
        return lax.scan(step, state_and_totals, length=num_steps)[0]

    def _evaluate_rows(self, totals, kept):
        state, (data, indices, mask) = kept

        def step(totals, row):
            batch = self.feed.evaluation_batch(data, *row)
            metrics = eval_step(
                state, batch, model=self.model, loss=self.config.loss, axis=self.devices.axis
            )
            return jax.tree.map(jnp.add, totals, metrics), None

        if indices.shape[0] == 1:
            return step(totals, (indices[0], mask[0]))[0]
        return lax.scan(step, totals, (indices, mask))[0]
