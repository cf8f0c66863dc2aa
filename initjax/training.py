"""Train one network; the only file that maps over devices.

`train_step` and `eval_step` are pure functions of one device, which reduce over the axis "batch".
`Trainer` maps them over the local devices with `jax.pmap`. The data lie on every device as uint8;
each device gathers its share of a batch, by its index, from an order that all of them know, so that
the numbers of a run do not depend on how many devices compute them, but for rounding. Whatever is
random is folded from (seed, epoch) or (seed, step): a run that resumes repeats what it would have
done.
"""

import contextlib
import functools
import json
import math
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from initjax import data
from initjax.checkpoints import Checkpoints
from initjax.config import Config
from initjax.environment import describe_environment
from initjax.errors import Interrupted, UserError
from initjax.files import strict_json, user_path, write_whole
from initjax.models import create_model
from initjax.optimizers import create_optimizer
from initjax.refine import Refinement
from initjax.reporting import Reporter, folder_contents

AXIS = "batch"
_EVAL_BATCH = 512


@flax.struct.dataclass
class TrainState:
    """What a training step changes."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any


def use_cpu_cores(batch_size: int) -> None:
    """Makes XLA see up to 8 CPU devices, a power of two that divides the batch, one a core.

    Two devices on two cores train a ResNet-32 up to 1.4 times faster than one, because many of
    XLA's CPU operations use one core only. Has no effect on GPUs and TPUs, nor where the
    environment already sets the number. Call it before anything else uses JAX.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "device_count" in flags or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    number = max(n for n in (1, 2, 4, 8) if n <= max(cores, 1) and batch_size % n == 0)
    jax.config.update("jax_num_cpu_devices", number)


def loss_and_metrics(logits, labels, mask, label_smoothing: float = 0.0):
    """Summed cross-entropy and the counts that its mean and the accuracy need.

    Args:
      logits: [B, num_classes] float32.
      labels: [B] int.
      mask: [B] bool; what is not in it counts as nothing.
      label_smoothing: probability spread evenly over all classes.

    Returns:
      {"loss": summed cross-entropy, "correct": int, "count": int}.
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    losses = optax.softmax_cross_entropy(logits, targets)
    correct = (logits.argmax(-1) == labels) & mask
    return {
        "loss": jnp.where(mask, losses, 0.0).sum(),
        "correct": correct.sum(),
        "count": mask.sum(),
    }


def train_step(state: TrainState, batch, key, *, model, optimizer, label_smoothing=0.0):
    """One step on one device's share of a batch.

    Args:
      state: the same on every device.
      batch: {"image": [B, H, W, C] float32, "label": [B] int}, this device's share.
      key: the step's key, the same on every device; a dropout layer gets a part of it.
      model: Flax module; optimizer: optax transformation.
      label_smoothing: as in `loss_and_metrics`.

    Returns:
      (state, metrics), the same on every device; metrics are sums over the whole batch.
    """
    mask = jnp.ones(batch["label"].shape, bool)
    dropout_key = jax.random.fold_in(key, lax.axis_index(AXIS))

    def loss_fn(params):
        logits, updates = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch["image"],
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        metrics = loss_and_metrics(logits, batch["label"], mask, label_smoothing)
        return metrics["loss"] / metrics["count"], (updates, metrics)

    grads, (updates, metrics) = jax.grad(loss_fn, has_aux=True)(state.params)
    # One reduction of one vector: a hundred small ones are 11 times slower on CPU devices.
    flat, unravel = ravel_pytree(grads)
    grads = unravel(lax.pmean(flat, AXIS))
    deltas, opt_state = optimizer.update(grads, state.opt_state, state.params)
    state = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, deltas),
        # Already shared: batch normalization reduces over the same axis.
        batch_stats=updates.get("batch_stats", {}),
        opt_state=opt_state,
    )
    return state, lax.psum(metrics, AXIS)


def eval_step(state: TrainState, batch, *, model):
    """Metrics of one device's share of a batch, summed over all devices; see `loss_and_metrics`."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = model.apply(variables, batch["image"])
    return lax.psum(loss_and_metrics(logits, batch["label"], batch["mask"]), AXIS)


def _zero_metrics():
    return {"loss": jnp.float32(0), "correct": jnp.int32(0), "count": jnp.int32(0)}


def _means(metrics) -> tuple[float, float]:
    """(mean loss, accuracy) of summed metrics."""
    loss, correct, count = (float(metrics[name]) for name in ("loss", "correct", "count"))
    return loss / max(count, 1), correct / max(count, 1)


