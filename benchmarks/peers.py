"""How heavy, fast and typed packages are to pick up: python benchmarks/peers.py [--only=optax,...]

Each is installed with what it asks for into an environment of its own, with the Python that runs
this. MB of files; CPU seconds of `import` (median of 5, in turns, the import of a bare Python taken
off); seconds to a first result as a user's script gets it, in a fresh process, import included;
whether `py.typed` is in the wheel. What was measured stays until --again; docs/peers.md has the
table.
"""

import argparse
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


def cpu_and_seconds(python: pathlib.Path, code: str) -> tuple[float, float]:
    """CPU and clock seconds of `python -c code`."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(
        [python, "-c", code],
        check=True,
        env=environment | {"JAX_PLATFORMS": "cpu"},
        cwd=tempfile.gettempdir(),
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return cpu, time.perf_counter() - began


def measure(name: str, folder: pathlib.Path) -> dict:
    """A row."""
    installed, module, code = PACKAGES[name]
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *installed], check=True)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    ours = ("pip", "setuptools", "_distutils_hack")
    size = sum(
        file.stat().st_size
        for file in site.rglob("*")
        if file.is_file() and not file.relative_to(site).parts[0].startswith(ours)
    )
    for line in (f"import {module}", code):  # writes .pyc files
        cpu_and_seconds(python, line)
    imports, bare, first = [], [], []
    for _ in range(5):
        bare.append(cpu_and_seconds(python, "pass")[0])
        imports.append(cpu_and_seconds(python, f"import {module}")[0])
        first.append(cpu_and_seconds(python, code))
    version = subprocess.run(
        [python, "-c", f"import importlib.metadata as m; print(m.version({module!r}))"],
        check=True, capture_output=True, text=True, cwd=tempfile.gettempdir(),
    ).stdout.strip()  # fmt: skip
    return {
        "package": name,
        "version": version,
        "megabytes": size / 2**20,
        "import_cpu_seconds": statistics.median(imports) - statistics.median(bare),
        "first_result_cpu_seconds": statistics.median(cpu for cpu, _ in first),
        "first_result_seconds": statistics.median(seconds for _, seconds in first),
        "typed": (site / module / "py.typed").exists(),
    }


def table(rows: list[dict]) -> str:
    """The rows, as Markdown."""
    lines = [
        "| package | MB installed | import, CPU s | first result, CPU s | py.typed |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['package']} {row['version']} | {row['megabytes']:,.0f} |"
            f" {row['import_cpu_seconds']:.2f} | {row['first_result_cpu_seconds']:.2f} |"
            f" {'yes' if row['typed'] else 'no'} |"
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
        if name in rows and not args.again:
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = measure(name, pathlib.Path(folder) / "venv")
        ordered = [rows[name] for name in PACKAGES if name in rows]
        common.write("peers", {"rows": ordered}, table(ordered))
    ordered = [rows[name] for name in PACKAGES if name in rows]
    common.update_document("peers.md", "measured", f"\n{table(ordered)}\n")
    print(table(ordered))


if __name__ == "__main__":
    main()
