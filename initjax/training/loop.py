"""One run from its start to its last row: epochs of steps, evaluations, checkpoints."""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any

import jax
import numpy as np

from initjax import data
from initjax.support.environment import describe_environment
from initjax.support.errors import Interrupted, UserError
from initjax.support.files import strict_json, write_whole
from initjax.training.checkpoints import Checkpoints
from initjax.training.config import Config
from initjax.training.devices import (
    Devices,
    check_same,
    is_first,
    load_in_all,
    reason_of_any,
    text_of_first,
)
from initjax.training.divergence import check_loss, check_state
from initjax.training.objective import DEFAULT_LOSS, METRICS, loss_of_zeros, means
from initjax.training.progress import (
    Follower,
    Listener,
    Quiet,
    Reporter,
    folder_contents,
)
from initjax.training.statistics import StatisticsLog
from initjax.training.step import TrainState
from initjax.training.stopping import stop_signals
from initjax.training.trainer import Trainer
from initjax.training.workdir import alone_in, open_workdir, save_data_facts

_OF_NAMED_MODELS = ("init", "dense_init", "bias_init", "activation", "precision")


def train(
    model: Any,
    dataset: Any,
    *,
    reporter: Listener | None = None,
    variables: Any = None,
    order: Callable[[int], Any] | None = None,
    record: Callable[[int, TrainState], dict[str, float]] | None = None,
    evaluate: bool = True,
    stop_at_nan: bool = True,
    devices: Devices | None = None,
    **settings: Any,
) -> tuple[list[dict[str, Any]], TrainState]:
    """Trains once, in memory and in silence.

    >>> from initjax.models import create_model
    >>> model = create_model("mlp(width=16)", kernel_init="he_normal")
    >>> rows, state = train(model, "digits", epochs=2, batch_size=64)
    >>> [row["step"] for row in rows]
    [22, 44]

    Args:
      model: a name, such as "resnet32", or any Flax Linen module: float32 images [B, H, W, C] to
        logits [B, num_classes]. It is told `train=True` in training steps if it takes that. One
        with batch normalization has, on several devices, a field `axis_name` for it. Dropout draws
        from the stream "dropout". Side heads that it sows in "auxiliary_logits" are trained too.
      dataset: a name, a `Dataset`, or arrays (train_images, train_labels, test_images, test_labels)
        as `initjax.data.from_arrays` takes them.
      reporter: who is told how it goes on; None: nobody.
      variables: {"params": ..., "batch_stats": ...} to start from; None: what `model.init` draws.
      order: epoch -> indices of all training images in the order in which it shows them; None: a
        permutation drawn from the seed.
      record: (step, state) -> what else a row holds.
      evaluate: False leaves the test set to the last row.
      stop_at_nan: False goes on where the loss is no number, as a study of starts may want.
      devices: which share a batch; None: all of them, in all processes of the job, each of which
        makes this call.
      **settings: fields of `Config`, as the flags of launch.py: learning_rate, epochs or steps,
        batch_size, optimizer, seed, init_from, refine, eval_every, ...; for a model by name init,
        too.

    Returns:
      (rows, state): the rows as in metrics.jsonl, and the last state, on the host; `state.params`
      and `state.batch_stats` are the variables of the trained model.

    Raises:
      UserError (a ValueError): settings, data, or a loss that is no number.
    """
    by_name = isinstance(model, str)
    in_folder = ("workdir", "record_statistics")
    for name in (*in_folder, *(() if by_name else _OF_NAMED_MODELS)):
        if settings.get(name):
            why = "train keeps no folder" if name in in_folder else "the model given has its own"
            raise UserError(f"{name}={settings[name]!r}: {why}.")
    config = Config.create(**settings, **({"model": model} if by_name else {}))
    if isinstance(dataset, str):
        config = dataclasses.replace(config, dataset=dataset)
        dataset = _load(config)
    elif not isinstance(dataset, data.Dataset):
        dataset = data.from_arrays(*dataset)
    trainer = Trainer(config, dataset, None if by_name else model, devices)
    if order and trainer.feed.streams:
        raise UserError(f"{dataset.name} is streamed in the order of the seed; give no other.")
    listener = Quiet() if reporter is None else reporter
    state = trainer.create_state(variables)
    if config.init_from:
        state, _ = trainer.warm_start(state)
    if config.refine:
        state, report = trainer.refine(state)
        listener.say(str(report))
    rows, state = run_steps(
        trainer,
        state,
        trainer.zero_metrics(),
        listener,
        order=order and (lambda epoch: trainer.place(np.asarray(order(epoch), np.int32))),
        record=record,
        evaluate=evaluate,
        stop_at_nan=stop_at_nan,
    )
    return rows, jax.device_get(state)


