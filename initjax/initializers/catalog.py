"""Every initializer by name: what it draws, where it comes from, when to use it.

`python -m initjax` prints the table; docs/initializers.md has it with pictures. Both are made of
what the files of this folder register.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from initjax.initializers.base import INITIALIZERS, entries
from initjax.initializers.scaled import Scaled
from initjax.initializers.variance_scaling import VarianceScaling
from initjax.support.caching import cached
from initjax.support.naming import Call


@cached
def kurtosis(name: str) -> float | None:
    """Of a text's law; of a 512 x 512 sample if it has none in closed form; None of a constant."""
    init = get(name)
    if isinstance(init, (Scaled, VarianceScaling)):
        return init.distribution.kurtosis
    w = np.asarray(init(jax.random.key(0), (512, 512)), np.float64)
    return None if np.ptp(w) == 0 else float(np.mean(w**4) / np.mean(w**2) ** 2)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def table() -> Iterator[str]:
    """The entries as lines: names, and indented what they draw, when to use them, and a source."""
    for entry in entries():
        yield ", ".join(entry.names)
        yield f"    {entry.formula}; kurtosis {_shown(kurtosis(entry.example))}"
        yield f"    {entry.use}"
        yield f"    [{entry.reference}]"


def page() -> str:
    """docs/initializers.md."""
    lines = [
        "# Initializers",
        "",
        "<!-- Written by docs/generate.py from initjax/initializers; change it there. -->",
        "",
        "Every name that `initjax.get`, `launch.py --init=` and the models take, with its defaults;"
        " `help(initjax.nspl)` tells its arguments. Kurtosis is E[w^4] / E[w^2]^2, 3 for a normal"
        " law. Pictures: density of w / sd, and how often |w| / sd exceeds a value (CCDF), of"
        " 1,048,576 weights drawn for a 1024 x 1024 layer; dashed, the normal law.",
        "",
    ]
    for entry in entries():
        first = entry.names[0]
        lines += [
            f"## {', '.join(entry.names)}",
            "",
            f"`{entry.formula}`",
            "",
            f"- Use: {entry.use}.",
            f"- Kurtosis: {_shown(kurtosis(entry.example))}.",
            f"- Source: {entry.reference}.",
            f"- As a value: `{get(entry.example)!r}`.",
            "",
        ]
        if kurtosis(entry.example) is not None:
            lines += [f"![density and CCDF of {first}](images/{first}.png)", ""]
    return "\n".join(lines)


def examples() -> dict[str, str]:
    """By every name a text that `get` reads: the name, with arguments where it needs some."""
    return {
        name: name + entry.example.removeprefix(entry.names[0])
        for entry in entries()
        for name in entry.names
    }


def names() -> list[str]:
    """The names that `get` knows, sorted."""
    return sorted(INITIALIZERS)


def get(initializer: str | Call | Callable[..., Any]) -> Callable[..., Any]:
    """The initializer of a name, such as "he_normal" or "nspl(alpha=1.5, ratio=30)".

    Args:
      initializer: a name, or a name with arguments that are literals, or what
        `initjax.support.naming.parse` made of it; "package.module:name" is your own: an
        `init(key, shape, dtype)`, or a function that is called with the arguments and gives one.
        A callable is returned as it is.

    Returns:
      A value `init(key, shape, dtype=None, out_sharding=None)`.

    Raises:
      UserError (a ValueError): an unknown name, an argument that the name does not take or that is
        out of its range, or a text that is anything but a name with literals.

    >>> get("nspl(alpha=1.5, ratio=30)")
    variance_scaling(scale=2.0, distribution=SymmetricPowerLaw(alpha=1.5, ratio=30.0))
    >>> get("jax.nn.initializers:zeros") is jax.nn.initializers.zeros
    True
    """
    return initializer if callable(initializer) else INITIALIZERS.bind(initializer)
