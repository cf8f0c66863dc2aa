"""What every initializer is: a frozen value, called as init(key, shape, dtype)."""

import abc
import dataclasses
import functools
import inspect
import math
import operator
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from initjax.distributions.base import Distribution
from initjax.distributions.laws import DISTRIBUTIONS
from initjax.distributions.normal import Normal
from initjax.distributions.truncated_normal import TruncatedNormal
from initjax.distributions.uniform import Uniform
from initjax.initializers.axes import (
    DEFAULTS,
    AxisFields,
    FanFields,
    axis_roles,
    check_axes,
    draw_arranged,
)
from initjax.initializers.fans import MODES, effective_fan, fans
from initjax.support.arguments import one_of, positive
from initjax.support.dtypes import canonical_dtype, compute_dtype, dtype_name
from initjax.support.errors import UserError
from initjax.support.naming import Registry, call_problem
from initjax.support.types import Sharding

# What may answer a call that is not init(key, shape, dtype), as of another library; each gives None
# where it is not meant: (init, key, shape, dtype, out_sharding, other arguments) -> weights.
CALLS: list[Callable[..., Any]] = []


@dataclasses.dataclass(frozen=True, repr=False)
class Initializer(abc.ABC):
    """Base of the initializers: `init(key, shape, dtype=None, out_sharding=None)`."""

    # The name under which `repr` shows the value, and `initjax.get` reads it.
    factory: ClassVar[str] = ""

    if TYPE_CHECKING:

        def __call__(
            self,
            key: jax.Array,
            shape: Sequence[int],
            dtype: DTypeLike | None = None,
            out_sharding: Sharding = None,
        ) -> jax.Array: ...

    else:

        def __call__(self, key, shape=None, dtype=None, out_sharding=None, **others):
            """Weights of `shape`. Called in another way it says how, or answers as in `CALLS`."""
            form = f"{self!r} is called as init(key, shape, dtype)"
            no_key = isinstance(key, (int, float, str, list, tuple, np.generic))
            if others or no_key:
                for answer in CALLS:
                    weights = answer(self, key, shape, dtype, out_sharding, others)
                    if weights is not None:
                        return weights
            if others:
                raise UserError(
                    f"{form}, without {next(iter(others))}.\nOf forms with names that of Penzai is"
                    " known, with input_axes and output_axes, where Penzai is installed."
                )
            if no_key:
                raise UserError(
                    f"{form}; key={key!r} is no key.\nA key is jax.random.key(0). Haiku and Keras"
                    " call init(shape, dtype): that works inside hk.transform; Keras takes"
                    " initjax.for_keras(init), others lambda shape, dtype=None: init(key, shape,"
                    " dtype)."
                )
            try:
                sizes = tuple(shape) if isinstance(shape, Iterable) else (operator.index(shape),)
            except TypeError:
                raise UserError(f"{form}; shape={shape!r} is no shape.") from None
            return self._weights(key, sizes, dtype, out_sharding)

    @abc.abstractmethod
    def _weights(
        self,
        key: jax.Array,
        shape: tuple[int, ...],
        dtype: DTypeLike | None,
        out_sharding: Sharding,
    ) -> jax.Array:
        """What a subclass draws; `dtype` None stands for its own, and then for JAX's default."""

    def __repr__(self) -> str:
        shown = (
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        )
        return f"{self.factory}({', '.join(shown)})"


def reshard(w: jax.Array, out_sharding: Sharding) -> jax.Array:
    """`w` laid out as `out_sharding` says; None leaves it."""
    return w if out_sharding is None else jax.sharding.reshard(w, out_sharding)


def check_scale(initializer: Any, name: str) -> None:
    object.__setattr__(initializer, name, positive(getattr(initializer, name), name))


_NAMED_DISTRIBUTIONS = {
    "normal": Normal(),
    "truncated_normal": TruncatedNormal(),
    "uniform": Uniform(),
}


