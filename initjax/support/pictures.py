"""One style of all pictures: `styled` draws in colors that eyes of all kinds tell apart."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import matplotlib
from cycler import cycler

# Told apart on white and on black, and by most eyes that do not see all colors: no red and green.
COLORS = ("#2f7fc1", "#e08e00", "#1a9a6c", "#c8609a", "#4fb3e0", "#d5541c", "#8c6bb1", "#8a8a8a")

_Draw = TypeVar("_Draw", bound=Callable[..., Any])


def styled(draw: _Draw) -> _Draw:
    """Decorator: the lines that `draw` draws have `COLORS` in turns, and no other picture has."""

    @functools.wraps(draw)
    def drawn(*args: Any, **keywords: Any) -> Any:
        with matplotlib.rc_context({"axes.prop_cycle": cycler(color=COLORS)}):
            return draw(*args, **keywords)

    return cast(_Draw, drawn)
