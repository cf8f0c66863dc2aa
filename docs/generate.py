"""Writes what is made of the code: docs/initializers.md and its pictures, and the saved helps.

python docs/generate.py
"""

import os
import pathlib

import jax
import numpy as np

import initjax
from initjax import __main__ as hall
from initjax.comparison import __main__ as comparison, launcher
from initjax.fit import __main__ as fit
from initjax.initializers.base import entries
from initjax.initializers.catalog import kurtosis, page, table
from initjax.initializers.pictures import plot_law
from initjax.signal import __main__ as signal
from initjax.support import command
from initjax.support.files import write_whole

DOCS = pathlib.Path(__file__).parent


def saved_texts() -> dict[str, str]:
    """What commands print without importing what it is made of; {command} stands for their name."""
    os.environ["COLUMNS"] = "100"  # argparse's width
    launcher.define_flags()
    texts = {"initializers": "\n".join(table()) + "\n", "train": launcher.help_text()}
    for name, module in (("compare", comparison), ("fit", fit), ("signal", signal)):
        parser = module.create_parser()
        parser.prog = "{command}"
        texts[name] = parser.format_help()
    texts["names"] = f"usage: {{command}}\n\n{hall.names.__doc__.splitlines()[0]}\n"
    return texts


def main() -> None:
    """Draws a picture of every name that has a density, and writes the page and the texts."""
    (DOCS / "images").mkdir(exist_ok=True)
    for entry in entries():
        name = entry.names[0]
        if kurtosis(entry.example) is not None:
            w = np.asarray(initjax.get(entry.example)(jax.random.key(0), (1024, 1024)))
            plot_law(w, DOCS / "images" / f"{name}.png", name)
    write_whole(DOCS / "initializers.md", page())
    for name, text in saved_texts().items():
        write_whole(pathlib.Path(command.__file__).parent / "help" / f"{name}.txt", text)


if __name__ == "__main__":
    main()
