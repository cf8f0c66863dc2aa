"""What every command answers, whatever it does: errors, Ctrl-C, a closed pipe, --help.

A command's `main` raises what went wrong, inside `answers`; run by a shell, it is started by `run`:

    an error of the user or of a file   "error: ..." on stderr, exit 1
    a device or a machine out of memory the same
    Ctrl-C                              a line on stderr, exit 130, while importing too
    a run that saved and stopped        its message on stderr, exit 128 and the signal's number, as
                                        shells and schedulers know it: 130 of Ctrl-C, 143 of
                                        SIGTERM, 129 of SIGHUP
    a closed pipe, as in `... | head`   nothing, exit 141
    --help                              exit 0
"""

import argparse
import contextlib
import difflib
import os
import pathlib
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TextIO

from initjax.support.errors import Interrupted, UserError
from initjax.support.extras import MissingExtra, brings
from initjax.support.files import user_path
from initjax.support.text import first_line, printable

_PATIENCE = 2.0  # seconds from Ctrl-C to the end, if something swallows the KeyboardInterrupt


_subcommand: list[str] = []  # as `fit` in `initjax fit`; it is no argument of the command

# The command that a module is.
_MODULES = {"comparison": "compare", "fit": "fit", "signal": "signal", "names": "names"}


def is_starting() -> bool:
    """Whether `python -m initjax...` is importing this package on its way to a command."""
    return sys.argv[:1] == ["-m"] and _module().partition(".")[0] == "initjax"


def _module() -> str:
    """What `python -m` was asked for."""
    if "-m" not in sys.orig_argv[:-1]:
        return ""
    return sys.orig_argv[sys.orig_argv.index("-m") + 1]


def start(name: str = "", is_subcommand: bool = False) -> None:
    """What a command does before it imports JAX, which takes a second.

    Args:
      name: of the command, such as "fit"; the default is that of the module being run.
      is_subcommand: it was started by its name, as in `initjax fit`.
    """
    _subcommand[:] = [name] * is_subcommand
    signal.signal(signal.SIGINT, stop_at_once)
    sys.excepthook = _tell_what_is_missing
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the C++ log of JAX's own libraries
    name = name or _MODULES.get(_module().removeprefix("initjax."), "")
    if name and not {"--help", "-h", "--helpfull", "--helpshort"}.isdisjoint(sys.argv[1:]):
        with answers():
            print(saved_text(name).replace("{command}", shlex.join(program())), end="")
        sys.exit(0)
    if name not in ("", "names") and sys.stderr.isatty():  # the first line of output covers it
        print("importing JAX", end="\r", file=sys.stderr, flush=True)


