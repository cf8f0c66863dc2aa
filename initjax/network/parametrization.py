"""Parametrizations that keep what training does the same while a network grows.

    found = initjax.parametrization.mup(base_shapes, shapes, optimizer="adam")
    params = initjax.reinitialize(shapes, found.rules([("kernel", "he_normal")]), key)
    logits = model.apply({"params": found.multiply(params)}, x)
    optax.multi_transform(
        {label: optax.adam(0.01 * rate) for label, rate in found.label_rates.items()},
        found.labels(params),
    )

What is tuned at the base width holds at every other. `found.folded()` needs no multipliers: it is
what `launch.py --parametrization=mup --base_width=64` trains with, the model being as it was, and
`python -m initjax.signal.coordinates` checks.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from initjax.initializers.axes import AxisFields
from initjax.initializers.base import FanScaled, own_fans
from initjax.initializers.constant import Constant
from initjax.initializers.fans import effective_fan
from initjax.initializers.layout import Layout
from initjax.initializers.orthogonal import Orthogonal
from initjax.initializers.rescale import Rescaled, rescale
from initjax.initializers.scaled import Scaled
from initjax.initializers.variance_scaling import VarianceScaling
from initjax.network.conventions import conventional_layout
from initjax.network.layouts import find_layouts
from initjax.network.paths import get_owner, named_leaves
from initjax.network.rules import Rule, compile_pattern, first_matches, read_rules
from initjax.support.arguments import one_of
from initjax.support.errors import UserError
from initjax.support.naming import Call, Registry

PARAMETRIZATIONS = Registry("parametrization")
STANDARD = "standard"
OPTIMIZERS = ("sgd", "adam", "adamw")  # adam stands for all that divide by the gradient's size

# Leaves with one width, whatever the number of their axes; a row of a table is looked up.
_VECTORS = ("bias", "scale", "embedding")
_ROUNDING = 1e-6  # what float32 cannot tell from 1


@dataclasses.dataclass(frozen=True)
class Leaf:
    """What a parametrization makes of one leaf.

    Attributes:
      role: "input" (its outputs grow; also biases, scales and embeddings), "hidden" (both grow),
        "output" (its inputs grow), or "fixed" (nothing does).
      inputs: by how much its number of inputs is larger than the base network's: m.
      outputs: likewise, of its outputs.
      multiplier: of the leaf in the forward pass.
      rate: of its learning rate.
      folded: a multiplier that was put into the weights; see `Parametrization.folded`.
      shape, base: its shape (positions, in, out) here and in the base network; None where no
        axis is an input.
    """

    role: str = "fixed"
    inputs: float = 1.0
    outputs: float = 1.0
    multiplier: float = 1.0
    rate: float = 1.0
    folded: float = 1.0
    shape: tuple[int, ...] | None = None
    base: tuple[int, ...] | None = None

    def initial(self, init: Callable[..., Any]) -> float:
        """By what the weights of an initializer are multiplied, so that their size is
        that of the base network's for inputs and outputs, and 1 / sqrt(m) of it between.
        """
        if self.shape == self.base or self.shape is None:
            return self.folded
        here, base = _root_mean_square(init, self.shape), _root_mean_square(init, self.base)
        if not here or not base:
            return self.folded
        factor = base / here * (self.inputs**-0.5 if self.role == "hidden" else 1.0)
        return self.folded * (1.0 if abs(factor - 1) < _ROUNDING else factor)


@dataclasses.dataclass(frozen=True)
class Parametrization:
    """What becomes of every leaf of a network.

    Attributes:
      leaves: by path.
      optimizer: for which the rates are.
    """

    leaves: Mapping[str, Leaf]
    optimizer: str

    @property
    def roles(self) -> dict[str, str]:
        """{path: role}; see `Leaf`."""
        return {path: leaf.role for path, leaf in self.leaves.items()}

    @property
    def multipliers(self) -> dict[str, float]:
        """{path: factor of the leaf in the forward pass}."""
        return {path: leaf.multiplier for path, leaf in self.leaves.items()}

    @property
    def rates(self) -> dict[str, float]:
        """{path: factor of the learning rate}; weight decay is divided by it, where the
        learning rate multiplies it, so that their product stays.
        """
        return {path: leaf.rate for path, leaf in self.leaves.items()}

    @property
    def label_rates(self) -> dict[str, float]:
        """{label: factor of the learning rate}, for every label in `labels`."""
        return {repr(rate): rate for rate in sorted(set(self.rates.values()))}

    def labels(self, params: Any) -> Any:
        """A tree like `params` of labels for `optax.multi_transform`."""
        return _map(lambda path, _: repr(self.leaves[path].rate), params)

    def folded(self) -> "Parametrization":
        """The same training without multipliers, for a model that is left as it is.

        A weight that is multiplied by c in the forward pass moves as one that starts c times as
        large and has c times the learning rate (c^2 with SGD), weight decay being divided by that.
        With Adam up to its epsilon.
        """
        power = 2 if self.optimizer == "sgd" else 1
        return dataclasses.replace(
            self,
            leaves={
                path: dataclasses.replace(
                    leaf,
                    multiplier=1.0,
                    folded=leaf.folded * leaf.multiplier,
                    rate=leaf.rate * leaf.multiplier**power,
                )
                for path, leaf in self.leaves.items()
            },
        )

    def multiply(self, params: Any) -> Any:
        """The parameters that the forward pass takes, of those that are trained."""
        return self.scale(params, self.multipliers)

    def scale(self, params: Any, factors: Mapping[str, float]) -> Any:
        """`params` with leaves multiplied, by path; those whose factor is 1 are left alone."""
        return _map(
            lambda path, x: x if factors.get(path, 1.0) == 1.0 else x * factors[path], params
        )

    def rules(self, rules: Iterable[Any] | Mapping[str, Any]) -> list[Rule]:
        """Rules for `initjax.reinitialize` that give the leaves this parametrization's size.

        Args:
          rules: as `initjax.reinitialize` takes them, for the standard parametrization.

        Raises:
          UserError (a ValueError): a rule that matches no leaf, or a joint rule.
        """
        read = read_rules(rules)
        rules = [rule for rule in read if isinstance(rule, Rule)]
        if len(rules) < len(read):
            raise UserError(
                "A joint rule draws several leaves at once, and no width's factor is known for it:"
                " apply it after these rules."
            )
        paths = list(self.leaves)
        own = []
        for path, match in zip(
            paths, first_matches([rule.pattern for rule in rules], paths), strict=True
        ):
            if match is None:
                continue
            rule = rules[match[0]]
            init: Any = rule.init
            factor = self.leaves[path].initial(init)
            if factor != 1:
                if callable(rule.scale) and not rule.stacked:
                    raise UserError(
                        f"rule {rule.pattern!r}: its scale depends on the layer; give {path} a rule"
                        " of its own, with a number."
                    )
                init = rescale(init, factor)
                own.append(dataclasses.replace(rule, pattern=f"^{re.escape(path)}$", init=init))
        taken = {rule.pattern for rule in own}
        left = [path for path in paths if f"^{re.escape(path)}$" not in taken]
        return own + [r for r in rules if any(re.search(r.pattern, path) for path in left)]


def _map(function, tree):
    """A tree of function(path, leaf)."""
    values = [function(path, leaf) for path, leaf in named_leaves(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), values)


@dataclasses.dataclass(frozen=True)
class MaximalUpdate:
    """The maximal update parametrization (Yang, Hu et al. 2022, arXiv:2203.03466, table 8).

    With m = width / base width, and the standard parametrization's size at the base width,

    | array | init variance | multiplier | SGD's rate | Adam's rate |
    |---|---|---|---|---|
    | input weights, biases | as it was | 1 | m | 1 |
    | hidden weights | 1 / m | 1 | 1 | 1 / m |
    | output weights | as it was | 1 / m | m | 1 |

    A hidden layer whose inputs and outputs grow by different factors has m from its inputs for
    Adam, and outputs / inputs for SGD. At m = 1 it is the standard parametrization, bit for bit.

    Attention's logits are q k / d times sqrt(base d) instead of q k / sqrt(d): queries are
    multiplied by (d / base d)^(-1/2), d being the last axis of a query's leaf, the head's
    size. Of a leaf (features, heads * head size) it is taken that the number of heads stays.

    Attributes:
      queries: a regular expression on the paths of attention's queries.
    """

    queries: str = r"(^|/)(query|q_proj)(/|$)"
    exponent: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            compile_pattern(getattr(self, field.name))

    def __call__(
        self,
        base_shapes: Any,
        shapes: Any,
        optimizer: str = "adam",
        *,
        layouts: Mapping[str, Layout] | None = None,
    ) -> Parametrization:
        """See `mup`."""
        one_of(optimizer, OPTIMIZERS, "optimizer")
        base = {path: np.shape(leaf) for path, leaf in named_leaves(base_shapes)}
        keys = [path for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
        paths = {path for path, _ in named_leaves(shapes)}
        if lacking := sorted(p for p in paths.symmetric_difference(base) if not self._repeats(p)):
            raise UserError(
                f"{lacking[0]} is in one of the two networks only. They must differ in width alone;"
                " depth_mup and complete_p take another number of blocks too."
            )
        leaves = {}
        for key, (path, leaf) in zip(keys, named_leaves(shapes), strict=True):
            shape = np.shape(leaf)
            owner = get_owner(shapes, key)
            found = _leaf(path, shape, _base_shape(path, shape, base), owner, layouts)
            rate = _rate(found, optimizer)
            multiplier = 1 / found.inputs if found.role == "output" else 1.0
            if found.role != "fixed" and re.search(self.queries, path):
                multiplier *= (shape[-1] / _base_shape(path, shape, base)[-1]) ** -0.5
            leaves[path] = dataclasses.replace(found, rate=rate, multiplier=multiplier)
        return Parametrization(self._deepened(leaves, list(base), optimizer), optimizer)

    def _repeats(self, path) -> bool:
        """Whether a leaf may be in a part of which the networks have another number."""
        return False

    def _deepened(self, leaves, base_paths, optimizer) -> dict[str, Leaf]:
        return leaves


@dataclasses.dataclass(frozen=True)
class DepthMaximalUpdate(MaximalUpdate):
    """Depth-muP: every residual branch times m_L^(-1/2) (Yang et al. 2023, arXiv:2310.02244).

    m_L is the number of blocks over that of the base network, counted in the paths. With the
    exponent a (1/2; 1 for `CompleteP`) a branch's last layer is multiplied by m_L^(-a), and
    within blocks Adam's rate by m_L^(a - 1), SGD's by m_L^(2 a - 1): what one step changes the
    stream by, over all branches, stays.

    Attributes:
      blocks: a regular expression on paths whose matches tell blocks apart.
      ends: one on the paths of the last layers of branches, their kernels and biases.
    """

    blocks: str = r"Block_\d+/"
    ends: str = r"(out|Dense_1)/(kernel|bias)$"
    exponent: ClassVar[float] = 0.5

    def _deepened(self, leaves, base_paths, optimizer) -> dict[str, Leaf]:
        number, base = (self._number(paths) for paths in (leaves, base_paths))
        m = number / base
        power = self.exponent - 1 if optimizer != "sgd" else 2 * self.exponent - 1
        deepened, ended = dict(leaves), False
        for path, leaf in leaves.items():
            if re.search(self.blocks, path):
                end = bool(re.search(self.ends, path))
                ended |= end
                multiplier = leaf.multiplier * (m**-self.exponent if end else 1.0)
                deepened[path] = dataclasses.replace(
                    leaf, rate=leaf.rate * m**power, multiplier=multiplier
                )
        if not ended:
            raise UserError(f"ends={self.ends!r} matches no leaf of a block. {_shown(leaves)}")
        return deepened

    def _repeats(self, path) -> bool:
        return bool(re.search(self.blocks, path))

    def _number(self, paths) -> int:
        found = {match[0] for path in paths if (match := re.search(self.blocks, path))}
        if not found:
            raise UserError(f"blocks={self.blocks!r} matches no leaf. {_shown(paths)}")
        return len(found)


@dataclasses.dataclass(frozen=True)
class CompleteP(DepthMaximalUpdate):
    """CompleteP: every residual branch times 1 / m_L (Dey et al. 2025, arXiv:2505.01618, table 1).

    See `DepthMaximalUpdate`. Adam's epsilon, which the source divides by m m_L in blocks, is left
    as it is: keep it far below the gradients' size.
    """

    exponent: ClassVar[float] = 1.0


PARAMETRIZATIONS.add("mup", MaximalUpdate)
PARAMETRIZATIONS.add("depth_mup", DepthMaximalUpdate)
PARAMETRIZATIONS.add("complete_p", CompleteP)


def read_parametrization(text: str | Call | MaximalUpdate) -> MaximalUpdate | None:
    """What "mup" or "depth_mup(ends='Dense_1')" names; None of "standard".

    Raises:
      UserError (a ValueError): an unknown name, or arguments that it does not take.
    """
    if str(text) == STANDARD:
        return None
    return text if isinstance(text, MaximalUpdate) else PARAMETRIZATIONS.bind(text)


def mup(base_shapes: Any, shapes: Any, optimizer: str = "adam", **options: Any) -> Parametrization:
    """The maximal update parametrization, from the shapes of two networks; see `MaximalUpdate`.

    Args:
      base_shapes: the parameters of a narrow network, or their shapes, as from
        `jax.eval_shape(model.init, ...)`: of the width at which the learning rate is tuned.
      shapes: those of the network that is to be trained. Which axes differ is what tells widths.
      optimizer: "sgd", "adam" or "adamw".
      **options: `layouts`, as `find_layouts(model, params, x)` returns them, where a shape
        does not tell which axes are inputs; then leaves that have none there, such as position
        embeddings, are vectors. `queries`, see `MaximalUpdate`.

    Returns:
      A `Parametrization`: roles, multipliers and rates by path, rules and labels.

    Raises:
      UserError (a ValueError): leaves that the base network lacks, or whose axes are not known.

    >>> nets = [{"a/kernel": np.ones((3, n)), "b/kernel": np.ones((n, 2))} for n in (4, 8)]
    >>> found = mup(*nets)
    >>> found.roles, found.multipliers["b/kernel"]
    ({'a/kernel': 'input', 'b/kernel': 'output'}, 0.5)
    """
    return _call("mup", base_shapes, shapes, optimizer, options)


def depth_mup(
    base_shapes: Any, shapes: Any, optimizer: str = "adam", **options: Any
) -> Parametrization:
    """Depth-muP, from the shapes of two networks; see `mup` and `DepthMaximalUpdate`."""
    return _call("depth_mup", base_shapes, shapes, optimizer, options)


def complete_p(
    base_shapes: Any, shapes: Any, optimizer: str = "adam", **options: Any
) -> Parametrization:
    """CompleteP, from the shapes of two networks; see `mup` and `CompleteP`."""
    return _call("complete_p", base_shapes, shapes, optimizer, options)


def ntk(
    shapes: Any, optimizer: str = "adam", *, layouts: Mapping[str, Layout] | None = None
) -> Parametrization:
    """The NTK parametrization (Jacot et al. 2018, arXiv:1806.07572).

    Weights of variance gain^2 that the layer multiplies by 1 / sqrt(fan_in): the network is, at the
    start, that of the standard parametrization, whatever the initializer. Rates stay.

    Args:
      shapes: the parameters of a network, or their shapes.
      optimizer: "sgd", "adam" or "adamw".
      layouts: as in `mup`.

    Raises:
      UserError (a ValueError): leaves whose axes are not known.
    """
    one_of(optimizer, OPTIMIZERS, "optimizer")
    keys = [path for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    leaves = {}
    for key, (path, leaf) in zip(keys, named_leaves(shapes), strict=True):
        layout = _layout(path, np.shape(leaf), get_owner(shapes, key), layouts)
        root = 1.0 if layout is None else layout.fans(np.shape(leaf))[0] ** 0.5
        leaves[path] = Leaf(multiplier=1 / root, folded=root)
    return Parametrization(leaves, optimizer)


def of_module(
    method: MaximalUpdate, base: Any, model: Any, x: Any, optimizer: str = "adam"
) -> Parametrization:
    """What a method makes of a Flax Linen module.

    Args:
      method: such as `MaximalUpdate()`.
      base: the module at the size at which the parametrization is the standard one.
      model: the module.
      x: what both are called with, or its shape.
      optimizer: "sgd", "adam" or "adamw".

    Raises:
      UserError (a ValueError): as `mup`.
    """
    base_shapes, shapes = (jax.eval_shape(m.init, jax.random.key(0), x) for m in (base, model))
    layouts = None
    leaves = named_leaves(shapes["params"])
    if any(conventional_layout(path, leaf.shape) is None for path, leaf in leaves):
        layouts = {
            path.removeprefix("params/"): layout
            for path, layout in find_layouts(model, shapes, x).items()
        }
    return method(base_shapes["params"], shapes["params"], optimizer, layouts=layouts)


def initial_factors(
    found: Parametrization,
    kernel_init: Callable[..., Any],
    dense_init: Callable[..., Any] | None = None,
) -> dict[str, float]:
    """{path: by what the weights that a model draws are multiplied}, those that are not 1.

    Leaves called "kernel" are taken for draws from `kernel_init`, those of dense layers from
    `dense_init` if there is one; other leaves for drawn whatever the width.
    """
    factors = {}
    for path, leaf in found.leaves.items():
        is_dense = len(leaf.shape or ()) == 2
        init = dense_init if dense_init is not None and is_dense else kernel_init
        factor = leaf.initial(init) if path.rpartition("/")[2] == "kernel" else leaf.folded
        if factor != 1:
            factors[path] = factor
    return factors


def _call(name, base_shapes, shapes, optimizer, options):
    layouts = options.pop("layouts", None)
    method = PARAMETRIZATIONS.bind(Call(name, (), tuple(options.items())))
    return method(base_shapes, shapes, optimizer, layouts=layouts)


def _base_shape(path, shape, base) -> tuple[int, ...]:
    """The shape in the base network of the leaf at `path`, or of one in another block.

    That is one whose path differs in a number; all such leaves must have one shape.
    """
    if path in base:
        found = {base[path]}
    else:
        parts = re.split(r"(\d+)", path)
        patterns = [
            re.compile("".join(r"\d+" if j == i else re.escape(p) for j, p in enumerate(parts)))
            for i in range(1, len(parts), 2)
        ]
        found = {s for p, s in base.items() if any(pattern.fullmatch(p) for pattern in patterns)}
    if len(found) != 1:
        raise UserError(
            f"The base network has {'blocks of several shapes' if found else 'no other block'} for"
            f" {path}. Give it the depth of the network."
        )
    (base_shape,) = found
    if len(base_shape) != len(shape):
        raise UserError(f"{path}: shapes {shape} and, of the base, {base_shape} have other axes.")
    return base_shape


def _leaf(path, shape, base, owner, layouts) -> Leaf:
    """The role and widths of a leaf."""
    if shape == base:
        return Leaf()
    layout = _layout(path, shape, owner, layouts)
    if layout is None:
        return Leaf("input", outputs=math.prod(shape) / math.prod(base))
    flat, flat_base = _flat(layout, shape), _flat(layout, base)
    inputs, outputs = (a / b for a, b in zip(flat[-2:], flat_base[-2:], strict=True))
    if inputs == outputs == 1:  # other positions, or more slices of a stack
        return Leaf()
    role = "input" if inputs == 1 else "output" if outputs == 1 else "hidden"
    return Leaf(role, inputs, outputs, shape=flat, base=flat_base)


def _layout(path, shape, owner, layouts) -> Layout | None:
    """None of a vector."""
    if len(shape) < 2 or path.rpartition("/")[2] in _VECTORS:
        return None
    layout = (layouts or {}).get(path) or conventional_layout(path, shape, owner)
    if layout is None and layouts is None:
        raise UserError(
            f"{path}, shape {shape}: which axes are inputs is not known.\nGive"
            " layouts=initjax.find_layouts(model, params, x)."
        )
    return layout


def _flat(layout: Layout, shape) -> tuple[int, ...]:
    """(positions, in, out) of a slice."""
    _, positions, inputs, outputs = layout.roles(shape)
    ends = (math.prod(shape[i] for i in axes) for axes in (inputs, outputs))
    return (*(shape[i] for i in positions), *ends)


def _rate(leaf: Leaf, optimizer) -> float:
    if optimizer == "sgd":
        return leaf.inputs if leaf.role == "output" else leaf.outputs / leaf.inputs
    return 1 / leaf.inputs if leaf.role == "hidden" else 1.0


def _root_mean_square(init, shape) -> float:
    """Of an initializer's weights, up to a factor that is the same for all shapes."""
    if isinstance(init, Rescaled):
        return _root_mean_square(init.initializer, shape)
    if isinstance(init, (Scaled, Constant)):
        return float(init != Constant(0.0, init.dtype))
    if isinstance(init, VarianceScaling):
        own = init.in_axis, init.out_axis, init.batch_axis
        plain = dataclasses.replace(init, in_axis=-2, out_axis=-1, batch_axis=())
        return math.sqrt((init if own == (-2, -1, ()) else plain).variance(shape))
    if isinstance(init, AxisFields):
        init = cast(Any, dataclasses.replace(init, in_axis=-2, out_axis=-1, batch_axis=()))
    if isinstance(init, FanScaled):
        return effective_fan(init.mode, *own_fans(init, shape)) ** -0.5
    if isinstance(init, Orthogonal) and (init.column_axis, init.groups, init.split) == (-1, 1, 1):
        inputs, outputs = math.prod(shape[:-1]), shape[-1]
        widened = max(outputs / inputs, 1.0) ** 0.5 if init.rescale else 1.0
        return widened * max(inputs, outputs) ** -0.5
    with jax.ensure_compile_time_eval():  # measured, on one draw
        return float(jnp.sqrt(jnp.mean(jnp.square(init(jax.random.key(0), shape, jnp.float32)))))


def _shown(paths) -> str:
    shown = ", ".join(list(paths)[:8])
    return f"There are: {shown}{', ...' if len(paths) > 8 else ''}."
