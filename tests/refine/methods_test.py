"""Refinements by name: one decorator adds one, and a module of the user's own may have it."""

import jax
import numpy as np
import pytest

from initjax import refine
from initjax.models import create_model
from initjax.refine.methods import METHODS
from initjax.support.errors import UserError
from initjax.support.naming import parse

OWN = """
import jax
from initjax.refine.methods import register
from initjax.refine.reports import Report


@register
def throw_away(model, params, batch, key, *, factor: float = 2.0, held_out=None):
    report = Report("throw_away", "nothing", 0.0, 0.0, len(batch), 0, ())
    return jax.tree.map(lambda x: factor * x, params), report


def no_key(model, params, batch, held_out=None):
    pass
"""


@pytest.fixture
def network():
    model = create_model("mlp(depth=1, width=4)")
    x = jax.random.normal(jax.random.key(0), (8, 2, 2, 1))
    return model, model.init(jax.random.key(1), x)["params"], x, jax.random.key(2)


def check_doubled(refined, params, factor):
    for after, before in zip(jax.tree.leaves(refined), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(after, factor * before)


@pytest.mark.slow
def test_one_decorator_adds_a_throw_away_refinement(own_module, network):
    own_module("own_refinements", OWN)
    names = refine.names()
    with METHODS.restored():
        import own_refinements  # noqa: F401

        assert set(refine.names()) - set(names) == {"throw_away"}
        refine.check("throw_away(factor=3.0)")
        refined, report = refine.refine(parse("throw_away(factor=3.0)"), *network)
        assert report.method == "throw_away"
        check_doubled(refined, network[1], 3)
        with pytest.raises(UserError, match="It takes: factor=2"):
            refine.check(parse("throw_away(3, size=4)"))
    assert refine.names() == names
    with pytest.raises(UserError, match="Unknown refinement 'throw_away'"):
        refine.check("throw_away")


@pytest.mark.slow
def test_a_refinement_of_the_users_own(own_module, network):
    own_module("own_methods", OWN.replace("@register", ""))
    check_doubled(refine.refine("own_methods:throw_away", *network)[0], network[1], 2)
    for name, message in (
        ("own_methods:no_key", "own_methods:no_key takes no key.\nYour own refinement must be me"),
        ("own_methods:throw_away(size=4)", "size'. It takes: factor=2.0.\nYour own refinement"),
    ):
        with pytest.raises(UserError) as error:
            refine.check(name)
        assert message in str(error.value)
