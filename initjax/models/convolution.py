"""A convolution that is a dense layer where the image is smaller than the kernel."""

import jax.numpy as jnp
from jax import lax

_SMALL = 4  # pixels
_PLAIN = {"lhs_dilation": (1, 1), "rhs_dilation": (1, 1), "feature_group_count": 1}


def convolve(x, kernel, strides, padding, **settings):
    """`lax.conv_general_dilated` of [B, H, W, C] and [h, w, C, D], as `nn.Conv` calls it.

    Of a kernel that is larger than its image, such as 3x3 on 2x2, XLA makes a plain loop on CPUs:
    70 % of a ResNet's step on 8x8 digits, which trains 3 times as fast with a dense layer there.
    The weights between all input pixels and one of the output are a part of the kernel.
    """
    size, spread = x.shape[1:3], kernel.shape[:2]
    pads = (
        lax.padtype_to_pads(size, spread, strides, padding) if isinstance(padding, str) else padding
    )
    outputs = [
        (n + sum(pad) - k) // stride + 1
        for n, k, stride, pad in zip(size, spread, strides, pads, strict=True)
    ]
    plain = all(settings.get(name, value) == value for name, value in _PLAIN.items())
    larger = any(k > n for n, k in zip(size, spread, strict=True))
    if not (plain and larger and size[0] * size[1] <= _SMALL and min(outputs) > 0):
        return lax.conv_general_dilated(x, kernel, strides, padding, **settings)
    # Output p sees input i through the weight i - first(p); zeros where the kernel does not reach.
    firsts = [
        [p * stride - low for p in range(n)]
        for n, stride, (low, _) in zip(outputs, strides, pads, strict=True)
    ]
    margins = [
        (max(max(first), 0), max(n - min(first) - k, 0))
        for first, n, k in zip(firsts, size, spread, strict=True)
    ]
    kernel = jnp.pad(kernel, (*margins, (0, 0), (0, 0)))
    (low_y, _), (low_x, _) = margins
    parts = [
        kernel[low_y - p : low_y - p + size[0], low_x - q : low_x - q + size[1]]
        for p in firsts[0]
        for q in firsts[1]
    ]
    weights = jnp.stack(parts, axis=3).reshape(-1, len(parts) * kernel.shape[3])
    y = jnp.dot(x.reshape(x.shape[0], -1), weights, precision=settings.get("precision"))
    return y.reshape(-1, *outputs, kernel.shape[3])
