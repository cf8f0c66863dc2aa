"""Trains a network from a named initializer.

    python launch.py --init=nspl --model=resnet32
    python launch.py --init='nspl(alpha=1.5, ratio=30)' --model=lenet --dataset=mnist --download
    python launch.py --init=orthogonal --refine=lsuv --model=convnet

Flags map one to one to `initjax.training.Config`; `python launch.py --help` lists them.
"""

import dataclasses
import os
import signal

if __name__ == "__main__":  # Ctrl-C while importing JAX, without which no `command` is
    signal.signal(signal.SIGINT, lambda *_: os.write(2, b"Stopped.\n") and os._exit(130))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the C++ log of JAX's own libraries

from absl import app, flags, logging

from initjax.support import command, compiling
from initjax.support.errors import UserError
from initjax.training import Config

_DEFINE = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    tuple[float, ...]: flags.DEFINE_list,
}


def define_flags() -> None:
    """One flag a field of Config."""
    for field in dataclasses.fields(Config):
        choices = field.metadata["choices"]
        text = field.metadata["help"] + (
            f" One of {', '.join(filter(None, choices))}." if choices else ""
        )
        default = list(map(str, field.default)) if field.name == "boundaries" else field.default
        _DEFINE[field.type](field.name, default, text)


def config_from_flags() -> Config:
    """The Config that the command line asks for; a preset gives what it does not."""
    names = [field.name for field in dataclasses.fields(Config)]
    return Config.create(**{n: flags.FLAGS[n].value for n in names if flags.FLAGS[n].present})


def _is_for_the_user(record) -> bool:
    """Not Orbax's advice to programmers, such as to save less often."""
    return "orbax" not in record.pathname or record.levelno >= logging.converter.STANDARD_ERROR


def main(argv) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}: flags are of the form --name=value.")
    logging.set_verbosity(logging.WARNING)  # libraries' notes; what the run says is printed
    logging.get_absl_logger().addFilter(_is_for_the_user)
    config = config_from_flags()
    from initjax import training  # after the flags: a wrong one is told at once
    from initjax.training.start import model_of

    training.keep_memory()
    compiling.remember_programs()
    training.use_cpu_cores(config.batch_size, model_of(config, num_classes=1))
    training.train_and_evaluate(config)


if __name__ == "__main__":
    define_flags()
    command.run(lambda: app.run(main, flags_parser=command.parse_absl_flags), resumes=True)