def _tell_what_is_missing(kind, error, trace) -> None:
    """An import fails before there is a command to answer: a line where an extra is missing."""
    missing = brings(error) if isinstance(error, ModuleNotFoundError) else error
    if isinstance(missing, MissingExtra):
        print(f"error: {missing}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def saved_text(name: str) -> str:
    """A text that docs/generate.py has saved, because what it is made of takes seconds to import:
    the help of a command, with {command} where its name belongs, or the table of initializers.
    """
    return (pathlib.Path(__file__).parent / "help" / f"{name}.txt").read_text()


def program() -> list[str]:
    """The words with which this process was started, without its arguments, to be used again."""
    return [*_program(), *_subcommand]


def _program() -> list[str]:
    if sys.argv[:1] == ["-m"]:  # still on the way to the module
        return ["python", "-m", _module()]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return ["python", "-m", spec.name.removesuffix(".__main__")]
    path = pathlib.Path(sys.argv[0])
    if path.name == "initjax":  # the console command
        return [path.name]
    here = pathlib.Path.cwd()
    return ["python", str(path.relative_to(here) if path.is_relative_to(here) else path)]


def stop_at_once(*signal_and_frame: object) -> NoReturn:
    """Ends the process as Ctrl-C does, without unwinding."""
    os.write(2, b"Stopped.\n")  # not print: the signal may have come in the middle of one
    os._exit(130)


def run(main: Callable[[], None], resumes: bool = False) -> None:
    """Runs the command that this process is.

    Args:
      main: the command; see `answers`.
      resumes: the same command goes on from what was saved, and messages say so.
    """
    _catch_ctrl_c()
    try:
        with answers(resumes):
            main()
    except KeyboardInterrupt:
        print(
            "Stopped; what was saved before is kept." if resumes else "Stopped.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(130)  # at once: XLA may be compiling in a thread


@contextlib.contextmanager
def answers(resumes: bool = False) -> Iterator[None]:
    """Turns what a command raises into the SystemExit that a shell should see."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here and not at the exit of Python, which would show a traceback
    except ModuleNotFoundError as error:
        if (missing := brings(error)) is None:
            raise
        sys.exit(f"error: {missing}")
    except UserError as error:
        sys.exit(printable(f"error: {error}", keep="\n"))
    except Interrupted as stop:
        show(f"{stop} Run the same command to go on." if resumes else str(stop), sys.stderr)
        sys.exit(128 + stop.number)
    except (MemoryError, RuntimeError) as error:
        # Of JAX, too, which a command may not have imported.
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        cure = "Take a smaller --batch_size or --image_size, or a smaller network."
        sys.exit(printable(f"error: {first_line(error)}\n{cure}", keep="\n"))
    except BrokenPipeError:  # as in `python launch.py | head`
        _drop_output()
        sys.exit(141)
    except OSError as error:  # such as a full disk
        _drop_output()
        kept = "\nWhat was saved before is kept; the same command goes on from it."
        sys.exit(printable(f"error: {error}{kept if resumes else ''}", keep="\n"))


def show(text: str, file: TextIO | None = None) -> None:
    """Prints lines; names in them that files chose cannot command the terminal."""
    print(printable(text, keep="\n"), file=file, flush=True)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Says what each flag is where it is not given, as the help of `train` does."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = "default" in (action.help or "") or action.default in (None, "", argparse.SUPPRESS)
        return action.help if told else f"{action.help} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are the user's, of the command that this process is."""

    def __init__(self, **kwargs: Any):
        kwargs = {"formatter_class": _Help, "allow_abbrev": False} | kwargs
        super().__init__(prog=shlex.join(program()), **kwargs)

    def error(self, message: str) -> NoReturn:
        unknown = re.search(r"unrecognized arguments: --(\w+)", message)
        flags = [option[2:] for option in self._option_string_actions if option[:2] == "--"]
        near = unknown and meant(unknown[1], flags)
        hint = f" Did you mean --{near}?" if near else ""
        raise UserError(f"{message}.{hint}\n`{self.prog} --help` lists what it takes.")


def open_folder(path: str) -> pathlib.Path | None:
    """The folder that `--out` names, made if it is not there; None for no name."""
    if not path:
        return None
    folder = user_path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={path} cannot be made: {error.strerror}.") from None
    return folder


def parse_absl_flags(argv: list[str]) -> list[str]:
    """The flags parser of `absl.app.run`, with errors that are the user's; returns what is left."""
    from absl import flags

    see = f"`{shlex.join(program())} --help` lists the flags."
    try:
        return flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        near = meant(error.flagname, list(flags.FLAGS))
        hint = f" Did you mean --{near}?" if near else ""
        raise UserError(f"Unknown command line flag {error.flagname!r}.{hint}\n{see}") from None
    except flags.Error as error:
        raise UserError(f"{error}\n{see}") from None
    except SystemExit:  # 1, where absl has shown the help that it was asked for
        sys.exit(0)


def meant(written: str, names: list[str]) -> str | None:
    """The name that `written` is a slip for: --lr, with its words' initials, or --epoch."""
    for name in names:
        if len(written) > 1 and "".join(word[:1] for word in name.split("_")) == written:
            return name
    return next(iter(difflib.get_close_matches(written, names, n=1)), None)


def _catch_ctrl_c() -> None:
    """Makes Ctrl-C a KeyboardInterrupt, which cleans up; the end comes whatever it meets."""
    came = threading.Event()

    def end() -> None:
        came.wait()
        time.sleep(_PATIENCE)
        stop_at_once()

    def interrupt(number, frame) -> NoReturn:
        signal.signal(number, stop_at_once)  # once more: no waiting
        came.set()
        raise KeyboardInterrupt

    threading.Thread(target=end, daemon=True).start()
    signal.signal(signal.SIGINT, interrupt)


def _drop_output() -> None:
    """Has Python's last flush of what cannot be written fail in silence."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
