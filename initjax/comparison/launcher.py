"""The launcher's flags, what they ask for, and its help: launch.py, or `initjax train`.

Flags map one to one to `initjax.training.Config`, and those of a comparison come on top.
"""

import dataclasses
import json
import re
import textwrap
from typing import Any

from absl import app, flags, logging

from initjax.comparison import grid, study
from initjax.support import command, compiling
from initjax.support.errors import UserError
from initjax.support.files import user_path
from initjax.training import Config, cluster, keep_memory, train_and_evaluate, use_cpu_cores
from initjax.training.replicas import METHODS
from initjax.training.start import model_of

EXAMPLES = """\
  {command} --init=nspl --model=resnet32
  {command} --init='nspl(alpha=1.5, ratio=30)' --model=lenet --dataset=mnist --download
  {command} --init=orthogonal --refine=lsuv --model=convnet
  {command} --init=nspl,he_normal,he_uniform --model=resnet32 --seeds=10"""

# What stands together in --help; every flag is in one of these, which a test holds.
GROUPS = {
    "The start": ("init", "dense_init", "bias_init", "init_from", "refine"),
    "The network": (
        "model",
        "activation",
        "parametrization",
        "base_width",
        "base_depth",
        "precision",
    ),
    "The data": ("dataset", "data_dir", "download", "stream", "image_size", "augment"),
    "How it is trained": (
        "preset",
        "epochs",
        "steps",
        "batch_size",
        "loss",
        "label_smoothing",
        "optimizer",
        "learning_rate",
        "learning_rate_rules",
        "momentum",
        "nesterov",
        "weight_decay",
        "decayed",
        "schedule",
        "boundaries",
        "warmup_steps",
        "warmup_epochs",
        "seed",
    ),
    "A comparison of starts": (
        "seeds",
        "baseline",
        "margin",
        "tune",
        "until_decided",
        "population",
    ),
    "Several processes": ("coordinator", "num_processes", "process_id", "distributed"),
    "What is kept": (
        "workdir",
        "config",
        "eval_every",
        "record_statistics",
        "compilation_cache",
    ),
}

_DEFINE = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    tuple[float, ...]: flags.DEFINE_list,
}
_METAVARS = {str: "TEXT", int: "INTEGER", float: "NUMBER", tuple[float, ...]: "NUMBERS"}


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
    flags.DEFINE_string(
        "config",
        "",
        "A run's config.json: its settings are the defaults of all other flags; of --workdir not.",
    )
    flags.DEFINE_boolean(
        "compilation_cache",
        True,
        "Keep compiled programs under the cache folder, for the next run of the same shapes.",
    )


def help_text() -> str:
    """What --help says, after `define_flags`: the flags by group, with their defaults."""
    lines = ["Trains a network from a named initializer, or compares several starts.", ""]
    lines += [EXAMPLES, ""]
    lines += textwrap.wrap(
        "Flags that name a start or a setting and are marked with [,...] take several values,"
        " separated by commas outside of brackets; each is then trained from each start and seed,"
        " and the starts are compared, with a report.",
        98,
    )
    types = {field.name: field.type for field in dataclasses.fields(Config)}
    for title, names in GROUPS.items():
        lines += ["", f"{title}:"]
        for name in names:
            flag = flags.FLAGS[name]
            kind = types.get(name, {"float": float, "int": int}.get(flag.flag_type(), str))
            several = "[,...]" * (name in grid.SEVERAL)
            shown = f"--{name}={_METAVARS.get(kind)}{several}"
            if flag.boolean:
                shown = f"--[no]{name}"
            default = flag.default
            if isinstance(default, bool):
                default = "on" if default else "off"
            elif isinstance(default, list):
                default = ",".join(default)
            text = re.sub("^<.*?>: ", "", flag.help) + (f" (default: {default})" if default else "")
            lines.append(f"  {shown}")
            lines += textwrap.wrap(text, 98, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines) + "\n"


def read_config(path: str) -> dict[str, Any]:
    """The settings that a run's config.json holds, as flags; all but where the run lay.

    Raises:
      UserError (a ValueError): there is no such file, or it is none of a run.
    """
    try:
        saved = json.loads(user_path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise UserError(f"--config={path} cannot be read: {reason}.") from None
    names = {field.name for field in dataclasses.fields(Config)}
    if not isinstance(saved, dict) or not saved.keys() <= names or "init" not in saved:
        raise UserError(f"--config={path} is no config.json of a run.")
    saved = {name: value for name, value in saved.items() if name != "workdir"}
    saved.pop("steps" if not saved.get("steps") else "epochs", None)
    saved = {name: value for name, value in saved.items() if name in names}
    texts = (name for name in saved if name in grid.SEVERAL and not isinstance(saved[name], bool))
    return saved | {name: str(saved[name]) for name in texts}


def grid_from_flags() -> tuple[grid.Grid, bool]:
    """(the runs that the command line asks for, whether they are a comparison)."""
    names = [field.name for field in dataclasses.fields(Config)]
    given = {n: flags.FLAGS[n].value for n in names if flags.FLAGS[n].present}
    if flags.FLAGS.config:
        saved = read_config(flags.FLAGS.config)
        for mine, other in (("epochs", "steps"), ("steps", "epochs")):
            if mine in given:
                saved.pop(other, None)
        if flags.FLAGS.seeds:
            saved.pop("seed", None)
        given = saved | given
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


def main(argv: list[str]) -> None:
    """Trains or compares, as the parsed flags say."""
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}: flags are of the form --name=value.")
    logging.set_verbosity(logging.WARNING)  # libraries' notes; what the run says is printed
    runs, is_comparison = grid_from_flags()
    keep_memory()
    if flags.FLAGS.compilation_cache:
        compiling.remember_programs()
    f = flags.FLAGS
    with cluster.joined(f.coordinator, f.num_processes, f.process_id, f.distributed):
        train_or_compare(runs, is_comparison)


def train_or_compare(runs: grid.Grid, is_comparison: bool) -> None:
    """One run, or the comparison that the flags ask for."""
    if not is_comparison:
        config = runs.cells[0].config
        use_cpu_cores(config.batch_size, model_of(config, num_classes=1))
        train_and_evaluate(config)
        return
    use_cpu_cores()  # each run has one
    f = flags.FLAGS
    asked = study.Study.create(
        runs, baseline=f.baseline, margin=f.margin, tune=f.tune, until_decided=f.until_decided
    )
    study.run_in_folder(asked, f.workdir, f.population)


def run() -> None:
    """The command that this process is."""
    define_flags()
    command.run(lambda: app.run(main, flags_parser=command.parse_absl_flags), resumes=True)
