"""How heavy, fast and typed packages are to pick up: python benchmarks/peers.py [--only=optax,...]

Each is installed with what it asks for into an environment of its own, with the Python that runs
this. MB of files; CPU seconds of `import` (median of 5, in turns, the import of a bare Python taken
off) and to a first result as a user's script gets it, in a fresh process, import included; the same
of `--help`, where the package brings a command; and of the functions and classes that the module
offers, how many have a docstring, and how many say the type of every argument. CPU seconds, because
they hold on a machine with other work, where seconds by the clock do not: those are kept with the
load under which they were taken, and are in no table. What was measured stays until --again;
docs/peers.md has the table.

torch is the build without CUDA that pip finds here, where there is one: it takes a tenth of what
PyPI's takes. timm needs torchvision, whose only builds here are with CUDA.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import common

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Name: (what pip installs, module, a first result).
_DRAW = "import jax, initjax; initjax.nspl()(jax.random.key(0), (64, 64)).block_until_ready()"
PACKAGES = {
    "initjax": ([str(ROOT)], "initjax", _DRAW),
    "initjax[all]": ([f"{ROOT}[all]"], "initjax", _DRAW),
    "jax": (["jax"], "jax", "import jax; jax.nn.initializers.he_normal()(jax.random.key(0),"
            " (64, 64)).block_until_ready()"),
    "optax": (["optax"], "optax",
              "import jax, optax; optax.adam(.1).init({'w': jax.numpy.ones(3)})"),
    "equinox": (["equinox"], "equinox",
                "import jax, equinox; equinox.nn.Linear(64, 64, key=jax.random.key(0))"),
    "mup": (["torch==2.13.0", "mup"], "mup", "import torch, mup; mup.MuReadout(64, 10)"),
    "timm": (["torch==2.14.1", "torchvision==0.29.1", "timm"], "timm",
             "import timm; timm.create_model('resnet18')"),
    "weightwatcher": (["torch==2.13.0", "weightwatcher"], "weightwatcher",
                      "import torch, weightwatcher; weightwatcher.WeightWatcher("
                      "model=torch.nn.Linear(64, 64)).describe()"),
}  # fmt: skip

# Printed by the package's own Python: what it is, and how well its public names are described.
_DESCRIBE = """
import importlib, importlib.metadata, inspect, json, sys
module = importlib.import_module(sys.argv[1])
distribution = importlib.metadata.distribution(sys.argv[1])
names = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
found = [getattr(module, name, None) for name in names]
found = [value for value in found if inspect.isroutine(value) or inspect.isclass(value)]
def typed(value):
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(p.annotation is not p.empty for p in parameters if p.name not in ("self", "cls"))
print(json.dumps({
    "version": distribution.version,
    "commands": [e.name for e in distribution.entry_points if e.group == "console_scripts"],
    "public": len(found),
    "documented": sum(bool(inspect.getdoc(value)) for value in found),
    "annotated": sum(map(typed, found)),
}))
"""


# Without what else is on the path here.
_CLEAN = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"JAX_PLATFORMS": "cpu"}


def cpu_and_seconds(python: pathlib.Path, *arguments: str | pathlib.Path) -> tuple[float, float]:
    """CPU and clock seconds of Python with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(
        [python, *arguments],
        check=True,
        env=_CLEAN,
        cwd=tempfile.gettempdir(),
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return cpu, time.perf_counter() - began


def measure(name: str, folder: pathlib.Path, row: dict) -> dict:
    """A row: what `row` has already, and what it lacks."""
    installed, module, code = PACKAGES[name]
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *installed], check=True, env=_CLEAN)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    ours = ("pip", "setuptools", "_distutils_hack")
    size = sum(
        file.stat().st_size
        for file in site.rglob("*")
        if file.is_file() and not file.relative_to(site).parts[0].startswith(ours)
    )
    described = subprocess.run(  # and writes .pyc files
        [python, "-c", _DESCRIBE, module],
        check=True, capture_output=True, text=True, cwd=tempfile.gettempdir(), env=_CLEAN,
    ).stdout  # fmt: skip
    row = {"package": name, "megabytes": size / 2**20, **row}
    row |= json.loads(described.splitlines()[-1])
    row["typed"] = (site / module / "py.typed").exists()
    if row["commands"] and "help_cpu_seconds" not in row:
        command = folder / "bin" / row["commands"][0]
        try:
            taken = [cpu_and_seconds(python, command, "--help")[0] for _ in range(5)]
            row["help_cpu_seconds"] = statistics.median(taken)
        except subprocess.CalledProcessError:  # weightwatcher 0.7.7: no such function
            row["help_cpu_seconds"] = None
    if "import_cpu_seconds" not in row:
        cpu_and_seconds(python, "-c", code)
        imports, bare, first = [], [], []
        for _ in range(5):
            bare.append(cpu_and_seconds(python, "-c", "pass")[0])
            imports.append(cpu_and_seconds(python, "-c", f"import {module}")[0])
            first.append(cpu_and_seconds(python, "-c", code))
        row["import_cpu_seconds"] = statistics.median(imports) - statistics.median(bare)
        row["first_result_cpu_seconds"] = statistics.median(cpu for cpu, _ in first)
        row["first_result_seconds"] = statistics.median(seconds for _, seconds in first)
        row["load"] = os.getloadavg()[0]
    return row


def share(row: dict, what: str) -> str:
    """How many of the public functions and classes; "-" where __all__ names modules alone."""
    return f"{row[what]} of {row['public']}" if row["public"] else "-"


def table(rows: list[dict]) -> str:
    """The rows, as Markdown."""
    lines = [
        "| package | MB installed | import, CPU s | first result, CPU s | `--help`, CPU s"
        " | py.typed | arguments typed | docstrings |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        seconds = row.get("help_cpu_seconds")
        shown = "fails" if row["commands"] else "no command"
        lines.append(
            f"| {row['package']} {row['version']} | {row['megabytes']:,.0f} |"
            f" {row['import_cpu_seconds']:.2f} | {row['first_result_cpu_seconds']:.2f} |"
            f" {shown if seconds is None else f'{seconds:.2f}'} |"
            f" {'yes' if row['typed'] else 'no'} |"
            f" {share(row, 'annotated')} | {share(row, 'documented')} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures what is missing, row by row, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(PACKAGES), help="some of them, by commas")
    parser.add_argument("--again", action="store_true", help="also those that were measured")
    args = parser.parse_args()
    rows = {row["package"]: row for row in common.earlier_rows("peers")}
    for name in args.only.split(","):
        earlier = {} if args.again else rows.get(name, {})
        if "documented" in earlier:
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = measure(name, pathlib.Path(folder) / "venv", earlier)
        ordered = [rows[name] for name in PACKAGES if "documented" in rows.get(name, {})]
        kept = [rows[name] for name in PACKAGES if name in rows]
        common.write("peers", {"rows": kept}, table(ordered))
    ordered = [rows[name] for name in PACKAGES if "documented" in rows.get(name, {})]
    common.update_document("peers.md", "measured", f"\n{table(ordered)}\n")
    print(table(ordered))


if __name__ == "__main__":
    main()
