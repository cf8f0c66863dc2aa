"""NumPy and jax.numpy with their special functions: a formula that takes one serves both.

What depends on parameters alone is left to `NUMPY` even in a formula for JAX: in float32,
lgamma((df + 1) / 2) - lgamma(df / 2) has no digit right at df = 1e6.
"""

import functools
import importlib
from types import ModuleType

import jax.numpy as jnp
import numpy as np


class Library:
    """An array library.

    Attributes:
      np: its functions of arrays.
      special: its special functions, imported when they are first used: both of them import
        scipy.special, which would cost every user of `import initjax` 0.3 s.
    """

    def __init__(self, arrays: ModuleType, special: str):
        self.np = arrays
        self._special = special

    @functools.cached_property
    def special(self) -> ModuleType:
        return importlib.import_module(self._special)


NUMPY = Library(np, "scipy.special")
JAX = Library(jnp, "jax.scipy.special")
