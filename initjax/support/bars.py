"""The bar of what takes a while: on a terminal, and gone when it is done."""

import sys
from typing import Any


def bar(
    total: int | None, unit: str, what: str = "", *, left: bool = True, silent: bool = False
) -> Any:
    """A tqdm bar, a context manager; silent where stderr is no terminal.

    Args:
      total: how many there are; None where that is not known.
      unit: of the total, such as "images".
      what: is done.
      left: whether it tells the time left; not where compiling makes the first much slower.
      silent: also on a terminal.
    """
    import tqdm  # comes with extras; what this file's users offer besides is of the core

    clock = "{remaining} left" if left else "{elapsed}"
    return tqdm.tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=total is None or total > 999,
        bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} {unit}, " + clock,
        leave=False,
        disable=silent or not sys.stderr.isatty(),
    )
