"""Quantized weights as the numbers that they stand for, where the layout of their parts is public.

    GPTQ                qweight int32[in b / 32, out], qzeros int32[groups, out b / 32],
                        scales[groups, out], g_idx int32[in]: w = scale (q - zero), b bits each
    AWQ                 qweight int32[in, out / 8], qzeros int32[groups, out / 8],
                        scales[groups, out]: the same, 4 bits, columns in another order
    bitsandbytes int8   weight int8[out, in], SCB[out]: w = q SCB / 127
    scaled int8, fp8    weight[out, in], weight_scale or weight_scale_inv: w = q scale, a scale for
                        all, for each row or column, or for each block (of 128 x 128 in DeepSeek-V3)

Sources: AutoGPTQ's and AutoAWQ's packing (2023), Dettmers et al. 2022 (LLM.int8()), DeepSeek-AI
2024 (DeepSeek-V3).
"""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

from initjax.support.errors import UserError
from initjax.weights.tensors import Checkpoint, Tensor

_LEAF = re.compile(r"^(?:(.*)([./]))?([^./]+)$", re.DOTALL)
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the column that the i-th four bits of a word hold
_BLOCK = 128
_PIECE = 1 << 20  # numbers
_SCALES = ("weight_scale_inv", "weight_scale", "scale_inv", "scale", "scales")
# What else makes the numbers of a weight, in layouts that are not read.
_UNREAD = {
    "weight_zero_point": "it is quantized with zero points, which is not read",
    "weight_scale_2": "it is quantized in 4 bits (NVFP4), which is not read",
}


