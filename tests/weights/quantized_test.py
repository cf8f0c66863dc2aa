"""Quantized weights are what they stand for: packed here bit by bit as their libraries do."""

import re

import ml_dtypes
import numpy as np
import pytest

from initjax.support.errors import UserError
from initjax.weights import Checkpoint, Tensor, dequantize

RNG = np.random.default_rng(0)
FP8 = ml_dtypes.float8_e4m3fn


def checkpoint(**arrays) -> Checkpoint:
    tensors = tuple(
        Tensor(f"a.{name}", value.shape, value.dtype.name, "torch", lambda value=value: value)
        for name, value in arrays.items()
    )
    return Checkpoint("w", "safetensors", tensors)


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """int32 words along the first axis: the bits of one number after those of the one before."""
    words = np.zeros((len(values) * bits // 32, values.shape[1]), np.uint64)
    for i, row in enumerate(values.astype(np.uint64)):
        for bit in range(bits):
            place = i * bits + bit
            words[place // 32] |= (row >> np.uint64(bit) & np.uint64(1)) << np.uint64(place % 32)
    return words.astype(np.uint32).view(np.int32)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("order", ["plain", "by activations", "second version"])
def test_gptq(bits, order):
    inputs, outputs, groups = 64, 32, 4
    values = RNG.integers(0, 1 << bits, (inputs, outputs))
    zeros = RNG.integers(0, 1 << bits, (groups, outputs))
    if order == "second version":
        zeros[:] = 1 << bits - 1
    scales = RNG.uniform(0.01, 0.02, (groups, outputs)).astype(np.float16)
    index = np.repeat(np.arange(groups), inputs // groups).astype(np.int32)
    parts = {"scales": scales}
    if order == "by activations":
        parts["g_idx"] = index = RNG.permutation(index)
    stored = zeros if order == "second version" else (zeros - 1) % (1 << bits)
    parts |= {"qweight": pack(values, bits), "qzeros": pack(stored.T, bits).T, "bias": zeros[0]}
    found = dequantize(checkpoint(**parts))
    weight, bias = sorted(found.tensors, key=lambda tensor: tensor.path == "a.bias")
    assert (weight.path, weight.dtype, bias.path) == ("a.weight", "float32", "a.bias")
    expected = (values - zeros[index]) * scales.astype(np.float32)[index]
    np.testing.assert_allclose(weight.load(), expected, rtol=1e-6)
    assert {path for path, _ in found.skipped} == {
        f"a.{name}" for name in parts if name not in ("qweight", "bias")
    }
    assert all("part of a.weight" in reason for _, reason in found.skipped)


def test_awq():
    inputs, outputs, groups = 32, 16, 2
    values, zeros = RNG.integers(0, 16, (inputs, outputs)), RNG.integers(0, 16, (groups, outputs))
    scales = RNG.uniform(0.01, 0.02, (groups, outputs)).astype(np.float16)
    order = np.arange(outputs).reshape(-1, 8)[:, [0, 2, 4, 6, 1, 3, 5, 7]].ravel()
    parts = {
        "qweight": pack(values[:, order].T, 4).T,
        "qzeros": pack(zeros[:, order].T, 4).T,
        "scales": scales,
    }
    (weight,) = dequantize(checkpoint(**parts)).tensors
    group = np.repeat(np.arange(groups), inputs // groups)
    expected = (values - zeros[group]) * scales.astype(np.float32)[group]
    np.testing.assert_allclose(weight.load(), expected, rtol=1e-6)


def test_int8_of_bitsandbytes():
    w = RNG.normal(size=(20, 30)).astype(np.float32)
    largest = abs(w).max(1)
    parts = {
        "weight": np.round(w * 127 / largest[:, None]).astype(np.int8),
        "SCB": largest,
        "weight_format": np.uint8(0),
    }
    found = dequantize(checkpoint(**parts))
    (weight,) = found.tensors
    assert np.abs(weight.load() - w).max() < largest.max() / 127
    assert [path for path, _ in found.skipped] == ["a.SCB", "a.weight_format"]
    (turned,) = dequantize(checkpoint(**parts | {"weight_format": np.uint8(2)})).tensors
    with pytest.raises(UserError, match="rows of a GPU"):
        turned.load()


@pytest.mark.parametrize("shape", [(256, 384), (200, 300), (130, 100)])
def test_fp8_by_blocks(shape):
    """As DeepSeek-V3: the last blocks may be smaller."""
    w = RNG.normal(size=shape).astype(np.float32)
    rows, columns = (-(-n // 128) for n in shape)
    scale = RNG.uniform(0.5, 2, (rows, columns)).astype(np.float32)
    factor = np.kron(scale, np.ones((128, 128), np.float32))[: shape[0], : shape[1]]
    parts = {"weight": (w / factor).astype(FP8), "weight_scale_inv": scale}
    (weight,) = dequantize(checkpoint(**parts)).tensors
    np.testing.assert_allclose(weight.load(), parts["weight"].astype(np.float32) * factor)
    assert np.abs(weight.load() - w).max() < 0.1 * np.abs(w).max()


@pytest.mark.parametrize("scale", [(), (1,), (20,), (20, 1), (1, 30), (20, 15)])
@pytest.mark.parametrize("dtype", [FP8, np.int8])
def test_scales_of_rows_columns_and_all(scale, dtype):
    values = RNG.integers(-100, 100, (20, 30)).astype(dtype)
    factors = RNG.uniform(0.5, 2, scale).astype(np.float32)
    (weight,) = dequantize(checkpoint(weight=values, weight_scale=factors)).tensors
    wide = factors[:, None] if scale == (20,) else factors
    wide = np.repeat(wide, 2, 1) if scale == (20, 15) else wide
    np.testing.assert_array_equal(weight.load(), values.astype(np.float32) * wide)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"qweight": np.zeros((4, 8), np.int32)}, "a layout that is not read"),
        (
            {
                "qweight": np.zeros((4, 8), np.int32),
                "qzeros": np.zeros((1, 1), np.int32),
                "scales": np.zeros((1, 8), np.int32),
            },
            "a layout that is not read",
        ),
        ({"weight": np.zeros((4, 8), FP8), "scale": np.ones((3, 8), np.float32)}, "3 scales for 4"),
        ({"weight": np.zeros((4, 8), FP8), "scale": np.ones(3, np.float32)}, r"scales \(3,\)"),
        ({"weight": np.zeros(8, np.int8), "SCB": np.ones(8, np.float32)}, "by bitsandbytes"),
        (
            {
                "weight": np.zeros((4, 8), np.int8),
                "weight_scale": np.ones((4, 1), np.float32),
                "weight_zero_point": np.zeros((4, 1), np.int8),
            },
            "zero points",
        ),
        (
            {"weight": np.zeros((16, 1), np.uint8), "weight.absmax": np.ones(2, np.float32)},
            "4 bits by bitsandbytes",
        ),
    ],
)
def test_what_is_not_read_is_named(parts, reason):
    found = dequantize(checkpoint(**parts))
    ((path, why),) = found.skipped
    assert path in ("a.weight", "a.qweight") and path not in {t.path for t in found.tensors}
    assert re.search(reason, why)


def test_other_tensors_stay():
    arrays = {"weight": np.ones((2, 3), np.float32), "scale": np.ones(3), "step": np.int32(1)}
    assert dequantize(checkpoint(**arrays)) == checkpoint(**arrays)
    alone = checkpoint(weight=np.ones((2, 3), FP8))
    assert dequantize(alone) == alone


def test_a_group_without_a_scale():
    parts = {
        "qweight": pack(np.ones((8, 8)), 4),
        "qzeros": pack(np.ones((8, 1)), 4).T,
        "scales": np.ones((1, 8), np.float32),
        "g_idx": np.full(8, 7, np.int32),
    }
    (weight,) = dequantize(checkpoint(**parts)).tensors
    with pytest.raises(UserError, match="without a scale"):
        weight.load()
