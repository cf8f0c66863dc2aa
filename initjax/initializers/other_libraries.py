"""Initializers as Haiku and Penzai call them: not as init(key, shape, dtype)."""

import math
import sys

import jax

from initjax.initializers.base import CALLS
from initjax.initializers.layout import Layout, laid_out


def _called_by_haiku(init, shape, dtype, out_sharding, others) -> jax.Array | None:
    """What `hk.Linear(8, w_init=init)` asks for, as init(shape, dtype), by `hk.next_rng_key()`.

    Convolutions whose kernels a shape alone would misread tell their layout: a transposed one has
    (..., out, in), a grouped one the outputs of all its groups.
    """
    haiku = sys.modules.get("haiku")
    if haiku is None or not isinstance(shape, (tuple, list)) or others or out_sharding is not None:
        return None
    try:
        haiku.running_init()
    except ValueError:  # this is no call by Haiku
        return None
    layout = _layout_in_haiku(haiku, tuple(shape))
    return laid_out(init, layout)(haiku.next_rng_key(), tuple(shape), dtype)


def _layout_in_haiku(haiku, shape) -> Layout:
    module = sys.modules["haiku._src.base"].current_module()  # hk.current_name() has no class
    if len(shape) < 3:
        return Layout()
    if isinstance(module, haiku.ConvNDTranspose):
        stride = module.stride
        return Layout(-1, -2, transposed=stride if math.prod(stride) > 1 else False)
    multiplier = getattr(module, "channel_multiplier", None)  # of a depthwise convolution
    groups = shape[-1] // multiplier if multiplier else getattr(module, "feature_group_count", 1)
    return Layout(groups=groups)


def _called_by_penzai(init, key, shape, dtype, others):
    """What `pz.nn.Linear.from_config(..., initializer=init)` asks for: an array of named axes.

    Penzai says itself which axes are inputs, outputs, positions, and stacks ("parallel").
    """
    if shape is not None or "penzai" not in sys.modules:
        return None
    from penzai import pz

    sizes = {role: dict(others.pop(role, {})) for role in _PENZAI}
    stacked, positions, inputs, outputs = sizes.values()
    if others:
        return None
    names = [*stacked, *positions, *inputs, *outputs]
    shape = tuple(size for axes in sizes.values() for size in axes.values())
    axes = {name: i for i, name in enumerate(names)}
    in_axis, out_axis, parallel = (
        tuple(axes[name] for name in role) for role in (inputs, outputs, stacked)
    )
    layout = Layout(in_axis, out_axis, parallel)
    return pz.nx.wrap(laid_out(init, layout)(key, shape, dtype), *names)


_PENZAI = ("parallel_axes", "convolution_spatial_axes", "input_axes", "output_axes")


def _answer(init, key, shape, dtype, out_sharding, others):
    if "input_axes" in others:
        return _called_by_penzai(init, key, shape, dtype, dict(others))
    if shape is not None and dtype is not None:
        return None
    return _called_by_haiku(init, key, shape if dtype is None else dtype, out_sharding, others)


CALLS.append(_answer)