def dequantize(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with quantized weights as float32 tensors of their own.

    What they are made from, and what is quantized in another way, is in `skipped` with the reason.
    A weight takes 4 bytes a number when it is loaded, however few bits it is stored in.
    """
    modules: dict[tuple[str, str], dict[str, Tensor]] = {}
    for tensor in checkpoint.tensors:
        if match := _LEAF.match(tensor.path):
            modules.setdefault((match[1] or "", match[2] or ""), {})[match[3]] = tensor
    made: dict[str, Tensor] = {}
    skipped: dict[str, str] = {}
    for (prefix, separator), parts in modules.items():
        try:
            found = _find(parts, prefix, separator, modules)
        except UserError as error:
            name = "qweight" if "qweight" in parts else "weight"
            skipped[parts[name].path] = str(error)
            continue
        if found:
            name, tensor, others = found
            made[parts[name].path] = tensor
            reason = f"it is a part of {tensor.path}, which is dequantized"
            skipped |= {parts[other].path: reason for other in others if other in parts}
    tensors = tuple(
        made.get(tensor.path, tensor) for tensor in checkpoint.tensors if tensor.path not in skipped
    )
    return dataclasses.replace(
        checkpoint, tensors=tensors, skipped=(*checkpoint.skipped, *skipped.items())
    )


def _find(parts, prefix, separator, modules):
    """(name of the part that the weight takes the place of, weight, names of the others) or None.

    Raises:
      UserError: it is quantized in a way that is not read.
    """
    if "qweight" in parts:
        load, shape = _packed(parts)
        tensor = Tensor(f"{prefix}{separator}weight", shape, "float32", "flax", _quiet(load))
        return "qweight", tensor, ("scales", "qzeros", "g_idx")
    weight = parts.get("weight")
    if weight is None or not re.match(r"u?int8|float8", weight.dtype):
        return None
    if "absmax" in modules.get((weight.path, separator), {}):
        raise UserError("it is quantized in 4 bits by bitsandbytes, which is not read")
    for name, reason in _UNREAD.items():
        if name in parts:
            raise UserError(reason)
    scale = next((parts[name] for name in ("SCB", *_SCALES) if name in parts), None)
    if scale is None or weight.dtype == "uint8":
        return None
    if "SCB" in parts:
        load = _int8(weight, scale, parts.get("weight_format"))
    else:
        load = _scaled(weight, scale)
    tensor = Tensor(weight.path, weight.shape, "float32", weight.layout, _quiet(load))
    return "weight", tensor, ("SCB", "weight_format", *_SCALES)


def _quiet(load: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    """`load`, without warnings of damaged scales: weights that are not finite are counted later."""

    def load_quietly() -> np.ndarray:
        with np.errstate(all="ignore"):
            return load()

    return load_quietly


def _packed(parts) -> tuple[Callable[[], np.ndarray], tuple[int, ...]]:
    """How GPTQ's and AWQ's weights are loaded, (in, out), and their shape."""
    qweight, qzeros, scales = (parts.get(name) for name in ("qweight", "qzeros", "scales"))
    reason = "it is quantized in a layout that is not read"
    if not (qzeros and scales and len(qweight.shape) == len(qzeros.shape) == 2):
        raise UserError(reason)
    if {qweight.dtype, qzeros.dtype} != {"int32"} or not _is_float(scales, 2):
        raise UserError(reason)
    (rows, columns), (groups, outputs) = qweight.shape, scales.shape
    bits = 32 * qzeros.shape[1] // outputs
    if bits not in (2, 3, 4, 8) or qzeros.shape != (groups, -(-outputs * bits // 32)):
        raise UserError(reason)
    awq = columns != outputs
    inputs = rows if awq else 32 * rows // bits
    index = parts.get("g_idx")
    if (awq and (bits != 4 or columns * 8 != outputs)) or (index is None and inputs % groups):
        raise UserError(reason)
    if index and not (index.shape == (inputs,) and index.dtype in ("int32", "int64")):
        raise UserError(reason)

    def load() -> np.ndarray:
        if awq:
            quantized, zeros = (_in_order(_unpack(t.load(), 4, 1)) for t in (qweight, qzeros))
        else:
            quantized = _unpack(qweight.load(), bits, 0)
            zeros = _unpack(qzeros.load(), bits, 1)[:, :outputs]
            # AutoGPTQ stores zeros less 1; its second version does not, and of weights that are
            # quantized symmetrically, about 2^(bits - 1), the zeros themselves say so.
            if not (zeros == 1 << bits - 1).all():
                zeros = (zeros + 1) & (1 << bits) - 1
        group = np.arange(inputs) // (inputs // groups) if index is None else index.load()
        if group.min() < 0 or group.max() >= groups:
            raise UserError(f"{qweight.path} has weights of groups without a scale.")
        scale = scales.load().astype(np.float32)
        values = quantized.astype(np.float32)
        step = max(_PIECE // outputs, 1)  # rows at a time: little memory beyond the values'
        for start in range(0, inputs, step):
            rows = group[start : start + step]
            values[start : start + step] -= zeros[rows]
            values[start : start + step] *= scale[rows]
        return values

    return load, (inputs, outputs)


def _unpack(words: np.ndarray, bits: int, axis: int) -> np.ndarray:
    """uint8 numbers of so many bits, which are packed one after the other along an axis."""
    words = np.ascontiguousarray(np.moveaxis(words, axis, -1)).astype("<i4")
    flat = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little")
    flat = flat[..., : flat.shape[-1] // bits * bits].reshape(*words.shape[:-1], -1, bits)
    return np.moveaxis(np.packbits(flat, axis=-1, bitorder="little")[..., 0], -1, axis)


def _in_order(values: np.ndarray) -> np.ndarray:
    """The columns in the order of the outputs, of which AWQ exchanges those of each eight."""
    eights = values.reshape(len(values), -1, 8)
    return eights[..., np.argsort(_AWQ_ORDER)].reshape(values.shape)


def _int8(weight: Tensor, scale: Tensor, form: Tensor | None) -> Callable[[], np.ndarray]:
    fits = len(weight.shape) == 2 and scale.shape == weight.shape[:1]
    if not fits or weight.dtype != "int8" or not _is_float(scale):
        raise UserError("it is quantized by bitsandbytes in a layout that is not read")

    def load() -> np.ndarray:
        if form and form.load().any():
            raise UserError(f"{weight.path} has bitsandbytes' rows of a GPU, which are not read.")
        values = weight.load().astype(np.float32)
        values *= scale.load().astype(np.float32)[:, None] / np.float32(127)
        return values

    return load


def _scaled(weight: Tensor, scale: Tensor) -> Callable[[], np.ndarray]:
    """w = q scale, with a scale for each block."""
    shape = scale.shape if len(scale.shape) == len(weight.shape) else None
    if int(np.prod(scale.shape)) == 1:
        shape = (1,) * len(weight.shape)
    elif scale.shape == weight.shape[:1]:
        shape = (*scale.shape, *(1,) * (len(weight.shape) - 1))
    if shape is None or not _is_float(scale):
        raise UserError(f"it is quantized with scales {scale.shape}, which is not read")
    blocks = [_block(n, count) for n, count in zip(weight.shape, shape, strict=True)]

    def load() -> np.ndarray:
        values = weight.load().astype(np.float32)
        factors = scale.load().astype(np.float32).reshape(shape)
        for axis in range(1, len(shape)):
            if 1 < shape[axis] < weight.shape[axis]:
                factors = np.repeat(factors, blocks[axis], axis)
                factors = np.take(factors, range(weight.shape[axis]), axis)
        if not shape or shape[0] in (1, weight.shape[0]):
            return values * factors
        for i, factor in enumerate(factors):
            values[i * blocks[0] : (i + 1) * blocks[0]] *= factor
        return values

    return load


def _is_float(tensor: Tensor, axes: int | None = None) -> bool:
    return "float" in tensor.dtype and axes in (None, len(tensor.shape))


def _block(size: int, count: int) -> int:
    """How many rows have one scale, if `count` scales are for `size` rows."""
    if count == 1:
        return size
    for block in (1, _BLOCK, *(1 << k for k in range(1, 13))):
        if -(-size // block) == count:
            return block
    raise UserError(f"it is quantized with {count} scales for {size} rows, which is not read")
