"""Remembering what a function has computed."""

import functools
from collections.abc import Callable


def cached(function: Callable) -> Callable:
    """`functools.lru_cache` that lets calls with unhashable arguments through."""
    remembering = functools.lru_cache(maxsize=512)(function)

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            hash((args, tuple(kwargs.items())))
        except TypeError:
            return function(*args, **kwargs)
        return remembering(*args, **kwargs)

    return wrapper