def as_distribution(value: Any) -> Distribution:
    """A Distribution, or one of the three names that JAX has for them."""
    if isinstance(value, Distribution):
        return value
    if isinstance(value, str) and value in _NAMED_DISTRIBUTIONS:
        return _NAMED_DISTRIBUTIONS[value]
    raise UserError(
        f"distribution={value!r} is neither an initjax Distribution nor one of"
        f" {', '.join(_NAMED_DISTRIBUTIONS)}."
    )


@dataclasses.dataclass(frozen=True, repr=False)
class Structured(Initializer):
    """Base: subclasses `build(key, shape, dtype)` in float32 or float64, which is cast last."""

    least_axes: ClassVar[int] = 2  # 1 where no axis is one of inputs, as in biases

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name == "dtype":
                object.__setattr__(self, "dtype", dtype_name(getattr(self, field.name)))
            elif field.name in ("scale", "stddev"):
                check_scale(self, field.name)
        check_axes(self)

    def _weights(self, key, shape, dtype, out_sharding):
        # Each subclass has this field, behind its own.
        dtype = dtype if dtype is not None else self.dtype  # pyright: ignore[reportAttributeAccessIssue]
        real_dtype = compute_dtype(dtype)
        if len(shape) < self.least_axes:
            least = {1: "one axis", 2: "two axes"}[self.least_axes]
            raise UserError(f"{self.factory} needs at least {least}; the shape is {shape}.")
        if math.prod(shape) == 0:
            w = jnp.zeros(shape, real_dtype)
        else:
            w = self.draw(key, shape, real_dtype)
        return reshard(w.astype(canonical_dtype(dtype)), out_sharding)

    def draw(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        """Weights whose axes are where `AxisFields` says, if the subclass has these."""
        if isinstance(self, AxisFields):
            axes = self.in_axis, self.out_axis, self.batch_axis
            if axes != (-2, -1, ()):
                batch, positions, *ends = axis_roles(shape, *axes)
                merged = [*((i,) for i in positions), *ends]
                return draw_arranged(
                    lambda key, shape: self.build(key, shape, dtype), key, shape, batch, merged
                )
        return self.build(key, shape, dtype)

    @abc.abstractmethod
    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        """Weights of float32 or float64, of a shape of `least_axes` or more, none of size 0."""


def centre(shape: tuple[int, ...], matrix: jax.Array) -> jax.Array:
    """A kernel of `shape` whose centre tap is `matrix` and whose other taps are 0."""
    if len(shape) == 2:
        return matrix
    centre = tuple((size - 1) // 2 for size in shape[:-2])
    return jnp.zeros(shape, matrix.dtype).at[centre].set(matrix)


def own_fans(initializer: FanFields, shape: tuple[int, ...]) -> tuple[float, float]:
    """(fan_in, fan_out) of weights (..., in, out), as an initializer was told of them."""
    packing = {name: getattr(initializer, name) for name in ("groups", "transposed", "split")}
    return fans(shape, **packing)


@dataclasses.dataclass(frozen=True, repr=False)
class FanScaled(FanFields, Structured):
    """Base: weights (..., in, out) of unit variance from `build_unit`, scaled to scale / fan."""

    scale: float = 2.0
    mode: str = "fan_in"
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.mode, MODES, "mode")

    def build(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        std = math.sqrt(self.scale / effective_fan(self.mode, *own_fans(self, shape)))
        return self.build_unit(key, shape, dtype) * dtype.type(std)

    @abc.abstractmethod
    def build_unit(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        """Weights of variance 1 over the layer."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What the catalogue says of one initializer with its defaults.

    Attributes:
      names: under which `initjax.get` knows it.
      formula: what it draws.
      reference: the source, with its year.
      use: when to use it.
      example: a text that `initjax.get` reads; with arguments where the name alone needs them.
    """

    names: tuple[str, ...]
    formula: str
    reference: str
    use: str
    example: str


def _own(name: str, value: Callable[..., Any]) -> Callable[..., Any]:
    """A factory, of the user's own factory or initializer."""
    try:
        parameters = list(inspect.signature(value).parameters)
    except ValueError:  # `Registry.bind` says so
        return value
    if parameters[1:2] == ["shape"]:
        return lambda: value

    @functools.wraps(value)
    def factory(*args, **keywords):
        made = value(*args, **keywords)
        if not callable(made):
            raise INITIALIZERS.not_of_the_form(f"{name} gave {made!r}.")
        return made

    return factory


INITIALIZERS = Registry(
    "initializer",
    DISTRIBUTIONS,
    own=_own,
    form="init(key, shape, dtype), or a function that returns one",
)
_ENTRIES: dict[Callable[..., Any], Entry] = {}

Factory = TypeVar("Factory", bound=Callable[..., Any])


def register(
    formula: str, reference: str, use: str, *more_names: str, name: str = "", example: str = ""
) -> Callable[[Factory], Factory]:
    """Decorator: lets `initjax.get` make what a factory makes, and the catalogue show it.

    The catalogue has the order of registration.

    Args:
      formula: as in `Entry`, as are reference and use.
      reference: the source, with its year.
      use: when to use it.
      *more_names: under which it is known as well.
      name: its name, where it is another than the factory's own.
      example: a call, where the name alone does not do: "fixup(num_branches=16)".

    A factory that is called as the initializer itself, with a key or a shape first, says so: Flax
    calls a `kernel_init=he_normal` in this way, Haiku and Keras a `w_init=he_normal`. Its
    `**fan: Unpack[FanArguments]` are six arguments in its signature.
    """

    def add(factory: Factory) -> Factory:
        names = (name or factory.__name__, *more_names)
        signature = _spelled_out(inspect.signature(factory))
        first = next(iter(signature.parameters), None)

        @functools.wraps(factory)
        def checked(*args, **keywords):
            what = "a key" if args and _is_key(args[0]) else "a shape"
            if what == "a key" or _is_given_a_shape(first, args, keywords):
                raise UserError(
                    f"{names[0]} makes an initializer, and was given {what}.\nCall it first:"
                    f" kernel_init={example or names[0] + '()'}."
                )
            if problem := call_problem(names[0], checked, args, keywords, example):
                raise UserError(problem)
            return factory(*args, **keywords)

        checked.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
        for known_as in names:
            INITIALIZERS.add(known_as, checked, known_as + example.removeprefix(names[0]))
        _ENTRIES[checked] = Entry(names, formula, reference, use, example or names[0])
        return cast(Factory, checked)

    return add


def _spelled_out(signature: inspect.Signature) -> inspect.Signature:
    """A signature with the names of a TypedDict in place of `**fan: Unpack[FanArguments]`."""
    parameters = list(signature.parameters.values())
    if not parameters or typing.get_origin(parameters[-1].annotation) is not typing.Unpack:
        return signature
    last = parameters.pop()
    (names,) = typing.get_args(last.annotation)
    own = [
        inspect.Parameter(name, last.KEYWORD_ONLY, default=DEFAULTS[name], annotation=annotation)
        for name, annotation in typing.get_type_hints(names).items()
    ]
    return signature.replace(parameters=[*parameters, *own])


def _is_key(value) -> bool:
    if not isinstance(value, (jax.Array, np.ndarray)):
        return False
    is_legacy = value.dtype == np.uint32 and value.ndim == 1
    return is_legacy or jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


_MOST_AXES = 8


def _is_given_a_shape(first, args, keywords) -> bool:
    """Whether a factory is called as (shape, dtype); `first` is the name of its first parameter."""
    if not (args and isinstance(args[0], (tuple, list)) and args[0]):
        return False
    if first == "in_axis":  # (0, 1) are axes, (64, 8) are not
        return any(isinstance(size, int) and size >= _MOST_AXES for size in args[0])
    return first != "value" and (len(args) > 1 or "dtype" in keywords)


def entries() -> list[Entry]:
    """One of every initializer, in the order of registration."""
    return [_ENTRIES[factory] for factory in dict.fromkeys(INITIALIZERS.values())]
