"""What is fitted, and what is left out and why: nothing vanishes."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from initjax import weights
from initjax.fit.__main__ import main
from initjax.fit.checkpoint import analyze_checkpoint
from initjax.fit.selection import select
from initjax.support.errors import UserError

OPTIMIZER, STATISTIC = "it is an optimizer's state", "it is a running statistic"
SCALE, BUFFER, BIAS = "it is a scale or a zero point", "it is a buffer", "it is a bias"


def reason(path, dtype="float32", shape=(4, 4), others=()):
    tensors = tuple(
        weights.Tensor(name, shape, dtype, "torch", np.zeros) for name in (path, *others)
    )
    chosen, left_out = select(weights.Checkpoint("w", "npz", tensors))
    assert len(chosen) + len(left_out) == len(tensors)
    return dict(left_out).get(path)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("optim/state/0/momentum_buffer", OPTIMIZER),
        ("g_optim/state/3/exp_avg", OPTIMIZER),
        ("g_optim/layer/kernel", OPTIMIZER),
        ("training/of_d/state/12/square_avg", OPTIMIZER),
        ("optimizer_states/0/state/1/exp_avg_sq", OPTIMIZER),
        ("opt_state/0/mu/Dense_0/kernel", OPTIMIZER),
        ("optimizer_state_dict/state/0/exp_avg", OPTIMIZER),
        ("x/1/trace/Dense_0/kernel", OPTIMIZER),
        ("batch_stats/BatchNorm_0/mean", STATISTIC),
        ("bn.running_var", STATISTIC),
        ("layer.scales", SCALE),
        ("layer.input_scale", SCALE),
        ("layer.weight_g", SCALE),
        ("LayerNorm_0/scale", SCALE),
        ("attention/query/bias", BIAS),
        ("h.0.attn.bias", BIAS),
        ("stft.forward_basis_buffer", BUFFER),
        ("mel.window", BUFFER),
        ("rotary.inv_freq", BUFFER),
        ("attn.relative_position_index", BUFFER),
    ],
)
def test_names_that_say_what_a_tensor_is(path, why):
    assert reason(path) == why


@pytest.mark.parametrize(
    "path",
    [
        "encoder/mu/kernel",
        "optimus.weight",
        "adoption/kernel",
        "window_attention.qkv.weight",
        "state/params/kernel",
        "scale_net/kernel",
        "copt.weight",
        "embedding",
    ],
)
def test_names_of_weights(path):
    assert reason(path) is None


def test_moments_have_a_twin():
    assert reason("a/0/mu/b/kernel", others=("a/0/nu/b/kernel",)) == OPTIMIZER


@pytest.mark.parametrize(
    ("dtype", "shape", "why"),
    [
        ("int8", (4, 4), "its numbers are integers"),
        ("bool", (4, 4), "it holds truth values"),
        ("complex64", (4, 4), "its numbers are complex"),
        ("float32", (4,), "it has one axis"),
        ("float32", (), "it has no axis"),
        ("bfloat16", (4, 4), None),
        ("float8_e4m3fn", (4, 4), None),
    ],
)
def test_numbers_and_axes(dtype, shape, why):
    assert reason("a.weight", dtype, shape) == why


@pytest.fixture
def quantized(tmp_path):
    """A layer of GPTQ, one of block-scaled fp8, and a plain one."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(64, 64)).astype(np.float32)
    arrays = {
        "gptq.qweight": rng.integers(0, 2**31, (8, 64)).astype(np.int32),
        "gptq.qzeros": np.full((2, 8), 0x77777777, np.int32),
        "gptq.scales": rng.uniform(0.01, 0.02, (2, 64)).astype(np.float16),
        "fp8.weight": kernel.astype(ml_dtypes.float8_e4m3fn),
        "fp8.weight_scale_inv": np.full((1, 1), 0.02, np.float32),
        "plain.weight": 0.02 * kernel,
        "bn.running_mean": kernel[0],
        "step": np.array(3),
    }
    safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors", {"format": "pt"})
    return tmp_path


@pytest.mark.slow
def test_all_that_a_file_holds_is_fitted_or_named(quantized, capsys):
    main([str(quantized / "w.safetensors"), f"--out={quantized}", "--bootstraps=0"])
    found = json.loads((quantized / "fit.json").read_text())
    assert {layer["path"]: (layer["axes"], layer["fan_in"]) for layer in found["layers"]} == {
        "gptq.weight": ("io", 64),
        "fp8.weight": ("oi", 64),
        "plain.weight": ("oi", 64),
    }
    sds = {layer["path"]: layer["sd"] for layer in found["layers"]}
    assert sds["fp8.weight"] == pytest.approx(sds["plain.weight"], rel=0.01)
    # Four bits from 0 to 15 about 8: the variance of 16 numbers, and the mean -.5 steps.
    assert sds["gptq.weight"] == pytest.approx(0.015 * ((16**2 - 1) / 12) ** 0.5, rel=0.1)
    left_out = dict(found["no_weights"])
    assert left_out == {
        "gptq.qzeros": "it is a part of gptq.weight, which is dequantized",
        "gptq.scales": "it is a part of gptq.weight, which is dequantized",
        "fp8.weight_scale_inv": "it is a part of fp8.weight, which is dequantized",
        "bn.running_mean": STATISTIC,
        "step": "its numbers are integers",
    }
    page = (quantized / "report.html").read_text()
    shown = capsys.readouterr().out
    assert "left out: 5 of 8 tensors" in shown
    for path, why in left_out.items():
        assert f"{path}: {why}" in page.replace("&#x27;", "'")
        assert path in shown and why in shown


@pytest.mark.slow
def test_the_layout_may_be_told(tmp_path):
    np.savez(tmp_path / "w.npz", **{"a/kernel": np.random.default_rng(0).normal(size=(6, 8, 10))})
    checkpoint = weights.read(tmp_path / "w.npz")
    (layer,) = analyze_checkpoint(checkpoint, bootstraps=0).layers
    assert layer.axes is layer.fan_in is layer.scales is layer.positions is None
    fans = {"wio": 48, "ioo": 6, "iio": 48, "sio": 8, "oiw": 80}
    for axes, fan in fans.items():
        (layer,) = analyze_checkpoint(checkpoint, layout=axes, bootstraps=0).layers
        assert (layer.axes, layer.fan_in) == (axes, fan)
        assert layer.scales.position_scale.size == {"wio": 6, "oiw": 10}.get(axes, 1)
    with pytest.raises(UserError, match="no layout"):
        analyze_checkpoint(checkpoint, layout="abc")


@pytest.mark.slow
def test_scales_do_not_take_stacked_layers_for_positions(tmp_path):
    """Twelve layers of different scales: channels of their own, no kernel positions."""
    kernel = (
        np.random.default_rng(0).normal(size=(12, 30, 20))
        * np.geomspace(0.1, 10, 12)[:, None, None]
    )
    np.savez(tmp_path / "w.npz", **{"a/kernel": kernel, "a/bias": np.zeros((12, 20))})
    (layer,) = analyze_checkpoint(weights.read(tmp_path / "w.npz"), bootstraps=0).layers
    assert (layer.axes, layer.fan_in, layer.positions) == ("sio", 30, ())
    assert layer.scales.kurtosis_without_channel < 3.2 < layer.scales.kurtosis
