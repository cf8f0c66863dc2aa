"""The house: a wing imports only wings on its left, no file knows a circle, none is in the hall."""

import ast
import pathlib

import initjax

PACKAGE = pathlib.Path(initjax.__file__).parent

# What stands in one row may not import each other.
ROWS = (
    ("support",),
    ("theory", "distributions", "weights", "data"),
    ("initializers",),
    ("network", "models"),
    ("refine", "signal", "fit"),
    ("training",),
    ("comparison",),
)
# At the top: the public names, the command, and names that stood there before the wings.
HALL = {"__init__.py", "__main__.py", "meanfield.py", "names.py", "public.py", "py.typed"}


def wing(module):
    """The wing of a module's dotted name; None for what stands at the top."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else None


def imports(path):
    """The modules of initjax that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "initjax")


def files():
    return {
        path: path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def test_a_wing_imports_only_wings_on_its_left():
    row = {name: i for i, names in enumerate(ROWS) for name in names}
    wrong = []
    for path, module in files().items():
        here = wing(module)
        if here is None:
            continue
        for name in imports(path):
            there = wing(name)
            if there is None:
                wrong.append(f"{module} imports {name} of the hall")
            elif there != here and row[there] >= row[here]:
                wrong.append(f"{module} imports {name}")
    assert not wrong, wrong


def test_there_is_no_circle():
    """Of files; a package's face counts as the files that it hands on."""
    modules = set(files().values())
    graph = {}
    for path, module in files().items():
        found = set()
        for name in imports(path):
            while name and name not in modules and f"{name}.__init__" not in modules:
                name = name.rpartition(".")[0]
            if name in modules:
                found.add(name)
        graph[module] = found - {module}
    while leaves := [m for m, found in graph.items() if not found & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert not graph, f"a circle among {sorted(graph)}"


def test_every_wing_has_a_row_and_the_hall_is_empty():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == {name for row in ROWS for name in row}
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} <= HALL


def test_no_file_takes_another_files_private_names():
    wrong = [
        f"{module}: {name}"
        for path, module in files().items()
        for name in imports(path)
        if name.rpartition(".")[2].startswith("_") and not name.endswith("__")
    ]
    assert not wrong, wrong
