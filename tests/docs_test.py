"""The pages' examples run, their command lines are flags that exist, and no page is left out."""

import json
import operator
import pathlib
import re
import shlex

import jax
import pytest
from absl import flags
from helpers import ROOT

import initjax
from initjax.comparison import __main__ as compare
from initjax.fit import __main__ as fit
from initjax.initializers.base import INITIALIZERS
from initjax.signal import __main__ as signal
from initjax.support import command

DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.name != "initializers.md")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
OURS = re.compile(r"^ *((?:python (?:launch\.py|-m initjax)|initjax) .*)", re.MULTILINE)


def name(path):
    return str(path.relative_to(DOCS))


def python(path):
    """The page's code, in one piece as its reader runs it."""
    return "\n".join(text for kind, text in BLOCK.findall(path.read_text()) if kind == "python")


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PAGES if python(path)], ids=name)
def test_code(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with INITIALIZERS.restored():  # what a page registers is its own, not the catalogue's
        exec(compile(python(path), str(path), "exec"), {"__name__": "page"})


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.ipynb")), ids=name)
def test_notebooks(path, tmp_path, monkeypatch, capsys):
    """At a small size: the first cell of code holds the sizes. Outputs there are of the whole."""
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert any(output for cell in cells for output in cell["outputs"])
    sizes, *code = ("".join(cell["source"]) for cell in cells)
    page = {"__name__": "page"}
    exec(re.sub(r"= \d+", "= 2", sizes), page)
    for text in code:
        exec(compile(text, str(path), "exec"), page)


def commands():
    """(page, words) of every command line of ours."""
    for path in [*PAGES, ROOT / "README.md"]:
        text = path.read_text().replace("\\\n", " ")
        text = re.sub(r"^```(python|pycon)\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        for line in OURS.findall(text):
            words = shlex.split(line, comments=True)
            if words[:2] == ["python", "launch.py"]:
                yield name(path) if path in PAGES else path.name, ["train", *words[2:]]
            elif words[:1] == ["initjax"] and len(words) > 1:
                yield name(path) if path in PAGES else path.name, words[1:]
            elif words[:2] == ["python", "-m"] and words[2].startswith("initjax."):
                module = words[2].removeprefix("initjax.").replace("comparison", "compare")
                yield name(path) if path in PAGES else path.name, [module, *words[3:]]


def test_command_lines(launcher_flags):
    """Of each the flags are known; that the files are there is not asked."""
    found = list(commands())
    assert len(found) > 20
    parsers = {"fit": fit, "signal": signal, "compare": compare}
    for page, (kind, *arguments) in found:
        if arguments[-1:] == ["--help"] or kind not in ("train", *parsers):
            continue
        arguments = [word for word in arguments if word != "..."]
        if kind == "train":
            for flag in flags.FLAGS:
                flags.FLAGS[flag].unparse()
            left = command.parse_absl_flags(["initjax train", *arguments])
            assert len(left) == 1, (page, arguments)
        else:
            parsers[kind].create_parser().parse_args(arguments)


def test_rows_of_peers_are_lines_that_work():
    """Those that need nothing of the reader's; the names of all of them are there."""
    rows = re.findall(r"^\| [^|]* \| (`[^|]*`) \|", (DOCS / "peers.md").read_text(), re.MULTILINE)
    lines = [line for row in rows for line in re.findall("`([^`]+)`", row)]
    assert len(lines) > 20
    known = {"initjax": initjax, "jax": jax, "Laplace": initjax.distributions.Laplace}
    for line in lines:
        for dotted in re.findall(r"^initjax((?:\.\w+)+)", line):
            operator.attrgetter(dotted[1:])(initjax)
        free = re.search(
            r"\b(model|variables|x|params|source|key|init)\b[,)]|launch|python|train", line
        )
        if line.startswith("initjax.") and not free:
            eval(line, known)


def test_every_page_is_in_the_contents():
    settings = (ROOT / "mkdocs.yml").read_text()
    contents = (
        settings.partition("\nnav:")[2] + re.search("exclude_docs: .\n(( .*\n)*)", settings)[1]
    )
    missing = [name(path) for path in sorted(DOCS.rglob("*.md")) if name(path) not in contents]
    assert not missing


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links(path):
    """Within the pages; mkdocs checks anchors too, where it is installed."""
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target
            assert pathlib.Path(path.parent / target).resolve().is_relative_to(DOCS), target
