"""How much memory there is, and what fits into it."""

import os
import pathlib
from typing import Any

import jax

from initjax.support.errors import UserError

_GIB = 2.0**30

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


def device_memory(device: Any) -> float:
    """Bytes that a `jax.Device` holds: of a CPU the machine's; infinite where it does not say."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is not None:
        return float(limit)
    return float(machine_memory())


def program_memory(compiled: Any) -> int:
    """Bytes that a compiled program takes on each device, from its arguments to its results.

    Of activations, too: it is what XLA has planned. 0 where XLA does not say.
    """
    plan = compiled.memory_analysis()
    if plan is None:
        return 0
    kept = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return kept + plan.temp_size_in_bytes


class TooLarge(UserError):
    """What is more than the memory holds; a smaller part of it may do."""


def check_fits(what: str, needed: float, cure: str, memory: float | None = None) -> None:
    """Refuses, before it is made, what is more than a device holds.

    Args:
      what: needs the memory, as the start of a sentence.
      needed: bytes.
      cure: the second line of the message.
      memory: bytes that there are; None: of the first device here.

    Raises:
      TooLarge (a UserError): with both figures.
    """
    if memory is None:
        memory = device_memory(jax.local_devices()[0])
    if needed > memory:
        raise TooLarge(
            f"{what} would take {needed / _GIB:,.4g} GiB of memory, of which there are"
            f" {memory / _GIB:,.4g}.\n{cure}"
        )
