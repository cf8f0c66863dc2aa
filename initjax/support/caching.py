"""Remembering what a function has computed."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def cached(function: Callable[P, T]) -> Callable[P, T]:
    """`functools.lru_cache` that lets calls with unhashable arguments through."""
    remembering = functools.lru_cache(maxsize=512)(function)

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            hash((args, tuple(kwargs.items())))
        except TypeError:
            return function(*args, **kwargs)
        return remembering(*args, **kwargs)  # pyright: ignore[reportArgumentType] - hashable

    return wrapper
