"""Names are parsed, never evaluated."""

import inspect

import pytest

import initjax
from initjax.distributions import StudentT, SymmetricPowerLaw, TruncatedNormal
from initjax.initializers import Scaled
from initjax.support.errors import UserError
from initjax.support.naming import split_names


@pytest.mark.parametrize(
    "text, value",
    [
        ("nspl", initjax.nspl()),
        (" nspl( ) ", initjax.nspl()),
        ("nspl(alpha=1.5, ratio=30)", initjax.nspl(alpha=1.5, ratio=30)),
        ("nspl(-0.5, inf)", initjax.nspl(-0.5, float("inf"))),
        ("he_normal(in_axis=(0, 1))", initjax.he_normal(in_axis=(0, 1))),
        ("constant(0.1)", initjax.constant(0.1)),
        ("zeros", initjax.zeros),
        ("normal(1e-2)", initjax.normal(0.01)),
        ("he_normal(dtype='bfloat16')", initjax.he_normal(dtype="bfloat16")),
        (
            "variance_scaling(distribution=SymmetricPowerLaw(alpha=2), scale=3)",
            initjax.variance_scaling(3, distribution=SymmetricPowerLaw(2)),
        ),
        (
            "variance_scaling(1, 'fan_out', TruncatedNormal(-1, 1))",
            initjax.variance_scaling(1, "fan_out", TruncatedNormal(-1, 1)),
        ),
    ],
)
def test_text_gives_the_value(text, value):
    assert initjax.get(text) == value


def test_a_callable_is_returned_as_it_is():
    init = lambda key, shape, dtype: None  # noqa: E731
    assert initjax.get(init) is init


@pytest.mark.parametrize(
    "text, message",
    [
        ("he_norml", "Did you mean 'he_normal'.*Known: constant"),
        ("", "not of the form"),
        ("nspl(", "not of the form"),
        ("nspl; 1", "not of the form"),
        ("nspl()()", "not of the form"),
        ("nspl.__class__", "not of the form"),
        ("nspl(**{'alpha': 1})", "not of the form"),
        ("nspl(*[1])", "not of the form"),
        ("lambda: 1", "not of the form"),
        ("(" * 5000, "not of the form"),
        ("nspl(beta=1)", "beta.*It takes: alpha=1.0, ratio=100.0"),
        ("he_normal(2)", "too many positional"),
        ("nspl(alpha='x')", "alpha='x'"),
        ("nspl(alpha=[1])", r"alpha=\[1\]"),
        ("nspl(ratio=0)", "ratio=0"),
        ("nspl(alpha=True + 1)", "not a number"),
        ("nspl(alpha=nspl())", "not a number"),
        (3, "neither a name nor a callable"),
    ],
)
def test_bad_text(text, message):
    with pytest.raises(UserError, match=message):
        initjax.get(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch {path}')",
        "nspl(alpha=__import__('os').system('touch {path}'))",
        "nspl(alpha=open('{path}', 'w'))",
        "variance_scaling(distribution=SymmetricPowerLaw(alpha=open('{path}', 'w')))",
    ],
)
def test_nothing_is_evaluated(text, tmp_path):
    path = tmp_path / "evaluated"
    with pytest.raises(UserError):
        initjax.get(text.format(path=path))
    assert not path.exists()


def test_names():
    names = initjax.names()
    assert names == sorted(names)
    expected = {"nspl", "zeros", "ones", "constant", "normal"} | {
        f"{family}_{shape}"
        for family in ("lecun", "glorot", "xavier", "he", "kaiming")
        for shape in ("normal", "uniform")
    }
    assert expected <= set(names)


@pytest.mark.parametrize("name", initjax.names())
def test_every_name_is_public(name):
    """What a text can make, a program can: `initjax.NAME(...)` is what `get` calls."""
    function = getattr(initjax, name)
    value = function() if inspect.isroutine(function) else function
    assert value == initjax.get(name)


def test_scaled_takes_what_its_class_takes():
    """It was registered as the class, whose third argument may stand without its name."""
    init = initjax.scaled(0.5, StudentT(df=1.5), "bfloat16")
    assert init == Scaled(0.5, StudentT(df=1.5), "bfloat16")
    assert initjax.get(repr(init)) == init
    assert initjax.get("scaled(0.5, StudentT(df=1.5), 'bfloat16')") == init
    assert initjax.scaled(2, "uniform") == initjax.uniform(2)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "he_normal,nspl(alpha=1.5, ratio=30),constant(value=[1, 2])",
            ["he_normal", "nspl(alpha=1.5, ratio=30)", "constant(value=[1, 2])"],
        ),
        (",lsuv", ["", "lsuv"]),
        ("", [""]),
        ("a(b='x,)y', c=\"),\"), d ", ["a(b='x,)y', c=\"),\")", "d"]),
        ("./it's/a,./b", ["./it's/a", "./b"]),
        ("a),b", ["a)", "b"]),
        ("my.nets:MyNet(depth=3),mlp", ["my.nets:MyNet(depth=3)", "mlp"]),
    ],
)
def test_names_are_split_outside_of_brackets_and_quotes(text, parts):
    assert split_names(text) == parts
