"""Train one network; the only file that maps over devices.

`train_step` and `eval_step` are pure functions of one device, which reduce over the axis "batch".
`Trainer` maps them over the local devices with `jax.pmap`. The data lie on every device as uint8;
each device gathers its share of a batch, by its index, from an order that all of them know, so that
the numbers of a run do not depend on how many devices compute them, but for rounding. Whatever is
random is folded from (seed, epoch) or (seed, step): a run that resumes repeats what it would have
done.
"""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from initjax.data.augmentation import augment, default_augmentation, draw_augmentation, normalize
from initjax.data.dataset import Dataset, evaluation_indices
from initjax.models.catalog import create_model
from initjax.support.errors import UserError
from initjax.training.config import Config
from initjax.training.devices import compile_interruptibly
from initjax.training.feed import EVAL_BATCH
from initjax.training.objective import means, zero_metrics
from initjax.training.optimizers import create_optimizer
from initjax.training.start import Refinement
from initjax.training.step import AXIS, TrainState, eval_step, train_step


class Trainer:
    """The compiled programs of one run, mapped over the local devices.

    On GPU and TPU several steps are one `lax.scan`; on CPU every step is a call, since XLA there
    runs convolutions inside a loop 25 times slower.
    """

    def __init__(self, config: Config, dataset: Dataset):
        self._devices = jax.local_device_count()
        if config.batch_size % self._devices:
            raise UserError(
                f"--batch_size={config.batch_size} is not divisible by the {self._devices} devices"
                f" here.\nTake a multiple of {self._devices}, such as"
                f" {-(-config.batch_size // self._devices) * self._devices}."
            )
        num_train = len(dataset.train_labels)
        if config.batch_size > num_train:
            raise UserError(
                f"--batch_size={config.batch_size} is more than the {num_train} training images of"
                f" {dataset.name}."
            )
        self.config = config
        self.steps_per_epoch = num_train // config.batch_size
        self.total_steps = config.steps or max(round(config.epochs * self.steps_per_epoch), 1)
        self.num_train = num_train
        self.loops_on_device = jax.default_backend() != "cpu"
        self._key = jax.random.key(config.seed)
        self._augment = config.augment
        if config.augment == "auto":
            self._augment = default_augmentation(dataset.name)
        self._mean, self._std = dataset.mean, dataset.std
        self.model = create_model(
            config.model,
            num_classes=dataset.num_classes,
            kernel_init=config.init,
            dense_init=config.dense_init or None,
            bias_init=config.bias_init,
            activation=config.activation,
            dtype=jnp.dtype(config.precision),
            axis_name=AXIS,
        )
        self._refinement = None
        if config.refine:
            key = jax.random.fold_in(self._key, 3)
            self._refinement = Refinement(config.refine, self.model, dataset, key)
        self._optimizer = create_optimizer(config, self.total_steps)
        self._image_shape = dataset.train_images.shape[1:]
        self._compiled: dict[Any, Any] = {}
        self.compile_seconds = 0.0

        self._device_indices = np.arange(self._devices)
        self._train = self.place((dataset.train_images, dataset.train_labels))
        self._test = self.place((dataset.test_images, dataset.test_labels))
        eval_batch = min(EVAL_BATCH, len(dataset.test_labels))
        eval_batch = -(-eval_batch // self._devices) * self._devices
        self._eval_indices, self._eval_mask = evaluation_indices(
            len(dataset.test_labels), eval_batch
        )

    def _map(self, function):
        """`function(donated, kept)` on every local device.

        Arguments and results are the same on all of them. pmap wants one argument that is not: the
        first, which says no more than `lax.axis_index`.
        """
        return jax.pmap(
            lambda _, donated, kept: function(donated, kept),
            axis_name=AXIS,
            in_axes=(0, None, None),
            out_axes=None,
            donate_argnums=1,
        )

    def _call(self, function, name, donated, kept):
        """Calls `function` on every device; compiles it at the first call under this name."""
        args = (self._device_indices, donated, kept)
        if name not in self._compiled:
            start = time.perf_counter()
            self._compiled[name] = compile_interruptibly(self._map(function).lower(*args))
            self.compile_seconds += time.perf_counter() - start
        return self._compiled[name](*args)

    def place(self, tree):
        """A tree of host arrays on every device."""
        return self._map(lambda _, tree: tree)(self._device_indices, (), tree)

    def create_state(self) -> TrainState:
        """The state before the first step, on every device."""
        key = jax.random.fold_in(self._key, 0)

        def create():
            variables = self.model.init(key, jnp.zeros((1, *self._image_shape)))
            params = variables["params"]
            return TrainState(
                step=jnp.int32(0),
                params=params,
                batch_stats=variables.get("batch_stats", {}),
                opt_state=self._optimizer.init(params),
            )

        return self.place(jax.device_get(jax.jit(create)()))

    def refine(self, state: TrainState):
        """The state before the first step with refined parameters, and the report of it."""
        params, report = self._refinement.apply(jax.device_get(state.params))
        state = state.replace(params=params, opt_state=self._optimizer.init(params))
        return self.place(jax.device_get(state)), report

    def layer_statistics(self, state: TrainState) -> dict[str, float]:
        """What a run that is refined for consistency records of every layer; else nothing."""
        if not self._refinement or not self._refinement.records:
            return {}
        return self._refinement.statistics(jax.device_get(state.params))

    def zero_metrics(self):
        """Sums over no steps, on every device."""
        return self.place(zero_metrics())

    def order(self, epoch: int) -> jax.Array:
        """The training images in the order in which `epoch` shows them."""
        key = jax.random.fold_in(self._key, 1)

        def permute(_, epoch):
            return jax.random.permutation(jax.random.fold_in(key, epoch), self.num_train)

        return self._call(permute, "order", (), np.int32(epoch))

    def run(self, state: TrainState, totals, order, num_steps: int):
        """`num_steps` steps of one epoch, and the metrics summed on; donates state and totals."""
        function = functools.partial(self._run, num_steps=num_steps)
        return self._call(function, ("run", num_steps), (state, totals), (*self._train, order))

    def evaluate(self, state: TrainState) -> tuple[float, float]:
        """(mean loss, accuracy) over the whole test set, each image counted once."""
        rows = len(self._eval_indices) if self.loops_on_device else 1
        totals = self.zero_metrics()
        for start in range(0, len(self._eval_indices), rows):
            part = slice(start, start + rows)
            kept = (state, *self._test, self._eval_indices[part], self._eval_mask[part])
            totals = self._call(self._evaluate, "evaluate", totals, kept)
        return means(jax.device_get(totals))

    def _share(self, batch_size):
        """(start, size) of this device's part of a batch."""
        size = batch_size // self._devices
        return lax.axis_index(AXIS) * size, size

    def _run(self, state_and_totals, data_and_order, *, num_steps):
        images, labels, order = data_and_order
        batch_size = self.config.batch_size
        start, size = self._share(batch_size)
        pad = images.shape[1] // 8  # 4 at 32 pixels

        def step(carry, _):
            state, totals = carry
            key = jax.random.fold_in(jax.random.fold_in(self._key, 2), state.step)
            key_augment, key_model = jax.random.split(key)
            position = (state.step % self.steps_per_epoch) * batch_size + start
            indices = lax.dynamic_slice(order, (position,), (size,))
            batch_images = images[indices]
            if self._augment != "none":
                # Drawn for the whole batch, so that it does not depend on the number of devices.
                offsets, flips = draw_augmentation(key_augment, batch_size, pad)
                if self._augment == "crop":
                    flips = jnp.zeros_like(flips)
                offsets = lax.dynamic_slice(offsets, (start, 0), (size, 2))
                flips = lax.dynamic_slice(flips, (start,), (size,))
                batch_images = augment(batch_images, offsets, flips, pad)
            batch = {
                "image": normalize(batch_images, self._mean, self._std),
                "label": labels[indices],
            }
            state, metrics = train_step(
                state,
                batch,
                key_model,
                model=self.model,
                optimizer=self._optimizer,
                label_smoothing=self.config.label_smoothing,
            )
            return (state, jax.tree.map(jnp.add, totals, metrics)), None

        if num_steps == 1:
            return step(state_and_totals, None)[0]
        return lax.scan(step, state_and_totals, length=num_steps)[0]

    def _evaluate(self, totals, kept):
        state, images, labels, indices, mask = kept
        start, size = self._share(indices.shape[1])

        def step(totals, part):
            indices, mask = (lax.dynamic_slice(x, (start,), (size,)) for x in part)
            batch = {
                "image": normalize(images[indices], self._mean, self._std),
                "label": labels[indices],
                "mask": mask,
            }
            metrics = eval_step(state, batch, model=self.model)
            return jax.tree.map(jnp.add, totals, metrics), None

        if indices.shape[0] == 1:
            return step(totals, (indices[0], mask[0]))[0]
        return lax.scan(step, totals, (indices, mask))[0]
