"""Eight virtual CPU devices, said before JAX is imported, and a Ctrl-C that is not ignored."""

import os
import pathlib
import signal
import sys

if "device_count" not in os.environ.get("XLA_FLAGS", ""):
    # Level 0 halves the time of the suite, most of which is compilation; to test what users run,
    # set XLA_FLAGS=--xla_force_host_platform_device_count=8. The launcher's tests always do.
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "")
        + " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    )

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # for launch.py

# A shell's background jobs begin with Ctrl-C ignored, which the tests of stopping would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
