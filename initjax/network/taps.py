"""What every layer of a network puts out, in execution order, without changes to the network.

A layer is any module that owns a parameter "kernel" with two or more axes: Dense, Conv,
ConvTranspose, DenseGeneral, Einsum and users' own, told by what they own and not by their class.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.core import meta, scope as flax_scope

from initjax.support.errors import UserError

# Where values leave a Flax Linen module: the collection in which modules' own intermediates do, so
# that what a user lifts through `nn.scan` for those carries ours too.
_COLLECTION = "intermediates"
_NAME = "initjax_taps"

Edit = Callable[[str, jax.Array, int], jax.Array]


@dataclasses.dataclass(frozen=True)
class Call:
    """One use of a layer.

    Attributes:
      path: the path of the layer's parameters, such as "Block_0/Conv_0"; "" where the model is the
        layer.
      number: how many times the layer was used before.
      inputs: what it was given; None where its first argument was no array.
      output: what it put out, after an edit.
      kernel: its kernel in this use: the slice, where the layers of an `nn.scan` are stacked.
      bias: its bias, likewise, or None.
      editable: whether an edit can reach it: not inside `nn.scan` or `nn.vmap`.
      replay: `replay(kernel, bias, inputs)`, the layer with other parameters on other inputs.
    """

    path: str
    number: int
    inputs: jax.Array | None
    output: jax.Array
    kernel: jax.Array
    bias: jax.Array | None
    editable: bool
    replay: Callable[[jax.Array, jax.Array | None, jax.Array], jax.Array]


def record(
    model: nn.Module | nnx.Module,
    variables: Any,
    x: Any,
    *,
    edit: Edit | None = None,
    **apply_kwargs: Any,
) -> tuple[Any, dict[str, list[jax.Array]]]:
    """Runs a model, and records the pre-activations of its layers in execution order.

    Works under `jit`, `grad` and `vmap`, and with modules inside `nn.remat` and `nn.jit`. Layers
    inside `nn.scan` and `nn.vmap` are recorded, one entry a slice, where the transform carries the
    collection "intermediates" along axis 0; they cannot be edited. Layers inside `nnx.jit`,
    `nnx.scan` and other transforms of NNX are not supported.

    Args:
      model: a Flax Linen or NNX module. It is left as it is; so are an NNX model's statistics.
      variables: of a Linen module its variables, or its parameters alone. Of an NNX module an
        `nnx.State` that replaces the model's own in whole or in part, such as
        `nnx.state(model, nnx.Param)`, or None.
      x: the model's input.
      edit: `edit(path, z, number) -> z'` may replace what a layer puts out, and what follows sees
        z'; `number` counts the uses of that layer, from 0. Same shape and dtype.
      **apply_kwargs: for `model.apply`, such as `train=True, mutable=["batch_stats"], rngs=...`;
        of an NNX model for its `__call__`.

    Returns:
      The output of the model, as `model.apply` gives it, with the updates where `mutable` asks for
      them; and by the path of a layer's parameters ("Block_0/Conv_0") what it put out, once for
      every time that it was used. Where a layer's class calls that of its parent, it is the
      parent's output, before what the class adds to it (Linen only). The order is that of
      execution; `jax.jit` sorts the keys of a dict that it returns.

    Raises:
      UserError (a ValueError): a model that is no Flax module or has no layers, a layer that does
        not put out one array, or one inside a transform that is not supported.

    >>> model = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])
    >>> x = jnp.ones((4, 3))
    >>> variables = model.init(jax.random.key(0), x)
    >>> output, taps = record(model, variables, x)
    >>> {path: [z.shape for z in values] for path, values in taps.items()}
    {'layers_0': [(4, 8)], 'layers_2': [(4, 2)]}
    """
    output, calls = record_calls(model, variables, x, edit=edit, **apply_kwargs)
    taps: dict[str, list[jax.Array]] = {}
    for call in calls:
        taps.setdefault(call.path, []).append(call.output)
    return output, taps


def record_calls(
    model: nn.Module | nnx.Module,
    variables: Any,
    x: Any,
    *,
    edit: Edit | None = None,
    **apply_kwargs: Any,
) -> tuple[Any, list[Call]]:
    """As `record`, but every use of a layer is a `Call`, in execution order."""
    if isinstance(model, nn.Module):
        output, calls = _record_linen(model, variables, x, edit, apply_kwargs)
    elif isinstance(model, nnx.Module):
        output, calls = _record_nnx(model, variables, x, edit, apply_kwargs)
    else:
        raise UserError(f"model={model!r} is neither a Flax Linen nor an NNX module.")
    if not calls:
        raise UserError(
            f"{type(model).__name__} has no layers: none of its modules that were called owns a"
            " parameter 'kernel' with two or more axes."
        )
    return output, calls


def linen_variables(variables: Any) -> Any:
    """Variables of a Linen module, from these or from its parameters alone."""
    return variables if "params" in variables else {"params": variables}


def _edited(edit, path, z, number):
    if edit is None:
        return z
    new = jnp.asarray(edit(path, z, number))
    if new.shape != z.shape or new.dtype != z.dtype:
        raise UserError(
            f"edit gave {new.dtype}{list(new.shape)} for {path or 'the model'}, which puts out"
            f" {z.dtype}{list(z.shape)}."
        )
    return new


def _check_output(path, z):
    if not hasattr(z, "dtype") or not jnp.issubdtype(z.dtype, jnp.inexact):
        what = f"{z.dtype} numbers" if hasattr(z, "dtype") else f"a {type(z).__name__}"
        raise UserError(
            f"The layer {path} puts out {what}, not one array of"
            " floating-point numbers: recurrent cells and the like are not supported."
        )


def _first_array(args):
    return args[0] if args and hasattr(args[0], "dtype") else None


@dataclasses.dataclass
class _Trace:
    """What is known of a call while a Linen module is traced."""

    module: nn.Module
    order: int
    shape: tuple[int, ...]
    kernel_ndim: int


def _record_linen(model, variables, x, edit, kwargs):
    variables = linen_variables(variables)
    mutable = kwargs.pop("mutable", False)
    traced: dict[tuple[tuple[str, ...], int], _Trace] = {}
    # What a module may not sow, as inside nn.WeightNorm, which lets no collection change.
    kept: dict[tuple[str, ...], list[tuple[Any, Any]]] = {}
    order = itertools.count()
    outer = _current_trace()

    def number_of_uses(module):
        return _number_sown(module) + len(kept.get(module.scope.path, ()))

    def interceptor(next_fun, args, kwargs, context):
        module = context.module
        if context.method_name != "__call__" or module.scope is None:
            return next_fun(*args, **kwargs)
        before = number_of_uses(module)
        z = next_fun(*args, **kwargs)
        # Where a class calls its parent's __call__, that was intercepted too.
        if not _owns_kernel(module) or number_of_uses(module) > before:
            return z
        path = "/".join(module.scope.path)
        _check_output(path or type(module).__name__, z)
        z = _edited(edit, path, z, before)
        if not module.sow(_COLLECTION, _NAME, (_first_array(args), z)):
            if _current_trace() != outer:
                raise UserError(
                    f"{path} is inside nn.scan or nn.vmap: to record it, give the transform"
                    f" variable_axes={{..., {_COLLECTION!r}: 0}}."
                )
            kept.setdefault(module.scope.path, []).append((_first_array(args), z))
        kernel = meta.unbox(module.scope.get_variable("params", "kernel"))
        traced.setdefault(
            (module.scope.path, before),
            _Trace(module, next(order), jnp.shape(z), jnp.ndim(kernel)),
        )
        return z

    with nn.intercept_methods(interceptor):
        output, updates = model.apply(
            variables, x, mutable=flax_scope.union_filters(mutable, _COLLECTION), **kwargs
        )
    updates, sown = _take_sown(updates, mutable)
    calls = _linen_calls(traced, sown, kept, variables["params"], edit)
    return (output if mutable is False else (output, updates)), calls


def _current_trace():
    return jax.extend.core.get_opaque_trace_state(convention="flax")


def _owns_kernel(module):
    if not module.scope.has_variable("params", "kernel"):
        return False
    kernel = meta.unbox(module.scope.get_variable("params", "kernel"))
    return hasattr(kernel, "dtype") and jnp.ndim(kernel) >= 2


def _number_sown(module):
    return len(module.scope.get_variable(_COLLECTION, _NAME, ()))


def _at(tree, path):
    for name in path:
        tree = tree[name]
    return tree


def _take_sown(updates, mutable):
    """The updates that the caller asked for, and the tree of what was sown here."""
    updates = dict(updates)
    sown = updates.pop(_COLLECTION, {})
    if flax_scope.in_filter(mutable, _COLLECTION):
        rest = _without_ours(sown)
        if rest:
            updates[_COLLECTION] = rest
    return updates, sown


def _without_ours(tree):
    if not isinstance(tree, dict):
        return tree
    kept = {name: _without_ours(part) for name, part in tree.items() if name != _NAME}
    return {name: part for name, part in kept.items() if not isinstance(part, dict) or part}


def _linen_calls(traced, sown, kept, params, edit) -> list[Call]:
    calls = []
    for (path, number), trace in traced.items():
        inputs, output = (kept[path] if path in kept else _at(sown, path)[_NAME])[number]
        stack = output.shape[: jnp.ndim(output) - len(trace.shape)]
        if stack and edit is not None:
            raise UserError(f"{'/'.join(path)} is inside nn.scan or nn.vmap: edit cannot reach it.")
        parameters = meta.unbox(_at(params, path))
        kernel, bias = parameters["kernel"], parameters.get("bias")
        is_stacked = jnp.ndim(kernel) > trace.kernel_ndim
        for i, index in enumerate(np.ndindex(stack)):
            call = Call(
                path="/".join(path),
                number=number * math.prod(stack) + i,
                inputs=None if inputs is None else inputs[index],
                output=output[index],
                kernel=kernel[index] if is_stacked else kernel,
                bias=bias[index] if is_stacked and bias is not None else bias,
                editable=not stack,
                replay=_linen_replay(trace.module),
            )
            calls.append((trace.order, i, stack, call))
    return _in_order(calls)


def _in_order(calls) -> list[Call]:
    """By execution: neighbours with as many slices are the layers of one scan, which take turns."""
    ordered = []
    calls = sorted(calls, key=lambda item: item[:2])
    for _, group in itertools.groupby(calls, key=lambda item: item[2]):
        ordered.extend(call for *_, call in sorted(group, key=lambda item: (item[1], item[0])))
    return ordered


def _linen_replay(module):
    def replay(kernel, bias, inputs):
        params = {"kernel": kernel} | ({} if bias is None else {"bias": bias})
        return module.clone(parent=None, name=None).apply({"params": params}, inputs)

    return replay


def _record_nnx(model, variables, x, edit, kwargs):
    model = nnx.clone(model)  # the layers of a copy are watched: the user's is left as it is
    if variables is not None:
        nnx.update(model, variables)
    calls: list[Call] = []
    numbers: dict[str, int] = {}
    outer = _current_trace()
    layers = {}
    for path, module in nnx.iter_modules(model):
        kernel = getattr(module, "kernel", None)
        if isinstance(kernel, nnx.Variable) and jnp.ndim(kernel[...]) >= 2:
            layers[id(module)] = "/".join(map(str, path)), module, type(module)

    def watched(cls):
        def __call__(self, *args, **kwargs):
            z = cls.__call__(self, *args, **kwargs)
            if id(self) not in layers or _current_trace() != outer:
                raise UserError(
                    f"A {cls.__name__} of {type(model).__name__} is inside a transform of NNX"
                    " (nnx.jit, nnx.scan, nnx.remat, ...), where it cannot be recorded."
                )
            path = layers[id(self)][0]
            _check_output(path or cls.__name__, z)
            number = numbers.get(path, 0)
            numbers[path] = number + 1
            z = _edited(edit, path, z, number)
            bias = getattr(self, "bias", None)
            calls.append(
                Call(
                    path=path,
                    number=number,
                    inputs=_first_array(args),
                    output=z,
                    kernel=self.kernel[...],
                    bias=bias[...] if isinstance(bias, nnx.Variable) else None,
                    editable=True,
                    replay=_nnx_replay(self, cls),
                )
            )
            return z

        return type(cls.__name__, (cls,), {"__call__": __call__})

    subclasses = {cls: watched(cls) for _, _, cls in layers.values()}
    for _, module, cls in layers.values():
        object.__setattr__(module, "__class__", subclasses[cls])
    return model(x, **kwargs), calls


def _nnx_replay(layer, cls):
    copy = nnx.clone(layer)
    object.__setattr__(copy, "__class__", cls)
    graph, _ = nnx.split(copy)  # without its arrays, which may be traced

    def replay(kernel, bias, inputs):
        state = {"kernel": nnx.Param(kernel)} | ({} if bias is None else {"bias": nnx.Param(bias)})
        return nnx.merge(graph, nnx.State(state))(inputs)

    return replay
