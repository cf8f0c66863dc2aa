"""R replicas as one state with a leading axis: runs that share a program train as one job.

A replica is a run on one device: it differs from the others of its program in its seed, in its
numbers (`config.NUMBERS`), which are arguments of the program, and in the weights that it starts
from. The data set lies once on every device; replicas of one seed see the same images in the same
order, augmented alike. Of a stream only these train together: they share its batches.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from initjax.data.dataset import Dataset
from initjax.models.sizes import bounded
from initjax.support.arguments import one_of
from initjax.support.caching import cached
from initjax.support.errors import UserError
from initjax.support.memory import device_memory
from initjax.training.config import Config
from initjax.training.devices import (
    ReplicaDevices,
    all_devices,
    text_of_first,
    tree_of_first,
)
from initjax.training.objective import means, zero_metrics
from initjax.training.optimizers import create_optimizer
from initjax.training.randomness import refinement_key, run_key, weights_key
from initjax.training.start import COPIES, Refinement, drawn_by, model_of, state_of, warm_started
from initjax.training.step import TrainState, train_step
from initjax.training.trainer import Trainer, identity

METHODS = ("auto", "devices", "vmap")

# Of a device's memory, for the replicas that it trains at once.
_MEMORY_SHARE = 0.8


class Member(NamedTuple):
    """One replica.

    Attributes:
      config: its settings.
      model: a Flax Linen module of the user's own; None: the one that `config` names.
      variables: to start from, or a function of a key that makes them; None: `model.init` does.
    """

    config: Config
    model: Any = None
    variables: Any = None


def method_here(method: str = "auto") -> str:
    """How replicas are trained here: "devices", one on each, or "vmap", vectorized on each.

    On CPUs convolutions over replicas become grouped ones, which XLA runs several times slower.
    """
    one_of(method, METHODS, "--population")
    if method != "auto":
        return method
    return "devices" if jax.local_devices()[0].platform == "cpu" else "vmap"


class Replicas:
    """The compiled programs of up to `number` replicas at once.

    Args:
      config: of any of them.
      dataset: their data.
      number: of replicas.
      method: one of `METHODS`.
      model: a Flax Linen module of the user's own, of any of them.
      devices: None takes all of them, in all processes.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        number: int,
        *,
        method: str = "auto",
        model=None,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.devices = ReplicaDevices(number, method_here(method) == "vmap", devices)
        # Each refines its own start.
        trainer = Trainer(dataclasses.replace(config, refine=""), dataset, model, self.devices)
        self.steps_per_epoch, self.total_steps = trainer.steps_per_epoch, trainer.total_steps
        self.loops_on_device = trainer.loops_on_device
        self.augmentation = trainer.feed.augmentation
        self._trainer, self._dataset = trainer, dataset
        self._image_shape = trainer.feed.image_shape
        self._zeros = jax.device_get(zero_metrics(dataset.num_classes))
        self._state_of = functools.partial(state_of, trainer.create_optimizer())
        self._compiled_state_of = jax.jit(self._state_of)
        # Once a start, not a seed.
        self._drawn_by = cached(
            lambda model: drawn_by(model, self._image_shape, run_key(0), trainer.parametrization)
        )

    @property
    def compile_seconds(self) -> float:
        """Seconds that compiling has taken so far."""
        return self._trainer.compile_seconds

    def take(self, members: Sequence[Member]) -> None:
        """From here on, the programs are those of these replicas."""
        self._trainer.identity = self.devices.stack([identity(m.config) for m in members])
        self._trainer.seed, *others = {m.config.seed for m in members}
        if others and self._trainer.feed.streams:
            raise UserError(
                f"{self._dataset.name} is streamed: runs that train together have one seed."
            )

    def create_states(self, members: Sequence[Member]) -> dict[str, Any]:
        """{"state", "totals"} before the first step, [R, ...] on the host, made one by one."""
        states = [self._create_state(*member) for member in members]
        return tree_of_first(_stacked([{"state": s, "totals": self._zeros} for s in states]))

    def shapes(self, number: int) -> dict[str, Any]:
        """What `create_states` returns of so many, as zeros."""
        state = _state_shapes(self._trainer.model, self._image_shape, self._state_of)
        tree = {"state": state, "totals": self._zeros}
        return jax.tree.map(lambda x: np.zeros((number, *x.shape), x.dtype), tree)

    def _create_state(self, config, model, variables):
        key = run_key(config.seed)
        if model is None:
            model = model_of(config, self._dataset.num_classes)
        if variables is None:
            variables = self._drawn_by(model)
        if callable(variables):
            variables = variables(weights_key(key))
        if config.init_from:
            params, _ = warm_started(config, jax.device_get(variables["params"]))
            variables = {**variables, "params": params}
        if config.refine:
            key = refinement_key(key)
            refinement = Refinement(config.refine.value, model, self._dataset, key)
            params, _ = refinement.apply(jax.device_get(variables["params"]))
            variables = {**variables, "params": params}
        return jax.device_get(self._compiled_state_of(variables))

    def place(self, tree) -> Any:
        """What has a leading axis [R] on the host, on the devices."""
        number = len(jax.tree.leaves(tree)[0])
        return self.devices.stack([jax.tree.map(lambda x, i=i: x[i], tree) for i in range(number)])

    def fetch(self, tree, number: int) -> Any:
        """The first `number` replicas of a tree on the devices, [R, ...] on the host."""
        return jax.tree.map(lambda x: x[:number], self.devices.unstack(tree))

    def zero_metrics(self):
        """Sums over no steps, of every replica."""
        return self._trainer.zero_metrics()

    def order(self, epoch: int) -> jax.Array:
        """The training images in the order in which `epoch` shows them to each replica."""
        return self._trainer.order(epoch)

    def run(self, state: TrainState, totals, order, num_steps: int):
        """`Trainer.run` of every replica; donates state and totals, and does not wait."""
        return self._trainer.run(state, totals, order, num_steps)

    def evaluate(self, state: TrainState):
        """The metrics' sums over the test set, of every replica."""
        return self._trainer.evaluation_sums(state)

    def compile_evaluation(self, state: TrainState) -> None:
        """`Trainer.compile_evaluation` of every replica."""
        self._trainer.compile_evaluation(state)

    def means(self, sums, number: int) -> list[tuple[float, ...]]:
        """Of the first `number` replicas; waits for their steps."""
        sums = self.fetch(sums, number)
        return [means({name: x[i] for name, x in sums.items()}) for i in range(number)]


