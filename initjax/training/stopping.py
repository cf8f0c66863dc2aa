"""Ctrl-C and SIGTERM."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable


@contextlib.contextmanager
def stop_signals(worth_saving: Callable[[], bool]):
    """A function that tells of Ctrl-C or SIGTERM.

    A second one, or one while nothing is worth saving, ends the process at once.
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
        came.append(signal.Signals(number).name)
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nStopping after this step; once more to stop at once.\n")

    previous = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: came[0] if came else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