class Trainer:
    """The compiled programs of one run, mapped over the local devices.

    On GPU and TPU several steps are one `lax.scan`; on CPU every step is a call, since XLA there
    runs convolutions inside a loop 25 times slower.
    """

    def __init__(self, config: Config, dataset: data.Dataset):
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
            self._augment = data.default_augmentation(dataset.name)
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
        eval_batch = min(_EVAL_BATCH, len(dataset.test_labels))
        eval_batch = -(-eval_batch // self._devices) * self._devices
        self._eval_indices, self._eval_mask = data.evaluation_indices(
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
            self._compiled[name] = _compile(self._map(function).lower(*args))
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
        return self.place(_zero_metrics())

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
        return _means(jax.device_get(totals))

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
                offsets, flips = data.draw_augmentation(key_augment, batch_size, pad)
                if self._augment == "crop":
                    flips = jnp.zeros_like(flips)
                offsets = lax.dynamic_slice(offsets, (start, 0), (size, 2))
                flips = lax.dynamic_slice(flips, (start,), (size,))
                batch_images = data.augment(batch_images, offsets, flips, pad)
            batch = {
                "image": data.normalize(batch_images, self._mean, self._std),
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
                "image": data.normalize(images[indices], self._mean, self._std),
                "label": labels[indices],
                "mask": mask,
            }
            metrics = eval_step(state, batch, model=self.model)
            return jax.tree.map(jnp.add, totals, metrics), None

        if indices.shape[0] == 1:
            return step(totals, (indices[0], mask[0]))[0]
        return lax.scan(step, totals, (indices, mask))[0]


def _compile(lowered):
    """`lowered.compile()`, in another thread, because in its own Python would see no Ctrl-C."""
    outcome = {}

    def target():
        try:
            outcome["compiled"] = lowered.compile()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["compiled"]


@contextlib.contextmanager
def _stop_signals(worth_saving: Callable[[], bool]):
    """A function that tells of Ctrl-C or SIGTERM.

    A second one, or one while nothing is worth saving, ends the process at once.
    """
    came = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only the main thread can catch signals
        return

    def handle(number, frame):
        signal.signal(number, previous[number])
        if not worth_saving():
            signal.raise_signal(number)
            return
        came.append(signal.Signals(number).name)
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nStopping after this step; once more to stop at once.\n")

    previous = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: came[0] if came else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _open_workdir(config: Config) -> pathlib.Path:
    """Makes the run's folder, or checks that the one there is of the same run."""
    folder = user_path(config.workdir or pathlib.Path("runs") / config.run_name())
    saved = folder / "config.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not saved.exists():
            # Not in config.json: the same run may go on elsewhere, or by a later commit.
            text = strict_json(describe_environment(), indent=2)
            write_whole(folder / "environment.json", text + "\n")
            write_whole(saved, config.to_json() + "\n")
        old = json.loads(saved.read_text())
        (folder / "metrics.jsonl").open("a").close()
        if not isinstance(old, dict):
            raise ValueError
    except ValueError:
        raise UserError(f"{saved} is not a configuration.\nPass another --workdir.") from None
    except OSError as error:
        raise UserError(
            f"--workdir: {folder} cannot be written: {error.strerror}.\nPass another --workdir."
        ) from None
    mine = json.loads(config.to_json())
    if different := config.same_run(old):
        shown = ", ".join(f"{n}: {old.get(n)!r} there, {mine.get(n)!r} now" for n in different[:3])
        raise UserError(
            f"{folder} holds a run with other settings ({shown}).\nPass another --workdir."
        )
    return folder


@contextlib.contextmanager
def _alone_in(folder: pathlib.Path):
    """Holds the run's folder, so that the same command given twice does not mix two runs."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / "config.json").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"Another process is training in {folder}.\nWait for it, or pass another --workdir."
            ) from None
        except OSError:
            pass  # a file system without locks
        yield


def train_and_evaluate(config: Config) -> dict[str, Any]:
    """Trains as `config` says, or goes on where its folder's last checkpoint stands.

    Returns:
      The last row of metrics.jsonl: step, epoch, train_loss, train_accuracy, eval_loss,
      eval_accuracy, images_per_second, seconds.

    Raises:
      UserError: the settings, the data, the folder or a loss that is no number.
      Interrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    dataset = data.load(
        config.dataset, config.data_dir or None, config.image_size or None, config.download
    )
    trainer = Trainer(config, dataset)
    folder = _open_workdir(config)
    device = jax.local_devices()[0]
    with (
        _alone_in(folder),
        Checkpoints(folder / "checkpoints") as checkpoints,
        Reporter(folder, trainer.total_steps, trainer.steps_per_epoch) as reporter,
    ):
        reporter.say(
            f"{dataset.name}: {len(dataset.train_labels)} training and {len(dataset.test_labels)}"
            f" test images of {'x'.join(map(str, dataset.train_images.shape[1:]))},"
            f" {dataset.num_classes} classes"
        )
        state, totals = trainer.create_state(), trainer.zero_metrics()
        count = sum(x.size for x in jax.tree.leaves(state.params))
        reporter.say(
            f"{config.model} from {config.init}: {count:,} parameters, {trainer.total_steps} steps"
            f" on {jax.local_device_count()} x {device.device_kind}, {config.precision}"
        )
        reporter.say(f"repeat with: {config.command()}")
        restored = checkpoints.restore_latest({"state": state, "totals": totals}, reporter.say)
        if restored:
            state, totals = trainer.place(restored["state"]), trainer.place(restored["totals"])
            reporter.say(f"resumed at step {int(state.step)} from {folder}")
        elif config.refine:
            reporter.say(f"refining the initial weights by {config.refine}")
            state, report = trainer.refine(state)
            text = report.to_json(environment=describe_environment())
            write_whole(folder / "refine.json", text + "\n")
            reporter.say(str(report))
        reporter.resume(int(state.step))
        _train(trainer, state, totals, checkpoints, reporter)
        if not reporter.rows:
            raise UserError(
                f"The run in {folder} is finished, but its metrics.jsonl has lost its rows.\n"
                "Delete the folder to train again."
            )
        reporter.draw(f"{config.model} from {config.init} on {config.dataset}")
        last = reporter.rows[-1]
        test_images = len(dataset.test_labels)
    print(
        f"test accuracy {last['eval_accuracy']:.4f}"
        f" ({round(last['eval_accuracy'] * test_images)} of {test_images}) after {last['step']}"
        f" steps, {last['seconds']:.0f} s; in {folder}: {', '.join(folder_contents(folder))}"
    )
    return last


def _train(trainer, state, totals, checkpoints, reporter):
    """The loop: epochs of steps, with an evaluation and a checkpoint every so often."""
    per_epoch, last_step = trainer.steps_per_epoch, trainer.total_steps
    eval_steps = max(round(trainer.config.eval_every * per_epoch), 1)
    batch_size = trainer.config.batch_size
    step = first_step = int(state.step)
    if step >= last_step:
        return
    clock = time.perf_counter
    start = clock() - (reporter.rows[-1]["seconds"] if reporter.rows else 0.0)
    training_seconds, images = 0.0, 0
    reporter.say("compiling the training step")
    order = trainer.order(step // per_epoch)
    with _stop_signals(lambda: step > first_step) as stopped:
        while step < last_step:
            if step % per_epoch == 0:
                order = trainer.order(step // per_epoch)
            num_steps = 1
            if trainer.loops_on_device:  # up to whatever comes first
                num_steps = min(
                    per_epoch - step % per_epoch, eval_steps - step % eval_steps, last_step - step
                )
            began, compiling = clock(), trainer.compile_seconds
            state, totals = trainer.run(state, totals, order, num_steps)
            # Waits for the step: too many in flight can block CPU devices.
            loss, accuracy = _means(jax.device_get(totals))
            training_seconds += clock() - began - (trainer.compile_seconds - compiling)
            step += num_steps
            images += num_steps * batch_size
            _check_loss("training", loss, trainer, step)
            reporter.progress(step, loss, accuracy, images / training_seconds)
            if step % eval_steps == 0 or step == last_step:
                eval_loss, eval_accuracy = trainer.evaluate(state)
                _check_loss("test", eval_loss, trainer, step)
                reporter.evaluation(
                    {
                        "step": step,
                        "epoch": step / per_epoch,
                        "train_loss": loss,
                        "train_accuracy": accuracy,
                        "eval_loss": eval_loss,
                        "eval_accuracy": eval_accuracy,
                        "images_per_second": images / training_seconds,
                        "seconds": clock() - start,
                        **trainer.layer_statistics(state),
                    }
                )
                totals = trainer.zero_metrics()
                training_seconds, images = 0.0, 0
                checkpoints.save(step, {"state": state, "totals": totals})
            if reason := stopped():
                checkpoints.save(step, {"state": state, "totals": totals})
                raise Interrupted(
                    f"{reason}: stopped at step {step} of {last_step}, which is saved."
                )


def _check_loss(split, loss, trainer, step):
    """Raises a UserError for a loss that is no number, before anything of it is saved."""
    if not math.isfinite(loss):
        raise UserError(
            f"The {split} loss is {loss} at step {step} of {trainer.total_steps}; what was saved"
            f" before is kept.\nTry a lower --learning_rate than"
            f" {trainer.config.learning_rate:g}, or more --warmup_steps."
        )
