"""Sees whether reading a file runs something, or takes more memory than it may."""

import contextlib
import sys
import tracemalloc

# Events of Python's audit hooks that reading an array never raises.
_FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
    "shutil.rmtree",
    "os.remove",
    "os.rename",
    "exec",
)
_seen: list[str] | None = None


def _hook(event, arguments):
    if _seen is not None and event in _FORBIDDEN:
        # Not the code of modules that are imported late, which has the name of a file.
        if event != "exec" or arguments[0].co_filename == "<string>":
            _seen.append(event)


sys.addaudithook(_hook)


@contextlib.contextmanager
def watch(megabytes: int | None = None):
    """Fails if what is inside runs anything, or allocates more than `megabytes` at once."""
    global _seen
    _seen = []
    if megabytes is not None:
        tracemalloc.start()
    try:
        yield
        assert not _seen, _seen
        if megabytes is not None:
            assert tracemalloc.get_traced_memory()[1] < megabytes << 20
    finally:
        _seen = None
        tracemalloc.stop()
