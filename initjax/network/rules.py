"""Initializers by rules on the paths of a parameter tree."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from initjax.initializers.catalog import get
from initjax.initializers.layout import Layout, knows_axes, laid_out
from initjax.network.conventions import conventional_layout
from initjax.network.joint_rules import JointRule, Part, draw_block, find_blocks
from initjax.network.paths import compile_pattern, get_owner, named_leaves, path_key
from initjax.support.arguments import finite
from initjax.support.caching import cached
from initjax.support.dtypes import wide_dtype
from initjax.support.errors import UserError

_SHOWN_PATHS = 8


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which leaves of a tree start from which initializer; see `reinitialize`.

    Args:
      pattern: a regular expression that is searched in the path of a leaf, such as
        "Block_0/Conv_0/kernel".
      init: an initializer, by name or by value; any `init(key, shape, dtype)`.
      stacked: the leaf's first axis stacks the layers of an `nn.scan` or `nnx.vmap`: every slice is
        an array of its own, with its own key and the fans of the slice.
      scale: a factor for the weights, or a function (layer index, number of layers) of one. The
        layers are the slices of a stacked leaf; else those that the group (?P<layer>...) of
        `pattern` tells apart, in the order of their numbers.
      layout: which axes are inputs and outputs, where nothing else tells: a `Layout` or its text,
        a letter an axis, such as "oihw" or "ioo"; with `stacked` that of a slice.

    Raises:
      UserError (a ValueError): a pattern that is no regular expression, an unknown initializer, a
        scale that is not a finite number, or one that asks for layers that nothing counts.
    """

    pattern: str
    init: str | Callable[..., Any]
    stacked: bool = False
    scale: float | Callable[[int, int], float] | None = None
    layout: str | Layout | None = None

    def __post_init__(self) -> None:
        groups = compile_pattern(self.pattern).groupindex
        object.__setattr__(self, "init", get(self.init))
        if self.layout is not None:
            object.__setattr__(self, "layout", Layout.read(self.layout))
        if callable(self.scale):
            if not self.stacked and "layer" not in groups:
                raise UserError(
                    f"scale={self.scale!r} depends on the layer: say stacked=True, or mark the"
                    f" layer's number in pattern={self.pattern!r} as (?P<layer>\\d+)."
                )
        elif self.scale is not None:
            object.__setattr__(self, "scale", finite(self.scale, "scale"))


def first_matches(
    patterns: Sequence[str], paths: Sequence[str], rules: Sequence[int] | None = None
) -> list[tuple[int, re.Match[str]] | None]:
    """For each path (number, match) of the first pattern that is found in it; None where none is.

    Args:
      patterns: regular expressions.
      paths: of leaves.
      rules: for each pattern the number of its rule, where a rule has several; it is enough that
        one of them is used.

    Raises:
      UserError (a ValueError): a pattern that is the first in no path; it names the nearest paths.
    """
    matches = [_first_match(patterns, path) for path in paths]
    _check_every_pattern_is_used(patterns, matches, paths, rules or range(len(patterns)))
    return matches


