"""Eight virtual CPU devices for the tests; it has to be said before JAX is imported."""

import os
import pathlib
import sys

if "device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    )

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # for launch.py
