"""Names are parsed, never evaluated."""

import math
import string

import pytest
from hypothesis import given, strategies as st

import initjax
from initjax.distributions import StudentT, SymmetricPowerLaw, TruncatedNormal
from initjax.initializers import Scaled
from initjax.support.errors import UserError
from initjax.support.naming import Call, Registry, import_own, parse, split_names


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
        ("he_norml", "Did you mean 'he_normal'.*Known: bilinear"),
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
        ("nspl(1, 2, 3)", "too many positional"),
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


def test_scaled_takes_what_its_class_takes():
    """It was registered as the class, whose third argument may stand without its name."""
    init = initjax.scaled(0.5, StudentT(df=1.5), "bfloat16")
    assert init == Scaled(0.5, StudentT(df=1.5), "bfloat16")
    assert initjax.get(repr(init)) == init
    assert initjax.get("scaled(0.5, StudentT(df=1.5), 'bfloat16')") == init
    assert initjax.scaled(2, "uniform") == initjax.uniform(2)


IDENTIFIERS = st.text(string.ascii_lowercase + "_", min_size=1, max_size=6).filter(
    lambda text: text.isidentifier() and parse_or_none(text) is not None and text != "inf"
)
NUMBERS = st.integers() | st.floats(allow_nan=False)
LITERALS = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)


def parse_or_none(text):
    """What a text says, None for a keyword of Python."""
    try:
        return parse(text)
    except UserError:
        return None


def calls(values, names=IDENTIFIERS):
    keywords = st.dictionaries(IDENTIFIERS, values, max_size=3)
    return st.builds(
        lambda name, args, keywords: Call(name, tuple(args), tuple(keywords.items())),
        names,
        st.lists(values, max_size=3),
        keywords,
    )


OWN_NAMES = st.tuples(st.lists(IDENTIFIERS, min_size=1, max_size=3), IDENTIFIERS).map(
    lambda parts: f"{'.'.join(parts[0])}:{parts[1]}"
)


@pytest.mark.slow
@given(calls(LITERALS | calls(LITERALS), IDENTIFIERS | OWN_NAMES))
def test_a_call_prints_as_the_text_that_makes_it(call):
    assert parse(str(call)) == call
    assert call.is_own == (":" in call.name)


def test_import_own(own_module):
    own_module("own_values", "answer = 42\ndef twice(x):\n    return 2 * x\n")
    own_module("own_broken", "1 / 0\n")
    own_module("own_needy", "import no_such_module_anywhere\n")
    assert import_own("own_values:answer") == 42
    assert import_own("math:inf") == math.inf
    assert Registry("number").bind("own_values:twice(x=4)") == 8
    for name, message in (
        ("own_value:answer", "there is no module 'own_value' in"),
        ("own_values.inner:answer", "there is no module 'own_values.inner' in"),
        ("own_values:anwser", "own_values has no 'anwser'. Did you mean 'answer'?"),
        ("own_values:nothing_like_it", "own_values has no 'nothing_like_it'."),
        ("own_broken:x", "importing own_broken failed: ZeroDivisionError: division by zero."),
        ("own_needy:x", "importing own_needy failed: No module named 'no_such_module_anywhere'."),
    ):
        with pytest.raises(UserError) as error:
            import_own(name)
        assert message in str(error.value)
    with pytest.raises(UserError, match=r"own_values:answer is 42\.\nYour own number must be a"):
        Registry("number").bind("own_values:answer")


@pytest.mark.parametrize(
    "text",
    ["own_touch", "nspl(own_touch:f())", "own_touch.f", "own_touch:f.g", "own_touch:f()()", ":f"],
)
def test_only_a_name_of_the_form_module_and_name_is_imported(text, own_module):
    own_module("own_touch", "raise SystemExit('imported')\n")
    with pytest.raises(UserError):
        initjax.get(text)


def test_a_registry_forgets():
    registry = Registry("thing")
    registry.add("kept", dict)
    registry.add("kept", dict)
    with registry.restored():
        registry.add("lost", list)
        assert registry.bind("lost") == []
    assert list(registry) == ["kept"]


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
