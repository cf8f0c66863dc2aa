"""Writes docs/initializers.md and its pictures: python docs/generate.py"""

import pathlib

import jax
import numpy as np

import initjax
from initjax.initializers.base import entries
from initjax.initializers.catalog import kurtosis, page
from initjax.initializers.pictures import plot_law
from initjax.support.files import write_whole

DOCS = pathlib.Path(__file__).parent


def main() -> None:
    """Draws a picture of every name that has a density, and writes the page."""
    (DOCS / "images").mkdir(exist_ok=True)
    for entry in entries():
        name = entry.names[0]
        if kurtosis(entry.example) is not None:
            w = np.asarray(initjax.get(entry.example)(jax.random.key(0), (1024, 1024)))
            plot_law(w, DOCS / "images" / f"{name}.png", name)
    write_whole(DOCS / "initializers.md", page())


if __name__ == "__main__":
    main()