def reinitialize(
    params: Any,
    rules: Iterable[Rule | JointRule | tuple[str, str | Callable[..., Any]]]
    | Mapping[str, str | Callable[..., Any]],
    key: jax.Array,
    *,
    layouts: Mapping[str, Layout] | None = None,
) -> Any:
    """A tree like `params` whose leaves start anew, each from the first rule that matches its path.

    Leaves that no rule matches are kept. Each keeps its shape, dtype and sharding. A leaf's key is
    folded from its path, so that adding or removing layers leaves the weights of all others as they
    were. Equal layers share one compiled program, which later calls use again; nothing is computed
    from the old values, and a sharded leaf is made shard by shard.

    Paths are the keys of the tree, joined by "/": "Block_0/Conv_0/kernel". The `value` inside an
    NNX variable or a partitioned box is left out, so that one set of rules fits Linen and NNX.

    Initializers divide by numbers of inputs and outputs, and a shape alone does not tell which axes
    these are. The initializer itself may say it (`he_normal(in_axis=0, out_axis=(1, 2))`), or its
    rule, `layouts`, or a convention that leaves no doubt (`conventional_layout`). A leaf of which
    none of them knows is refused, unless no axis matters, as for zeros.

    Args:
      params: any tree of arrays: the parameters of a Flax Linen module, `nnx.state(model)`, a named
        tuple, a list. Arrays that are to be filled may be `jax.ShapeDtypeStruct`s, as from
        `jax.eval_shape(model.init, ...)`: then no weights are ever made twice.
      rules: `Rule`s or pairs (pattern, initializer), or `JointRule`s, which set several leaves of
        a block together; the first that matches wins.
      key: a PRNG key.
      layouts: what `find_layouts(model, params, x)` found in the model's program.

    Returns:
      A tree of the structure of `params`. Under `jax.jit` it becomes part of the program that is
      traced; arrays that are traced have no sharding to keep unless their mesh axes are explicit.

    Raises:
      UserError (a ValueError): a rule that initializes no leaf, an initializer that does not fit a
        leaf, a leaf whose axes are not known, or what `Rule` raises.

    >>> params = {"Dense_0": {"kernel": jnp.zeros((8, 4)), "bias": jnp.ones(4)}}
    >>> rules = [("kernel", "he_normal"), ("bias", "zeros")]
    >>> params = reinitialize(params, rules, jax.random.key(0))
    >>> params["Dense_0"]["bias"]
    Array([0., 0., 0., 0.], dtype=float32)

    Twelve layers of a scanned transformer, their variance falling with depth:

    >>> stack = {"blocks": {"kernel": jnp.zeros((12, 64, 64))}}
    >>> falling = lambda layer, num_layers: (layer + 1) ** -0.5
    >>> rule = Rule("kernel", "lecun_normal", stacked=True, scale=falling)
    >>> reinitialize(stack, [rule], jax.random.key(0))["blocks"]["kernel"].shape
    (12, 64, 64)
    """
    made = read_rules(rules)
    roles = [  # of each pattern the number of its rule and what it finds: joint rules have several
        (number, role, pattern)
        for number, rule in enumerate(made)
        for role, pattern in (
            rule.patterns.items() if isinstance(rule, JointRule) else [("", rule.pattern)]
        )
    ]
    by_pattern = [made[number] for number, *_ in roles]
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    paths = [path for path, _ in named_leaves(params)]
    matches = first_matches([pattern for *_, pattern in roles], paths, [i for i, *_ in roles])
    scales = _scales(by_pattern, matches, [np.shape(leaf) for _, leaf in leaves], paths)
    key = _movable(key, leaves)
    together = {}
    for number, rule in enumerate(made):
        if isinstance(rule, JointRule):
            own = [m and roles[m[0]][:2] for m in matches]
            own = [found[1] if found and found[0] == number else None for found in own]
            together |= _draw_together(rule, own, params, leaves, paths, layouts or {}, key)
    new_leaves = []
    for (keys, leaf), path, match, scale in zip(leaves, paths, matches, scales, strict=True):
        if match is None or path in together:
            new_leaves.append(together.get(path, leaf))
            continue
        rule = by_pattern[match[0]]
        try:
            found = (layouts or {}).get(path)
            init = _laid_out(rule, np.shape(leaf), path, found, get_owner(params, keys))
            new_leaves.append(_initialize(init, leaf, path, scale, key))
        except ValueError as error:  # UserError too
            raise UserError(
                f"{path}, shape {np.shape(leaf)}, rule {roles[match[0]][2]!r}: {error}"
            ) from error
    return jax.tree_util.tree_unflatten(structure, new_leaves)


def read_rules(rules: Any) -> list[Rule | JointRule]:
    """Rules of what `reinitialize` takes: pairs, a mapping, or rules."""
    if isinstance(rules, Mapping):
        rules = rules.items()
    if isinstance(rules, (str, Rule, JointRule)):
        raise UserError(f"rules={rules!r} is not a sequence of rules.")
    made = []
    for rule in rules:
        if not isinstance(rule, Rule | JointRule):
            if not isinstance(rule, (tuple, list)) or len(rule) != 2:
                raise UserError(f"rule {rule!r} is neither a Rule nor (pattern, initializer).")
            rule = Rule(*rule)
        made.append(rule)
    return made


def _first_match(patterns, path):
    for i, pattern in enumerate(patterns):
        match = re.search(pattern, path)
        if match:
            return i, match
    return None


def _check_every_pattern_is_used(patterns, matches, paths, rules):
    used = {rules[match[0]] for match in matches if match is not None}
    for i, pattern in enumerate(patterns):
        if rules[i] in used:
            continue
        if any(re.search(pattern, path) for path in paths):
            raise UserError(
                f"The rule {pattern!r} is never reached: earlier rules match all its leaves."
            )
        near = difflib.get_close_matches(pattern, paths, n=_SHOWN_PATHS, cutoff=0.0)
        shown = ", ".join(path for path in paths if path in near)
        shown += ", ..." if len(paths) > _SHOWN_PATHS else ""
        raise UserError(f"The rule {pattern!r} matches no leaf. There are: {shown or 'none'}.")


def _scales(rules, matches, shapes, paths):
    """For every leaf None, or its multiplier: a scalar, or one number a slice."""
    layers = [set() for _ in rules]
    for match, path in zip(matches, paths, strict=True):
        if match is not None and callable(rules[match[0]].scale) and not rules[match[0]].stacked:
            layers[match[0]].add(_layer_number(match[1], path))
    order = [sorted(numbers) for numbers in layers]
    scales = []
    for match, shape, path in zip(matches, shapes, paths, strict=True):
        rule = None if match is None else rules[match[0]]
        if match is None or rule is None or rule.scale is None:
            scales.append(None)
        elif not callable(rule.scale):
            scales.append(np.float64(rule.scale))
        elif rule.stacked:
            num_layers = shape[0] if shape else 0
            numbers = [_scale(rule, i, num_layers) for i in range(num_layers)]
            scales.append(np.array(numbers, np.float64))
        else:
            numbers = order[match[0]]
            index = numbers.index(_layer_number(match[1], path))
            scales.append(np.float64(_scale(rule, index, len(numbers))))
    return scales


