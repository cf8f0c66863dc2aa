"""Ctrl-C, and the signals of schedulers (SIGTERM) and of a terminal that closes (SIGHUP)."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


@contextlib.contextmanager
def stop_signals(worth_saving: Callable[[], bool]):
    """A function that tells which signal asked to stop, or None.

    A second one, or one while nothing is worth saving, ends the process at once. One that the
    process ignores, as SIGHUP under nohup, stays ignored.
    """
    came = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only the main thread can catch signals
        return

    def handle(number, frame):
        signal.signal(number, previous[number])
        if not worth_saving():
            signal.raise_signal(number)
            return
        came.append(signal.Signals(number))
        for output in terminals:
            if not os.isatty(output):  # closed: what is printed there would fail before the save
                os.dup2(os.open(os.devnull, os.O_WRONLY), output)
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nStopping after this step; once more to stop at once.\n")

    terminals = [output for output in (1, 2) if os.isatty(output)]
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    heard = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
    previous = {n: signal.signal(n, handle) for n in heard}
    try:
        yield lambda: came[0] if came else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
