"""Trains a network from a named initializer, or compares several starts.

    python launch.py --init=nspl --model=resnet32
    python launch.py --init='nspl(alpha=1.5, ratio=30)' --model=lenet --dataset=mnist --download
    python launch.py --init=orthogonal --refine=lsuv --model=convnet
    python launch.py --init=nspl,he_normal,he_uniform --model=resnet32 --seeds=10

Flags map one to one to `initjax.training.Config`; `python launch.py --help` lists them. Those that
name a start or a setting take several values, separated by commas outside of brackets; each is then
trained from each start and seed, and the starts are compared, with a report.
"""

import dataclasses
import os
import signal

if __name__ == "__main__":  # Ctrl-C while importing JAX, without which no `command` is
    signal.signal(signal.SIGINT, lambda *_: os.write(2, b"Stopped.\n") and os._exit(130))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the C++ log of JAX's own libraries

from absl import app, flags, logging

from initjax.comparison import grid, study
from initjax.support import command, compiling
from initjax.support.errors import UserError
from initjax.training import Config
from initjax.training.replicas import METHODS

_DEFINE = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    tuple[float, ...]: flags.DEFINE_list,
}


def define_flags() -> None:
    """One flag a field of Config, and those of a comparison."""
    for field in dataclasses.fields(Config):
        choices = field.metadata["choices"]
        text = field.metadata["help"] + (
            f" One of {', '.join(filter(None, choices))}." if choices else ""
        )
        if field.name in grid.SEVERAL:
            flags.DEFINE_string(field.name, str(field.default), text)
            continue
        default = list(map(str, field.default)) if field.name == "boundaries" else field.default
        _DEFINE[field.type](field.name, default, text)
    flags.DEFINE_string("seeds", "", "Compare over so many seeds (10: 0 to 9) or a list of them.")
    flags.DEFINE_string(
        "baseline", "", "Start that the others are compared with; empty: all pairs."
    )
    flags.DEFINE_float(
        "margin",
        None,
        "Accuracy difference without practical interest; default: half the sd from seed to seed.",
    )
    flags.DEFINE_boolean(
        "tune",
        False,
        "Choose each start's own learning rate first, of those given or of five around"
        " --learning_rate, on held-out training images and other seeds.",
    )
    flags.DEFINE_integer(
        "until_decided", 0, "Add seeds, up to so many, until each pair of starts is decided."
    )
    flags.DEFINE_string(
        "coordinator",
        "",
        "HOST:PORT of process 0, where several processes train together (docs/cluster.md); with"
        " --num_processes and --process_id.",
    )
    flags.DEFINE_integer("num_processes", None, "How many processes train together.")
    flags.DEFINE_integer("process_id", None, "Which of them this is: 0 to --num_processes - 1.")
    flags.DEFINE_boolean(
        "distributed",
        None,
        "Train together with the other processes of a TPU pod slice or of a job of SLURM, Open MPI"
        " or Kubernetes, which say all of this by themselves.",
    )
    flags.DEFINE_enum("population", "auto", METHODS, "How the runs of a comparison share it.")


def grid_from_flags() -> tuple[grid.Grid, bool]:
    """(the runs that the command line asks for, whether they are a comparison)."""
    names = [field.name for field in dataclasses.fields(Config)]
    given = {n: flags.FLAGS[n].value for n in names if flags.FLAGS[n].present}
    asked = flags.FLAGS.tune or flags.FLAGS.until_decided
    text = flags.FLAGS.seeds or ("5" if flags.FLAGS.until_decided and "seed" not in given else "")
    seeds = grid.read_seeds(text) if text else None
    if asked and seeds is None:
        seeds = [given.pop("seed", 0)]
    runs = grid.create_grid(given, seeds)
    return runs, seeds is not None or runs.number > 1


def config_from_flags() -> Config:
    """The Config that the command line asks for; a preset gives what it does not."""
    return grid_from_flags()[0].cells[0].config


def main(argv) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}: flags are of the form --name=value.")
    logging.set_verbosity(logging.WARNING)  # libraries' notes; what the run says is printed
    runs, is_comparison = grid_from_flags()
    from initjax import training  # after the flags: a wrong one is told at once
    from initjax.training import cluster

    training.keep_memory()
    compiling.remember_programs()
    f = flags.FLAGS
    with cluster.joined(f.coordinator, f.num_processes, f.process_id, f.distributed):
        run(runs, is_comparison)


def run(runs: grid.Grid, is_comparison: bool) -> None:
    """Trains, or compares."""
    from initjax import training
    from initjax.training.start import model_of

    if not is_comparison:
        config = runs.cells[0].config
        training.use_cpu_cores(config.batch_size, model_of(config, num_classes=1))
        training.train_and_evaluate(config)
        return
    training.use_cpu_cores()  # each run has one
    f = flags.FLAGS
    asked = study.Study.create(
        runs, baseline=f.baseline, margin=f.margin, tune=f.tune, until_decided=f.until_decided
    )
    study.run_in_folder(asked, f.workdir, f.population)


if __name__ == "__main__":
    define_flags()
    command.run(lambda: app.run(main, flags_parser=command.parse_absl_flags), resumes=True)
