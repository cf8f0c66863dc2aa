"""Factors on the learning rate, by layer: --learning_rate_rules='Conv_0=0.5,Dense=0.1', or those of
a parametrization, --parametrization=mup."""

from collections.abc import Mapping, Sequence

import jax
import optax

from initjax.network.paths import named_leaves
from initjax.network.rules import compile_pattern, first_matches
from initjax.support.arguments import not_negative
from initjax.support.errors import UserError
from initjax.support.naming import split_names


def read_rules(text: str) -> tuple[tuple[str, float], ...]:
    """The (pattern, factor) that a text names; a comma inside of brackets is the pattern's.

    >>> read_rules("Conv_0=0.5, Conv_[1-9]{1,2}/kernel=0.1")
    (('Conv_0', 0.5), ('Conv_[1-9]{1,2}/kernel', 0.1))

    Raises:
      UserError (a ValueError): a text of another form, a factor that is negative or not finite.
    """
    rules = []
    for part in split_names(text):
        pattern, _, factor = part.rpartition("=")
        if not pattern:
            raise UserError(f"{part!r} is not of the form pattern=factor, such as Conv_0=0.5.")
        compile_pattern(pattern)
        rules.append((pattern, not_negative(factor, pattern)))
    return tuple(rules)


def scale_by_rules(rules: Sequence[tuple[str, float]]) -> optax.GradientTransformation:
    """Multiplies what an optimizer adds to a parameter by its factor; at the end of a chain.

    That is the learning rate times the factor, for decoupled weight decay too. A parameter's factor
    is that of the first pattern that is found in its path, as in `initjax.reinitialize`; 1 where
    none is.

    Raises:
      UserError (a ValueError): by `init`, a rule that no parameter has.
    """

    def factors(params):
        structure = jax.tree.structure(params)
        try:
            matches = first_matches([p for p, _ in rules], [p for p, _ in named_leaves(params)])
        except UserError as error:
            raise UserError(f"--learning_rate_rules: {error}") from None
        return structure.unflatten([1.0 if m is None else rules[m[0]][1] for m in matches])

    def init(params):
        factors(params)
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params
        return jax.tree.map(lambda u, factor: u * factor, updates, factors(updates)), state

    return optax.GradientTransformation(init, update)


def scale_by_path(rates: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiplies what an optimizer adds to the parameter at a path by its rate; as the last."""

    def update(updates, params):
        del params
        return _mapped(lambda u, rate: u * rate, rates, updates)

    return optax.stateless(update)


def add_decay(weight_decay, rates: Mapping[str, float]) -> optax.GradientTransformation:
    """`optax.add_decayed_weights`, divided by the rate of each path that has one."""
    if not rates:
        return optax.add_decayed_weights(weight_decay)

    def update(updates, params):
        return _mapped(lambda u, rate, p: u + weight_decay / rate * p, rates, updates, params)

    return optax.stateless(update)


def _mapped(function, rates, updates, *trees):
    """A tree of function(update, rate, *leaves)."""
    own = jax.tree.unflatten(
        jax.tree.structure(updates), [rates[path] for path, _ in named_leaves(updates)]
    )
    return jax.tree.map(function, updates, own, *trees)
