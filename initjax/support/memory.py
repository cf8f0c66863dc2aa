"""How much fits into this machine."""

import os
from typing import Any

import jax

from initjax.support.errors import UserError

_GIB = 2.0**30


def device_memory(device: Any) -> float:
    """Bytes that a `jax.Device` holds: of a CPU the machine's; infinite where it does not say."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is not None:
        return float(limit)
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows
        return float("inf")


def check_fits(what: str, needed: float, cure: str) -> None:
    """Refuses, before it is made, what is more than a device holds.

    Args:
      what: needs the memory, as the start of a sentence.
      needed: bytes.
      cure: the second line of the message.

    Raises:
      UserError: with both figures.
    """
    if needed > (memory := device_memory(jax.local_devices()[0])):
        raise UserError(
            f"{what} would take {needed / _GIB:,.4g} GiB of memory, of which there are"
            f" {memory / _GIB:,.4g}.\n{cure}"
        )
