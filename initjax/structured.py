"""Initializers whose weights are not independent of each other: orthogonal, identity, sparse."""

import abc
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from initjax.arguments import count, finite
from initjax.distributions import compute_dtype
from initjax.errors import UserError
from initjax.initializers import Initializer, canonical_dtype, check_scale, dtype_name, reshard


@dataclasses.dataclass(frozen=True, repr=False)
class Structured(Initializer, abc.ABC):
    """Base: subclasses `build(key, shape, dtype)` in float32 or float64, which is cast last."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.name == "dtype":
                object.__setattr__(self, "dtype", dtype_name(self.dtype))
            elif field.name in ("scale", "stddev"):
                check_scale(self, field.name)

    def __call__(self, key, shape, dtype=None, out_sharding=None):
        shape = tuple(shape)
        dtype = dtype if dtype is not None else self.dtype
        real_dtype = compute_dtype(dtype)
        if len(shape) < 2:
            raise UserError(f"{self.factory} needs at least two axes; the shape is {shape}.")
        if math.prod(shape) == 0:
            w = jnp.zeros(shape, real_dtype)
        else:
            w = self.build(key, shape, real_dtype)
        return reshard(w.astype(canonical_dtype(dtype)), out_sharding)

    @abc.abstractmethod
    def build(self, key, shape, dtype):
        """Weights of float32 or float64, of a shape of at least two axes, none of size 0."""


@dataclasses.dataclass(frozen=True, repr=False)
class Orthogonal(Structured):
    """See `orthogonal` and `scaled_orthogonal`."""

    scale: float = 1.0
    column_axis: int = -1
    rescale: bool = False
    dtype: str | None = None
    factory = "orthogonal"

    def build(self, key, shape, dtype):
        if not -len(shape) <= self.column_axis < len(shape):
            raise UserError(f"column_axis={self.column_axis} is not an axis of {shape}.")
        axis = self.column_axis % len(shape)
        others, columns = shape[:axis] + shape[axis + 1 :], shape[axis]
        rows = math.prod(others)
        q = jax.random.orthogonal(key, rows, (), dtype, columns)
        scale = self.scale * max(math.sqrt(columns / rows), 1.0) if self.rescale else self.scale
        return dtype.type(scale) * jnp.moveaxis(q.reshape((*others, columns)), -1, axis)


def orthogonal(
    scale: float = 1.0, *, column_axis: int = -1, rescale: bool = False, dtype=None
) -> Orthogonal:
    """Weights with orthonormal rows or columns, whichever are fewer, times `scale`.

    Q of the QR decomposition of a normal matrix, Q <- Q sign(diag R), in float32 and cast last, in
    every float dtype (Saxe, McClelland & Ganguli 2014, arXiv:1312.6120). In float32 bit-equal to
    `jax.nn.initializers.orthogonal`.

    Args:
      scale: what the orthonormal matrix is multiplied by.
      column_axis: the axis of the outputs; all others are flattened.
      rescale: multiply by max(sqrt(out / in), 1) as well, see `scaled_orthogonal`.
      dtype: dtype of the weights where the call names none.

    >>> w = orthogonal()(jax.random.key(0), (8, 8))
    >>> bool(jnp.allclose(w @ w.T, jnp.eye(8), atol=1e-6))
    True
    """
    return Orthogonal(scale, column_axis, rescale, dtype)


def scaled_orthogonal(scale: float = 1.0, *, column_axis: int = -1, dtype=None) -> Orthogonal:
    """Orthogonal times max(sqrt(out / in), 1), which keeps the size of a unit when widening.

    Martens et al. 2021, Rapid training of deep neural networks without skip connections or
    normalization layers using Deep Kernel Shaping (arXiv:2110.01765).
    """
    return Orthogonal(scale, column_axis, True, dtype)


def _centre(shape, matrix):
    """A kernel of `shape` whose centre tap is `matrix` and whose other taps are 0."""
    if len(shape) == 2:
        return matrix
    centre = tuple((size - 1) // 2 for size in shape[:-2])
    return jnp.zeros(shape, matrix.dtype).at[centre].set(matrix)


@dataclasses.dataclass(frozen=True, repr=False)
class DeltaOrthogonal(Structured):
    """See `delta_orthogonal`."""

    scale: float = 1.0
    dtype: str | None = None
    factory = "delta_orthogonal"

    def build(self, key, shape, dtype):
        fan_in, fan_out = shape[-2:]
        if fan_in > fan_out:
            raise UserError(
                f"delta_orthogonal needs in <= out; the kernel {shape} has {fan_in} > {fan_out}."
            )
        q = jax.random.orthogonal(key, fan_in, (), dtype, fan_out)
        return _centre(shape, dtype.type(self.scale) * q)


def delta_orthogonal(scale: float = 1.0, *, dtype=None) -> DeltaOrthogonal:
    """A convolution that acts as an orthogonal matrix on every pixel; needs in <= out.

    The orthogonal matrix stands at the centre tap (k - 1) // 2, all other taps are 0 (Xiao et al.
    2018, arXiv:1806.05393). In float32 bit-equal to `jax.nn.initializers.delta_orthogonal`.
    """
    return DeltaOrthogonal(scale, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class Identity(Structured):
    """See `identity`."""

    groups: int = 1
    scale: float = 1.0
    dtype: str | None = None
    factory = "identity"

    def __post_init__(self):
        super().__post_init__()
        count(self.groups, "groups")

    def build(self, key, shape, dtype):
        del key  # nothing is random
        inputs, outputs = shape[-2:]  # of one group, of all
        if outputs % self.groups:
            raise UserError(f"groups={self.groups} does not divide the {outputs} outputs.")
        block = np.eye(inputs, outputs // self.groups, dtype=dtype) * dtype.type(self.scale)
        return _centre(shape, jnp.asarray(np.tile(block, (1, self.groups))))


def identity(groups: int = 1, *, scale: float = 1.0, dtype=None) -> Identity:
    """The layer that hands its inputs on: a (partial) identity matrix at the centre tap.

    Where a layer has more outputs than inputs the rest are 0; the other way round the last inputs
    are dropped. Also called dirac.

    Args:
      groups: groups of a grouped convolution; its kernel is (..., in / groups, out).
      scale: what the identity is multiplied by.
      dtype: dtype of the weights where the call names none.

    >>> identity()(jax.random.key(0), (2, 3))
    Array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)
    """
    return Identity(groups, scale, dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class Zero(Structured):
    """See `zero`."""

    dtype: str | None = None
    factory = "zero"

    def build(self, key, shape, dtype):
        del key  # nothing is random
        inputs, outputs = shape[-2:]
        if outputs <= inputs:
            return _centre(shape, jnp.eye(inputs, outputs, dtype=dtype))
        import scipy.linalg  # here: at import it would take 0.1 s of every user

        size = 2 ** math.ceil(math.log2(outputs))
        hadamard = scipy.linalg.hadamard(size)[:inputs, :outputs] / math.sqrt(size)
        return _centre(shape, jnp.asarray(hadamard, dtype))


def zero(*, dtype=None) -> Zero:
    """ZerO: nothing but zeros and ones, up to a normalization; deterministic.

    The partial identity where out <= in, else a corner of the Hadamard matrix H / sqrt(2^m),
    2^m >= out, which breaks the symmetry that an identity would leave; at the centre tap (Zhao,
    Schaefer & Anandkumar 2022, arXiv:2110.12661). Normalized as in the authors' program; their
    text's constant is larger by sqrt(2).
    """
    return Zero(dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class Sparse(Structured):
    """See `sparse`."""

    num_connections: int = 15
    stddev: float = 1.0
    dtype: str | None = None
    factory = "sparse"

    def __post_init__(self):
        super().__post_init__()
        count(self.num_connections, "num_connections")

    def build(self, key, shape, dtype):
        fan_in, outputs = math.prod(shape[:-1]), shape[-1]
        key_choice, key_weight = jax.random.split(key)
        # The units with the smallest random numbers are connected.
        order = jnp.argsort(jax.random.uniform(key_choice, (fan_in, outputs)), axis=0)
        ranks = jnp.argsort(order, axis=0)
        w = jax.random.normal(key_weight, (fan_in, outputs), dtype) * dtype.type(self.stddev)
        return jnp.where(ranks < self.num_connections, w, 0).reshape(shape)


def sparse(num_connections: int = 15, *, stddev: float = 1.0, dtype=None) -> Sparse:
    """Every output unit has `num_connections` incoming weights from N(0, stddev^2); the rest are 0.

    Martens 2010, Deep learning via Hessian-free optimization, where they are 15 and 1. The gain of
    the layer is stddev * sqrt(num_connections), whatever its fan.
    """
    return Sparse(num_connections, finite(stddev, "stddev"), dtype)
