"""Every command of initjax: initjax COMMAND ..., or python -m initjax COMMAND ...

Without a command `initjax` lists them, and `python -m initjax` prints every initializer.
"""

import importlib
import shutil
import sys
import textwrap

from initjax.support import command
from initjax.support.errors import UserError
from initjax.support.version import __version__

# What it is called: (what it does, the module that does it).
COMMANDS = {
    "train": ("train a network from a named start, or compare starts", None),
    "compare": ("judge runs that exist, ours or anyone's rows", "initjax.comparison.__main__"),
    "fit": ("what trained weights are distributed like", "initjax.fit.__main__"),
    "signal": ("what a network does to a signal before training", "initjax.signal.__main__"),
    "names": ("list every initializer", None),
}


def overview() -> str:
    """The commands, a line each."""
    lines = [f"  initjax {name:<8} {what}" for name, (what, _) in COMMANDS.items()]
    return "\n".join([*lines, "", "`initjax COMMAND --help` lists what a command takes."])


def names() -> None:
    """Prints every initializer: names, formula, kurtosis, when to use it, and its source."""
    with command.answers():
        if len(sys.argv) > 1:
            raise UserError(f"unexpected argument {sys.argv[1]!r}: this command takes none.")
        width = min(shutil.get_terminal_size().columns, 100)
        for line in command.saved_text("initializers").splitlines():
            if line.startswith(" "):
                line = textwrap.fill(
                    line.strip(), width - 4, initial_indent=" " * 4, subsequent_indent=" " * 6
                )
            print(line, flush=True)


def chosen(default: str) -> str | None:
    """The command that the first argument names; None where that is answered already."""
    name = sys.argv[1] if len(sys.argv) > 1 else default
    if name in ("--help", "-h", "help", ""):
        print(overview())
        return None
    if name == "--version":
        print(f"initjax {__version__}")
        return None
    if name not in COMMANDS:
        hint = f" Did you mean {near}?" if (near := command.meant(name, list(COMMANDS))) else ""
        raise UserError(
            f"{name!r} is no command of initjax.{hint}\nThere are {', '.join(COMMANDS)}."
        )
    return name


def main(default: str = "names") -> None:
    """Runs the command that the first argument names."""
    with command.answers():
        name = chosen(default)
    if name is None:
        return
    command.start(name, is_subcommand=bool(sys.argv[1:]))
    del sys.argv[1:2]
    if name == "train":
        importlib.import_module("initjax.comparison.launcher").run()
    else:
        command.run(names if name == "names" else importlib.import_module(COMMANDS[name][1]).main)


def console() -> None:
    """The console command `initjax`."""
    main(default="")


if __name__ == "__main__":
    main()
