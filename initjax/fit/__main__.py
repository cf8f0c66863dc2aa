"""What are trained weights distributed like?  python -m initjax.fit WEIGHTS [--out=DIR]

Reads a checkpoint (safetensors, npz, Flax msgpack, Orbax, PyTorch, a directory of shards, a workdir
of launch.py, or the name of a model), fits every layer, every kernel position and all layers
together, and prints a table, with what was left out and why. Which axes are inputs is found from
names and shapes; where they leave it open, the table asks for --layout. --out=DIR also writes
fit.json, from which `initjax.from_fit` draws new weights, and report.html.
"""

# ruff: noqa: E402

import sys

from initjax.support import extras

extras.need("fit")  # before the imports below, which would not say what to install

from initjax import weights
from initjax.fit import report
from initjax.fit.checkpoint import analyze_checkpoint
from initjax.fit.file import save
from initjax.support import command
from initjax.support.files import user_path, write_whole


def create_parser() -> command.Parser:
    """The parser of the command line's flags."""
    parser = command.Parser(description=__doc__.partition("\n\n")[2])
    parser.add_argument("weights", help="a file, a directory, or the name of a model")
    parser.add_argument("--layers", help="a regular expression on the layers' paths")
    parser.add_argument(
        "--layout",
        default="",
        help="a letter an axis: i in, o out, h w d positions, s stacked layers, such as hwio or"
        " oihw,oi; default: found from names and shapes",
    )
    parser.add_argument("--out", type=user_path, help="where to write fit.json and report.html")
    parser.add_argument(
        "--bootstraps", type=int, default=100, help="samples for the p of each tail; 0: none"
    )
    parser.add_argument("--seed", type=int, default=0, help="of bootstraps and Gaussian controls")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    with command.answers():
        _run(create_parser().parse_args(arguments))


def _run(args) -> None:
    command.open_folder(str(args.out or ""))
    checkpoint = weights.read(args.weights)
    number = len(checkpoint.tensors)
    command.show(f"{args.weights}: {checkpoint.format}, {number} tensors")
    found = analyze_checkpoint(
        checkpoint,
        args.layers,
        layout=args.layout,
        bootstraps=args.bootstraps,
        seed=args.seed,
        progress=sys.stderr.isatty(),
    )
    command.show(f"\n{report.table(found)}")
    command.show("\n" + "\n".join(report.verdict(found)))
    if args.out:
        save(found, args.out / "fit.json")
        write_whole(args.out / "report.html", report.html_page(found))
        command.show(f"\nin {args.out}: fit.json, report.html")


if __name__ == "__main__":
    command.run(main)