def at_once(
    config: Config,
    dataset: Dataset,
    replicas: int,
    *,
    method: str = "auto",
    model=None,
    devices: Sequence[jax.Device] | None = None,
) -> int:
    """How many of so many replicas to train at once, in parts of nearly one size.

    "devices": as many as there are devices. "vmap": as many as fit in 0.8 of the devices' memory
    (on CPUs, of half the machine's), where a replica takes what one step of it alone reads and
    writes before XLA fuses its operations: more than it will hold at one time.
    """
    devices = list(devices or all_devices())
    most = len(devices)
    if method_here(method) == "vmap":
        here = next(d for d in devices if d.process_index == jax.process_index())
        each = max(int(_memory(here) / _step_bytes(config, dataset, model)), 1)
        most *= int(text_of_first(lambda: str(each)))
    parts = -(-replicas // most)
    return -(-replicas // parts)


def _memory(device) -> float:
    """Bytes of a device that replicas may take."""
    limit = device_memory(device) / (2 if device.platform == "cpu" else 1)
    return _MEMORY_SHARE * limit


def _step_bytes(config, dataset, model) -> float:
    """What a step of one replica reads and writes."""
    image_shape = dataset.train_images.shape[1:]
    if model is None:
        model = model_of(config, dataset.num_classes)
    optimizer = create_optimizer(config, 1)
    state = _state_shapes(model, image_shape, functools.partial(state_of, optimizer))
    batch = {
        "image": jax.ShapeDtypeStruct((config.batch_size, *image_shape), jnp.float32),
        "label": jax.ShapeDtypeStruct((config.batch_size,), jnp.int32),
    }
    step = functools.partial(train_step, model=model, optimizer=optimizer, axis=None)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.jit(step).lower(state, batch, key).cost_analysis()["bytes accessed"]


def _state_shapes(model, image_shape, to_state):
    """What a model starts from, as shapes; nothing is drawn."""
    images = jnp.zeros((1, *image_shape))
    with bounded(type(model).__name__, COPIES):
        return jax.eval_shape(lambda: to_state(model.init(jax.random.key(0), images)))


def _stacked(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
