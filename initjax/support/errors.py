"""The exceptions that the command line answers with a line and no traceback."""


class UserError(ValueError):
    """An argument, a file or a machine is not what was asked for.

    The message has one or two lines: what was wrong with which value, and what to do. The
    command line prints it without a traceback; in a program it is an ordinary `ValueError`.
    """


class Interrupted(Exception):
    """A run was asked to stop, by Ctrl-C or SIGTERM, and has saved what it had."""