def train_and_evaluate(config: Config) -> dict[str, Any]:
    """Trains as `config` says, or goes on where its folder's last checkpoint stands.

    Each process of a job makes this call. The first one alone writes and reads the folder; the
    others get from it what it resumes from.

    Returns:
      The last row of metrics.jsonl: step, epoch, train_loss, train_accuracy, eval_loss,
      eval_accuracy, images_per_second, seconds.

    Raises:
      UserError: the settings, the data, the folder or a loss that is no number.
      Interrupted: Ctrl-C, SIGTERM or SIGHUP; the state is saved.
    """
    check_same("settings", config.settings())
    dataset = load_in_all(lambda: _load(config))
    trainer = Trainer(config, dataset)
    with ExitStack() as stack:
        checks = []  # that the folder is still the one that was opened, where this process has it

        def opened():
            folder = open_workdir(config)
            save_data_facts(folder, dataset)
            checks.append(stack.enter_context(alone_in(folder)))
            return str(folder)

        def check():
            for there in checks:
                there()

        folder = pathlib.Path(text_of_first(opened))
        checkpoints = stack.enter_context(Checkpoints(folder / "checkpoints", config.settings()))
        reporter = stack.enter_context(
            Reporter(folder, trainer.total_steps, trainer.steps_per_epoch, check)
            if is_first()
            else Follower()
        )
        reporter.say(
            f"{dataset.name}: {len(dataset.train_labels)} training and {len(dataset.test_labels)}"
            f" test images of {'x'.join(map(str, dataset.train_images.shape[1:]))},"
            f" {dataset.num_classes} classes{', streamed' if trainer.feed.streams else ''}"
        )
        state, totals = trainer.create_state(), trainer.zero_metrics()
        count = sum(x.size for x in jax.tree.leaves(state.params))
        reporter.say(
            f"{config.model} from {config.init}: {count:,} parameters, {trainer.total_steps} steps"
            f" on {trainer.devices}, {config.precision}"
        )
        reporter.say(f"repeat with: {config.command()}")
        log = StatisticsLog(folder, trainer, reporter) if config.record_statistics else None
        like = {"state": state, "totals": totals} | ({"logged": state.params} if log else {})
        restored = checkpoints.restore_latest(like, reporter.say)
        if restored:
            state, totals = trainer.place(restored["state"]), trainer.place(restored["totals"])
            reporter.say(f"resumed at step {int(state.step)} from {folder}")
        if not restored and config.init_from:
            state, report = trainer.warm_start(state)
            text = strict_json(report | {"environment": describe_environment()}, indent=2)
            if is_first():
                write_whole(folder / "init_from.json", text + "\n")
            origins = report["origins"].values()
            reporter.say(
                f"{sum(map(bool, origins))} of {len(origins)} arrays from {config.init_from}"
            )
        if not restored and config.refine:
            reporter.say(f"refining the initial weights by {config.refine}")
            state, report = trainer.refine(state)
            text = report.to_json(environment=describe_environment())
            if is_first():
                write_whole(folder / "refine.json", text + "\n")
            reporter.say(str(report))
        expected = config.evaluation_steps(trainer.steps_per_epoch, int(state.step))
        reporter.resume(int(state.step), expected)
        if log and restored:
            log.resume(int(state.step), restored["logged"], expected)
        elif log:
            log.begin(state)

        def save(step, tree):
            check()
            checkpoints.save(step, tree | ({"logged": log.params} if log else {}))

        if int(state.step) < trainer.total_steps:
            reporter.say("compiling the training step")
            seconds = reporter.rows[-1]["seconds"] if reporter.rows else 0.0
            run_steps(
                trainer,
                state,
                totals,
                reporter,
                seconds=seconds,
                save=save,
                record=log.record if log else None,
            )
        if not is_first():
            return reporter.rows[-1] if reporter.rows else {}
        if not reporter.rows or reporter.rows[-1]["step"] < trainer.total_steps:
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


