"""Prints every initializer: python -m initjax"""

import shutil

from initjax.initializers.catalog import table
from initjax.support import command


def main(arguments=None) -> None:
    """The command."""
    with command.answers():
        parser = command.Parser(prog="python -m initjax", description="Prints every initializer.")
        parser.parse_args(arguments)
        for line in table(min(shutil.get_terminal_size().columns, 100)):
            print(line, flush=True)


if __name__ == "__main__":
    command.run(main)
