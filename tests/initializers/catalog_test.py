"""The table of names is complete, and the page is what the code says."""

import inspect
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl import flags
from helpers import ROOT

import initjax
from initjax.initializers.base import INITIALIZERS, entries
from initjax.initializers.catalog import examples, kurtosis, page
from initjax.support import command
from initjax.support.errors import UserError
from initjax.support.naming import parse

DOCS = ROOT / "docs"


# Functions of the face whose names make no initializer, with the reason.
NO_NAMES = {
    "axes_from_einsum": "gives axes",
    "deepnorm_encoder_decoder": "gives four constants",
    "dks": "gives an activation and its initializers",
    "edge_of_chaos": "gives a point, whose kernel and bias have names",
    "fans": "gives fans",
    "fans_from_einsum": "gives fans",
    "fixup_scale": "gives a number",
    "get": "reads names",
    "laid_out": "takes an initializer",
    "names": "lists names",
    "rescale": "takes an initializer",
    "residual_scale": "gives a number",
    "t_fixup_scale": "gives a number",
    "tat": "gives an activation and its initializers",
}


def test_names_of_an_entry_are_one_initializer():
    for entry in entries():
        assert len({initjax.get(examples()[name]) for name in entry.names}) == 1


@pytest.mark.parametrize("name", initjax.names())
def test_every_name_is_public(name):
    """What a text can make, a program can: `initjax.NAME(...)` is what `get` calls."""
    public = getattr(initjax, name)
    if inspect.isroutine(public):
        assert public is INITIALIZERS[name]
    else:
        assert public == initjax.get(name)


def test_what_is_public_is_registered():
    functions = {n: f for n, f in vars(initjax.initializers).items() if inspect.isfunction(f)}
    unnamed = {name for name, f in functions.items() if f not in INITIALIZERS.values()}
    assert unnamed == set(NO_NAMES)


@pytest.mark.slow
def test_the_package_has_the_face_and_no_more_modules():
    for name in initjax.initializers.__all__:
        assert getattr(initjax, name) is getattr(initjax.initializers, name)
    code = "import initjax, types; print(*(n for n in dir(initjax) if not n.startswith('_') and"
    code += " isinstance(getattr(initjax, n), types.ModuleType)))"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    wings = {path.parent.name for path in (ROOT / "initjax").glob("*/__init__.py")}
    assert set(done.stdout.split()) <= wings | {"meanfield", "parametrization"}


OWN = """
import jax.numpy as jnp
import numpy as np
from initjax.initializers import constant
from initjax.initializers.base import register
from initjax.support.arguments import finite


@register("w = value^2", "nobody 2024", "tests", "own_square")
def throw_away(value: float = 3.0, *, dtype=None):
    return constant(finite(value, "value") ** 2, dtype=dtype)


def initializer(key, shape, dtype=jnp.float32):
    return jnp.full(shape, 7, dtype)


def array(size=2):
    return np.zeros(size)


def drawn(rng, dims):
    return jnp.zeros(dims)


number = 3
"""


@pytest.mark.slow
def test_one_decorator_adds_a_throw_away_initializer(own_module):
    own_module("own_initializers", OWN)
    names = initjax.names()
    with INITIALIZERS.restored():
        import own_initializers

        assert set(initjax.names()) - set(names) == {"throw_away", "own_square"}
        assert initjax.get("throw_away(value=2)") == initjax.constant(4.0)
        assert initjax.get(parse("own_square")) == own_initializers.throw_away()
        assert "## throw_away, own_square\n\n`w = value^2`" in page()
        assert entries()[-1].reference == "nobody 2024"
        with pytest.raises(ValueError, match="registered twice"):
            INITIALIZERS.add("nspl", own_initializers.throw_away)
    assert initjax.names() == names
    assert "throw_away" not in page()
    with pytest.raises(UserError, match="Unknown initializer 'throw_away'"):
        initjax.get("throw_away")


def test_a_name_of_the_users_own(own_module):
    own_module("own_names", OWN.replace("@register", "#"))
    assert initjax.get("own_names:throw_away(value=2.0)") == initjax.constant(4.0)
    init = initjax.get("own_names:initializer")
    assert (
        init is initjax.get(parse("own_names:initializer")) is sys.modules["own_names"].initializer
    )
    np.testing.assert_array_equal(init(jax.random.key(0), (2, 3)), np.full((2, 3), 7.0))
    assert "own_names:initializer" not in initjax.names()
    rule = initjax.Rule("kernel", "own_names:throw_away(2)")
    assert rule.init == initjax.constant(4.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("own_errors:number", "own_errors:number is 3."),
        ("own_errors:array(size=1)", "own_errors:array gave array([0.])."),
        ("own_errors:drawn", "own_errors:drawn: missing a required argument: 'rng'"),
        ("own_errors:initializer(3)", "own_errors:initializer: too many positional arguments"),
    ],
)
def test_an_own_name_that_is_no_initializer(own_module, text, message):
    own_module("own_errors", OWN.replace("@register", "#"))
    with pytest.raises(UserError) as error:
        initjax.get(text)
    first, second = str(error.value).splitlines()
    assert first.startswith(message)
    assert "must be init(key, shape, dtype), or a function that returns one" in second


@pytest.mark.slow
def test_the_page_is_up_to_date():
    """If this fails: python docs/generate.py"""
    assert (DOCS / "initializers.md").read_text() == page()
    pictures = {path.stem for path in (DOCS / "images").glob("*.png")}
    shown = {e.names[0] for e in entries() if kurtosis(e.example) is not None}
    assert pictures == shown


@pytest.mark.slow
def test_saved_texts_are_what_the_code_says(monkeypatch):
    """If this fails: python docs/generate.py"""
    monkeypatch.syspath_prepend(DOCS)
    monkeypatch.setenv("COLUMNS", "100")
    import generate

    before = set(flags.FLAGS)
    try:
        for name, text in generate.saved_texts().items():
            assert command.saved_text(name) == text, name
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)


def test_kurtosis():
    assert kurtosis("he_uniform") == 1.8
    assert kurtosis("zeros") is None
    assert 2.9 < kurtosis("orthogonal") < 3.1


@pytest.mark.slow
def test_importing_the_module_leaves_the_function():
    """In a fresh process, where no other test has imported it."""
    code = "import initjax.names; print('nspl' in initjax.names()); from initjax import names"
    code += "; print(names is initjax.names)"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "True\nTrue\n"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["initjax", "initjax.names"])
def test_terminal_table(module):
    line = [sys.executable, "-m", module]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    assert "nspl" in done.stdout and "he_normal, kaiming_normal" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
