"""One run from its start to its last row: epochs of steps, evaluations, checkpoints."""

import math
import time
from typing import Any

import jax

from initjax import data
from initjax.support.environment import describe_environment
from initjax.support.errors import Interrupted, UserError
from initjax.support.files import write_whole
from initjax.training.checkpoints import Checkpoints
from initjax.training.config import Config
from initjax.training.objective import means
from initjax.training.progress import Reporter, folder_contents
from initjax.training.stopping import stop_signals
from initjax.training.trainer import Trainer
from initjax.training.workdir import alone_in, open_workdir


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
    folder = open_workdir(config)
    device = jax.local_devices()[0]
    with (
        alone_in(folder),
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
    with stop_signals(lambda: step > first_step) as stopped:
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
            loss, accuracy = means(jax.device_get(totals))
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