def _scale(rule, layer, num_layers):
    return finite(rule.scale(layer, num_layers), f"scale({layer}, {num_layers})")


def _layer_number(match, path) -> int:
    try:
        return int(match["layer"])
    except (TypeError, ValueError):
        raise UserError(
            f"The group 'layer' of {match.re.pattern!r} is {match['layer']!r} in {path}, not an"
            " int."
        ) from None


def _movable(key, leaves) -> Any:
    """`key`, not bound to a device where leaves are bound to others."""
    if isinstance(key, jax.core.Tracer) or not getattr(key, "committed", False):
        return key
    if all(_sharding(leaf) in (None, key.sharding) for _, leaf in leaves):
        return key
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        data: Any = np.asarray(jax.random.key_data(key))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))
    return np.asarray(key)


def _sharding(leaf):
    """Where the new leaf must be; None where JAX may choose."""
    if isinstance(leaf, jax.core.Tracer):
        return None
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.sharding
    return leaf.sharding if getattr(leaf, "committed", False) else None


def _laid_out(rule, shape, path, found, owner) -> Callable[..., Any]:
    """The initializer of a rule for a leaf of these axes."""
    if rule.stacked and not shape:
        raise UserError("stacked=True needs a first axis of layers.")
    layout = rule.layout or found
    if layout is None:
        layout = conventional_layout(path, shape[rule.stacked :], owner)
    elif rule.layout is None and rule.stacked and 0 in layout.stacked:
        return laid_out(rule.init, layout)
    if layout is None:
        if not knows_axes(rule.init):
            raise UserError(
                "which axes are inputs is not known.\nGive reinitialize layouts="
                "initjax.find_layouts(model, params, x), or the Rule layout='ioo', a letter an"
                " axis: i input, o output, s stacked, another a position."
            )
        layout = Layout()
    return laid_out(rule.init, layout.stack() if rule.stacked else layout)


def _draw_together(rule, roles, params, leaves, paths, layouts, key) -> dict[str, Any]:
    """The new leaves of a joint rule, by path; `roles` are those in which it starts the leaves."""
    drawn = {}
    for block in find_blocks(rule, paths):
        own = {role: i for role, i in block.items() if roles[i] == role}
        if not own:
            continue
        first = paths[next(iter(own.values()))]
        try:
            parts = {
                role: Part(
                    tuple(np.shape(leaves[i][1]))[rule.stacked :],
                    _layout_of_slice(rule, params, leaves[i], paths[i], layouts.get(paths[i])),
                )
                for role, i in block.items()
            }
            described = {role: _described(leaves[i][1]) for role, i in own.items()}
            new = draw_block(rule, parts, described, path_key(key, first))
        except ValueError as error:  # UserError too
            raise UserError(f"The block of {first}: {error}") from error
        drawn |= {paths[i]: _as_traced(new[role], leaves[i][1]) for role, i in own.items()}
    return drawn


def _layout_of_slice(rule, params, keys_and_leaf, path, found) -> Layout | None:
    keys, leaf = keys_and_leaf
    if found is not None:
        return found.slice() if rule.stacked else found
    return conventional_layout(path, np.shape(leaf)[rule.stacked :], get_owner(params, keys))


def _described(leaf):
    """(shape, dtype, sharding) of the array that takes the leaf's place."""
    dtype = jnp.result_type(leaf)
    if not jnp.issubdtype(dtype, jnp.number):
        raise UserError(f"dtype={dtype} cannot hold weights.")
    return tuple(np.shape(leaf)), dtype, _sharding(leaf)


def _as_traced(weights, leaf):
    """`weights` where a traced leaf with explicit mesh axes is."""
    if isinstance(leaf, jax.core.Tracer):
        sharding = jax.typeof(leaf).sharding
        if jax.sharding.AxisType.Explicit in sharding.mesh.axis_types:
            return jax.sharding.reshard(weights, sharding)
    return weights


def _initialize(init, leaf, path, scale, key):
    shape, dtype, sharding = _described(leaf)
    weights = _program(init, shape, dtype, sharding)(path_key(key, path), scale)
    return _as_traced(weights, leaf)


@cached
def _program(init, shape, dtype, sharding):
    """The compiled program (key of the leaf, scale) -> weights that equal leaves share."""

    def draw(key, scale):
        if scale is None:
            weights = init(key, shape, dtype)
        else:  # multiplied in float32 or float64, rounded last
            wide = wide_dtype(dtype)
            layers = (
                scale.astype(wide).reshape(-1, *[1] * (len(shape) - 1)) if scale.ndim else scale
            )
            weights = init(key, shape, wide) * layers.astype(wide)
        if weights.shape != shape:
            raise UserError(f"{init!r} gave weights of shape {weights.shape}.")
        return weights.astype(dtype)

    return jax.jit(draw, out_shardings=sharding)
