"""The exceptions that the command line answers with a line and no traceback."""

import signal

_LONGEST_LINE = 2000


class UserError(ValueError):
    """An argument, a file or a machine is not what was asked for.

    Of a line that quotes more than a reader would read, the ends are kept.

    The message has one or two lines: what was wrong with which value, and what to do. The
    command line prints it without a traceback; in a program it is an ordinary `ValueError`.
    """

    def __init__(self, message: object = ""):
        super().__init__("\n".join(map(_shortened, str(message).split("\n"))))


def _shortened(line: str) -> str:
    if len(line) <= _LONGEST_LINE:
        return line
    return f"{line[:300]}... ({len(line):,} characters) ...{line[-300:]}"


class Interrupted(Exception):
    """A run was asked to stop, by a signal, and has saved what it had.

    Attributes:
      number: of the signal.
    """

    def __init__(self, message: str, number: int = signal.SIGINT):
        super().__init__(message)
        self.number: int = int(number)
