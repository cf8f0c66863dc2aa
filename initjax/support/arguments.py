"""Numbers and names that users give, checked; a message names the argument and its value."""

import math
import operator
from collections.abc import Iterable
from typing import Any

import jax

from initjax.support.errors import UserError
from initjax.support.text import shown

_MOST = 2**31 - 1  # that an int32 of JAX holds


def finite(value: Any, name: str) -> float:
    """`value` as a float, if it is a finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError, jax.errors.ConcretizationTypeError):
        raise UserError(f"{name}={shown(value)} is not a number.") from None
    except OverflowError:
        raise UserError(f"{name}={shown(value)} is more than a float holds.") from None
    if not math.isfinite(number):
        raise UserError(f"{name}={shown(value)} is not finite.")
    return number


def positive(value: Any, name: str) -> float:
    """`value` as a float, if it is above 0."""
    number = finite(value, name)
    if number <= 0:
        raise UserError(f"{name}={number} must be positive.")
    return number


def not_negative(value: Any, name: str) -> float:
    """`value` as a float, if it is 0 or more."""
    number = finite(value, name)
    if number < 0:
        raise UserError(f"{name}={number} must not be negative.")
    return number


def count(value: Any, name: str, least: int = 1) -> int:
    """`value` as an int, if it is one, `least` or more, and an int32 holds it."""
    try:
        number = operator.index(value)
    except TypeError:
        raise UserError(f"{name}={shown(value)} is not an int.") from None
    if number < least:
        raise UserError(f"{name}={shown(number)} must be at least {least}.")
    if number > _MOST:
        raise UserError(f"{name}={shown(number)} must be at most {_MOST}.")
    return number


def one_of(value: str, choices: Iterable[str], name: str) -> str:
    """`value`, if it is among the choices; a message leaves out an empty one, the default."""
    choices = tuple(choices)
    if value not in choices:
        raise UserError(f"{name}={shown(value)} is not one of {', '.join(filter(None, choices))}.")
    return value
