"""Judges runs that exist: ours, or anyone's rows.

    python -m initjax.comparison runs/* --baseline=he_normal --out=DIR
    python -m initjax.comparison results.csv --margin=0.002

RUN_OR_RESULTS are folders that launch.py made, folders of them, and files of rows (.jsonl, .json or
.csv) with the columns start, seed and accuracy, in [0, 1]. Optional columns: loss, learning_rate,
phase ("test", or "tuning" for runs that only chose a rate), failed, seconds, test_images, moves,
step (a row is then one evaluation), eval_accuracy, eval_loss, train_accuracy, train_loss. Any other
column is the setting: starts are compared where it agrees.

With --out also DIR/report.html, a page with pictures, and DIR/comparison.json.
"""

import argparse
import os

if __name__ == "__main__":
    # Nothing is trained here, and an accelerator may be busy with what is.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

from initjax.comparison import report
from initjax.comparison.rows import read
from initjax.comparison.tables import table
from initjax.comparison.verdict import judge
from initjax.support import command
from initjax.support.text import printable


def create_parser() -> command.Parser:
    """The parser of the command line's flags."""
    parser = command.Parser(description=__doc__)
    add = parser.add_argument
    add("paths", nargs="+", metavar="RUN_OR_RESULTS", help="folders of runs, and files of rows")
    add(
        "--baseline", default="", help="start that the others are compared with; default: all pairs"
    )
    add(
        "--margin",
        type=float,
        default=None,
        help="accuracy difference without practical interest, such as 0.002; default: half the sd"
        " from seed to seed, at least 0.001",
    )
    add("--out", default="", help="folder for report.html and comparison.json")
    return parser


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's flags."""
    return create_parser().parse_args(arguments)


def run(flags: argparse.Namespace) -> None:
    """Reads, judges, prints and, with --out, writes."""
    runs = read(*flags.paths)
    folder = command.open_folder(flags.out)
    verdict = judge(runs, baseline=flags.baseline, margin=flags.margin)
    print(table(verdict), flush=True)
    if folder:
        print(f"In {printable(str(folder))}: {', '.join(report.save(verdict, runs, folder))}")


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    with command.answers():
        run(parse(arguments))


if __name__ == "__main__":
    command.run(main)
