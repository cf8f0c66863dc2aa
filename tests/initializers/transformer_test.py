"""Transformers, experts, LayerScale: the figures of their sources."""

import math

import jax
import numpy as np
import pytest

from initjax.initializers import (
    deepnorm_encoder_decoder,
    glorot_uniform,
    layer_scale,
    mixture_of_experts,
    small_init,
    t_fixup,
    t_fixup_scale,
    torch_default,
    wang_init,
)
from initjax.support.errors import UserError

KEY = jax.random.key(4)


def stddev(init, shape):
    return float(np.asarray(init(KEY, shape), np.float64).std())


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(768, 768), (768, 1024), (1024, 768)])
def test_standard_deviations_of_a_transformer(shape):
    tolerance = 4 / math.sqrt(2 * math.prod(shape))  # four standard errors of a normal law's
    assert stddev(small_init(), shape) == pytest.approx(0.0228218, rel=tolerance)
    assert stddev(wang_init(12), shape) == pytest.approx(0.00601407, rel=tolerance)


def test_the_width_may_be_told():
    assert small_init(768).stddev(768) == pytest.approx(0.0228218, rel=2e-6)
    assert stddev(small_init(768), (200, 200)) == pytest.approx(0.0228218, rel=0.02)
    assert wang_init(12, 768).stddev(768) == pytest.approx(0.00601407, rel=2e-6)


@pytest.mark.parametrize(
    "num_layers, part, expected",
    [
        (6, "encoder", 0.428092),
        (6, "decoder", 0.368894),
        (12, "encoder", 0.359981),
        (12, "decoder", 0.310202),
        (6, "encoder_embedding", 0.368894),
        (12, "decoder_embedding", 0.310202),
    ],
)
def test_t_fixup(num_layers, part, expected):
    assert t_fixup_scale(num_layers, part) == pytest.approx(expected, rel=2e-6)
    init = t_fixup(num_layers, part)
    if part.endswith("embedding"):
        assert init.variance((1000, 64)) == pytest.approx(expected**2 / 64, rel=1e-5)
    else:
        whole = glorot_uniform()(KEY, (64, 96))
        np.testing.assert_allclose(init(KEY, (64, 96)), whole * expected, rtol=3e-6)


def test_deepnorm_of_encoder_and_decoder():
    encoder, decoder = deepnorm_encoder_decoder(6, 6)
    found = encoder.alpha, encoder.beta, decoder.alpha, decoder.beta
    assert found == pytest.approx((1.417938, 0.496989, 2.059767, 72**-0.25), rel=2e-6)
    assert decoder.kernel_init.variance((64, 64)) == pytest.approx(72**-0.5 / 64, rel=1e-6)
    other, _ = deepnorm_encoder_decoder(18, 6)
    assert other.alpha == pytest.approx(0.81 * (18**4 * 6) ** (1 / 16))


@pytest.mark.slow
def test_experts_are_a_batch():
    w = np.asarray(mixture_of_experts()(KEY, (64, 768, 32)), np.float64)
    assert w.std() == pytest.approx(0.0114109, rel=4 / math.sqrt(2 * w.size))
    assert abs(w).max() <= 0.0114109 * 2 / 0.87962566 * (1 + 1e-5)  # truncated at 2 sd of its law
    routes = jax.nn.softmax(
        jax.random.normal(KEY, (500, 768)) @ mixture_of_experts()(KEY, (768, 8))
    )
    assert abs(routes.mean(0) - 1 / 8).max() < 0.02  # logits of sd .32: routes near 1 / experts


@pytest.mark.parametrize(
    "depth, gain", [(1, 0.1), (18, 0.1), (19, 1e-5), (24, 1e-5), (25, 1e-6), (36, 1e-6)]
)
def test_layer_scale(depth, gain):
    np.testing.assert_array_equal(layer_scale(depth)(KEY, (3,)), np.full(3, gain, np.float32))


def test_torch_default():
    """A third of LeCun's; attention's packed projection is Xavier's of (d, 3d)."""
    w = np.asarray(torch_default()(KEY, (3, 3, 32, 64)), np.float64)
    assert abs(w).max() <= 1 / math.sqrt(288)
    assert w.var() == pytest.approx(1 / (3 * 288), rel=4 * math.sqrt(0.8 / w.size))
    d = 64
    packed, square = glorot_uniform().variance((d, 3 * d)), glorot_uniform().variance((d, d))
    assert math.sqrt(3 * packed) == pytest.approx(math.sqrt(6 / (d + 3 * d)))
    assert packed == pytest.approx(square / 2)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: small_init(0), "width=0"),
        (lambda: wang_init(0), "num_layers=0"),
        (lambda: t_fixup(6, "middle"), "part='middle'"),
        (lambda: t_fixup(0), "num_layers=0"),
        (lambda: deepnorm_encoder_decoder(6, 0), "num_decoder_layers=0"),
        (lambda: layer_scale(0), "num_layers=0"),
        (lambda: mixture_of_experts(0), "scale=0"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(UserError, match=message):
        call()
