"""The exceptions that the command line answers with a line and no traceback."""

import signal


class UserError(ValueError):
    """An argument, a file or a machine is not what was asked for.

    The message has one or two lines: what was wrong with which value, and what to do. The
    command line prints it without a traceback; in a program it is an ordinary `ValueError`.
    """


class Interrupted(Exception):
    """A run was asked to stop, by a signal, and has saved what it had.

    Attributes:
      number: of the signal.
    """

    def __init__(self, message: str, number: int = signal.SIGINT):
        super().__init__(message)
        self.number = int(number)