def run_steps(
    trainer: Trainer,
    state: TrainState,
    totals,
    listener: Listener,
    *,
    seconds: float = 0.0,
    save: Callable[[int, Any], None] | None = None,
    order: Callable[[int], Any] | None = None,
    record: Callable[[int, TrainState], dict[str, float]] | None = None,
    evaluate: bool = True,
    stop_at_nan: bool = True,
) -> tuple[list[dict[str, Any]], TrainState]:
    """The loop: epochs of steps, with a row and a checkpoint every so often.

    Args:
      trainer: the programs.
      state: where the run stands; donated.
      totals: the metrics summed since the last row; donated.
      listener: who is told.
      seconds: that went by up to the last row before.
      save: (step, {"state", "totals"}) keeps them; with it, the signals of `stop_signals` save and
        stop.
      order, record, evaluate, stop_at_nan: as in `train`.

    Returns:
      (the rows from here on, the state after the last step).
    """
    order_of = order or trainer.order
    per_epoch, last_step = trainer.steps_per_epoch, trainer.total_steps
    eval_steps = trainer.config.evaluation_interval(per_epoch)
    batch_size = trainer.config.batch_size
    step = first_step = int(state.step)
    clock = time.perf_counter
    start = clock() - seconds
    rows: list[dict[str, Any]] = []
    training_seconds, images = 0.0, 0
    if step % per_epoch:
        shown = order_of(step // per_epoch)

    def keep():
        tree = jax.device_get({"state": state, "totals": totals})
        check_state(tree["state"], trainer.config, step, last_step)
        save(step, tree)

    trainer.compile_evaluation(state)
    # Where nothing can be saved, Ctrl-C is Python's own.
    signals = stop_signals(lambda: step > first_step) if save else nullcontext(lambda: None)
    with signals as stopped:
        while step < last_step:
            if step % per_epoch == 0:
                shown = order_of(step // per_epoch)
            num_steps = 1
            if trainer.loops_on_device:  # up to whatever comes first
                num_steps = min(
                    per_epoch - step % per_epoch, eval_steps - step % eval_steps, last_step - step
                )
            began, compiling = clock(), trainer.compile_seconds
            state, totals = trainer.run(state, totals, shown, num_steps)
            # Waits for the step: too many in flight can block CPU devices.
            found = _named(means(jax.device_get(totals)))
            training_seconds += clock() - began - (trainer.compile_seconds - compiling)
            step += num_steps
            taken = range(step - num_steps + 1, step + 1)
            images += num_steps * batch_size
            speed = images / training_seconds
            if stop_at_nan:
                check_loss("training", found["loss"], state, trainer.config, taken, last_step)
            if step == 1:  # on accelerators a program takes more steps than the first
                listener.say(_first_loss(trainer, found["loss"]))
            listener.progress(step, found["loss"], found["accuracy"], speed)
            if step % eval_steps == 0 or step == last_step:
                tested = {}
                if evaluate or step == last_step:
                    tested = _named(trainer.evaluate(state))
                    if stop_at_nan:
                        check_loss("test", tested["loss"], state, trainer.config, taken, last_step)
                row = _row(step, step / per_epoch, found, tested, speed, clock() - start)
                row |= trainer.layer_statistics(state)
                if record:
                    row |= record(step, state)
                rows.append(row)
                listener.evaluation(row)
                totals = trainer.zero_metrics()
                training_seconds, images = 0.0, 0
                if save:
                    keep()
            if save and (reason := reason_of_any(stopped())):
                keep()
                raise Interrupted(
                    f"{reason.name}: stopped at step {step} of {last_step}, which is saved.", reason
                )
    return rows, state


def _first_loss(trainer, loss) -> str:
    """What the first batch says of the initial weights, in a line."""
    config, num_classes = trainer.config, trainer.num_classes
    zeros = loss_of_zeros(num_classes, config.label_smoothing, config.loss)
    name = f", ln {num_classes}" if config.loss == DEFAULT_LOSS else ""
    line = f"loss at step 0: {loss:.4f}; a head of zeros has {zeros:.4f}{name}"
    # Logits N(0, s^2) add s^2 / 2.
    return line if loss < zeros + 0.5 else f"{line}: a smaller last layer would begin nearer"


def _load(config):
    return data.load(
        config.dataset,
        config.data_dir or None,
        config.image_size or None,
        config.download,
        config.stream or None,
    )


def _named(values) -> dict[str, float]:
    return dict(zip(METRICS, values, strict=True))


def _row(step, epoch, trained, tested, images_per_second, seconds) -> dict[str, Any]:
    """One row of metrics.jsonl."""
    return {
        "step": step,
        "epoch": epoch,
        **{f"train_{name}": value for name, value in trained.items()},
        **{f"eval_{name}": value for name, value in tested.items()},
        "images_per_second": images_per_second,
        "seconds": seconds,
    }
