"""Which axes of an array are what, for initializers that know only (..., in, out)."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax

from initjax.initializers.axes import AxisFields, axis_roles, draw_arranged
from initjax.initializers.base import Initializer, Structured, reshard
from initjax.initializers.constant import Constant
from initjax.initializers.fans import Axes, axes_tuple, fans
from initjax.initializers.orthogonal import Orthogonal
from initjax.initializers.rescale import Rescaled
from initjax.initializers.scaled import Scaled
from initjax.initializers.variance_scaling import VarianceScaling
from initjax.support.errors import UserError


@dataclasses.dataclass(frozen=True)
class Layout:
    """The roles of an array's axes; axes that have none are positions of a kernel.

    As a text it has a letter an axis: i an input, o an output, s a stack of layers, any other a
    position. "hwio" is a convolution of Flax, "oihw" one of PyTorch, "oi" a dense layer of Equinox;
    "ioo" are attention's projections (features, heads, head size), "iio" its last one (heads, head
    size, features); "sio" are dense layers of an `nn.scan`.

    Attributes:
      in_axis: axis or axes of the inputs.
      out_axis: axis or axes of the outputs.
      stacked: axis or axes that stack independent layers.
      groups: groups of a convolution, as in `fans`.
      transposed: strides of a transposed convolution, as in `fans`.
      split: layers packed side by side along the outputs, as in `fans`.
      num_axes: how many axes the array has; None: any number.

    >>> Layout.read("oihw").fans((64, 3, 7, 7))
    (147, 3136)
    """

    in_axis: Axes = -2
    out_axis: Axes = -1
    stacked: Axes = ()
    groups: int = 1
    transposed: Axes | bool = False
    split: int = 1
    num_axes: int | None = None

    def __post_init__(self) -> None:
        for name in ("in_axis", "out_axis", "stacked"):
            object.__setattr__(self, name, axes_tuple(getattr(self, name), name))

    @classmethod
    def read(cls, layout: "str | Layout") -> "Layout":
        """A layout from its text; a `Layout` as it is.

        Raises:
          UserError (a ValueError): neither of the two.
        """
        if isinstance(layout, Layout):
            return layout
        if not (isinstance(layout, str) and layout.isascii() and layout.isalpha()):
            raise UserError(
                f"layout={layout!r} is neither a Layout nor a text such as 'ioo', with a letter an"
                " axis: i input, o output, s stacked, any other a position."
            )
        inputs, outputs, stacked = (
            tuple(i for i, letter in enumerate(layout) if letter == role) for role in "ios"
        )
        return cls(inputs, outputs, stacked, num_axes=len(layout))

    def roles(self, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """The axes of an array that are (stacked, positions, inputs, outputs), counted from 0.

        Raises:
          UserError (a ValueError): `shape` has not these axes, or one axis has two roles.
        """
        if self.num_axes not in (None, len(shape)):
            raise UserError(f"The layout has {self.num_axes} axes, and the shape is {shape}.")
        return axis_roles(shape, self.in_axis, self.out_axis, self.stacked)

    def fans(self, shape: Sequence[int]) -> tuple[float, float]:
        """(fan_in, fan_out) of an array of `shape`; see `initjax.fans`."""
        self.roles(shape)
        return fans(
            shape,
            self.in_axis,
            self.out_axis,
            self.stacked,
            groups=self.groups,
            transposed=self.transposed,
            split=self.split,
        )

    def stack(self) -> "Layout":
        """The layout of an array whose slices along its first axis have this one."""

        def moved(axes: Axes) -> tuple[int, ...]:
            return tuple(axis + 1 if axis >= 0 else axis for axis in axes_tuple(axes, "axes"))

        return dataclasses.replace(
            self,
            in_axis=moved(self.in_axis),
            out_axis=moved(self.out_axis),
            stacked=(0, *moved(self.stacked)),
            num_axes=None if self.num_axes is None else self.num_axes + 1,
        )

    def slice(self) -> "Layout":
        """The layout of one slice along the first axis, which this one stacks."""

        def moved(axes: Axes) -> tuple[int, ...]:
            return tuple(axis - 1 if axis > 0 else axis for axis in axes_tuple(axes, "axes"))

        stacked = tuple(axis for axis in axes_tuple(self.stacked, "stacked") if axis != 0)
        return dataclasses.replace(
            self,
            in_axis=moved(self.in_axis),
            out_axis=moved(self.out_axis),
            stacked=moved(stacked),
            num_axes=None if self.num_axes is None else self.num_axes - 1,
        )


def knows_axes(initializer: Callable[..., Any]) -> bool:
    """Whether an initializer needs no layout: axes are its own, or none matters."""
    if isinstance(initializer, Rescaled):
        return knows_axes(initializer.initializer)
    if isinstance(initializer, (VarianceScaling, AxisFields)):
        own = initializer.in_axis, initializer.out_axis, initializer.batch_axis
        return own != (-2, -1, ())
    if isinstance(initializer, Orthogonal):
        return initializer.column_axis != -1
    if isinstance(initializer, LaidOut):
        return True
    if isinstance(initializer, Structured) and initializer.least_axes < 2:
        return True
    constants = (jax.nn.initializers.zeros, jax.nn.initializers.ones)
    return isinstance(initializer, (Constant, Scaled)) or initializer in constants


@dataclasses.dataclass(frozen=True, repr=False)
class LaidOut(Initializer):
    """See `laid_out`."""

    initializer: Callable[..., Any]
    layout: Layout
    factory: ClassVar[str] = "laid_out"

    def _weights(self, key, shape, dtype, out_sharding):
        given = () if dtype is None else (dtype,)
        stacked = tuple(axis % len(shape) for axis in axes_tuple(self.layout.stacked, "stacked"))
        merged = [(i,) for i in range(len(shape)) if i not in stacked]
        # A slice of one axis has no inputs and outputs: what needs them says so.
        if not knows_axes(self.initializer) and len(merged) > 1:
            stacked, positions, *ends = self.layout.roles(shape)
            merged = [*((i,) for i in positions), *ends]

        def draw(key, slice_shape):
            weights = self.initializer(key, slice_shape, *given)
            if weights.shape != slice_shape:
                raise UserError(f"{self.initializer!r} gave weights of shape {weights.shape}.")
            return weights

        return reshard(draw_arranged(draw, key, shape, stacked, merged), out_sharding)


def laid_out(initializer: Callable[..., Any], layout: str | Layout) -> Callable[..., Any]:
    """An initializer whose arrays have another layout than (..., in, out).

    The inputs are drawn as one axis, and so are the outputs, as in `flax.linen.DenseGeneral`; each
    slice of a stack is drawn alone, with the key `jax.random.fold_in(key, number of the slice)`.

    Args:
      initializer: a value of initjax, or any `init(key, shape, dtype)` for arrays (..., in, out).
        One that has axes of its own (`he_normal(in_axis=0, out_axis=(1, 2))`) keeps them, for the
        slices.
      layout: a `Layout`, or its text.

    Raises:
      UserError (a ValueError): a layout that is none; when it is called, one that does not fit the
        shape.

    >>> import jax
    >>> from initjax.initializers import he_normal
    >>> w = laid_out(he_normal(), "ioo")(jax.random.key(0), (512, 8, 64))
    >>> round(float(w.var() * 512), 1)
    2.0
    """
    layout = Layout.read(layout)
    if isinstance(initializer, Initializer) and not knows_axes(initializer):
        packing = {name: getattr(layout, name) for name in ("groups", "transposed", "split")}
        told = {
            name: value
            for name, value in packing.items()
            if value not in (1, False) and hasattr(initializer, name)
        }
        initializer = dataclasses.replace(initializer, **told)
    if not layout.stacked and (
        knows_axes(initializer) or (layout.in_axis, layout.out_axis) == ((-2,), (-1,))
    ):
        return initializer
    return LaidOut(initializer, layout)
