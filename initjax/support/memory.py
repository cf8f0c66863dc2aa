"""How much memory there is."""

import os
import pathlib

# Of the group of processes that a container or a job of a scheduler is, by version of cgroups.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_memory() -> int:
    """Bytes of memory of this machine, or of what this process is allowed of it."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in _LIMITS:
        try:
            found.append(int(pathlib.Path(file).read_text()))
        except (OSError, ValueError):  # none of that version, or "max"
            continue
    return min(found)
