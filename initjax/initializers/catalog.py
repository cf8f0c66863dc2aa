"""Every initializer by name: what it draws, where it comes from, when to use it.

`python -m initjax` prints the table; docs/initializers.md has it with pictures.
"""

import textwrap
from collections.abc import Callable

import jax
import numpy as np

from initjax.distributions.laws import DISTRIBUTIONS
from initjax.initializers.base import Entry, Initializer
from initjax.initializers.constant import constant, ones_init, zeros_init
from initjax.initializers.edge_of_chaos import edge_of_chaos_bias, edge_of_chaos_kernel
from initjax.initializers.identity import identity, zero
from initjax.initializers.nspl import nspl
from initjax.initializers.orthogonal import delta_orthogonal, orthogonal, scaled_orthogonal
from initjax.initializers.pli import pli
from initjax.initializers.residual import (
    fixup,
    gpt2_residual,
    mean_field_residual,
    rezero,
    skipinit,
)
from initjax.initializers.scale_mixture import scale_mixture
from initjax.initializers.scaled import Scaled, normal, scaled, truncated_normal, uniform
from initjax.initializers.sparse import sparse
from initjax.initializers.variance_scaling import (
    VarianceScaling,
    glorot_normal,
    glorot_uniform,
    glorot_untruncated_normal,
    he_normal,
    he_uniform,
    he_untruncated_normal,
    kaiming_normal,
    kaiming_uniform,
    kaiming_untruncated_normal,
    lecun_normal,
    lecun_uniform,
    lecun_untruncated_normal,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
    xavier_untruncated_normal,
)
from initjax.support.naming import call_by_name

_GLOROT = "Glorot & Bengio 2010"
_HE = "He et al. 2015, arXiv:1502.01852"
_LECUN = "LeCun et al. 1998, Efficient BackProp"
_JAX = "jax.nn.initializers"
_XING = "Xing et al. 2022, Computer Engineering 48(7):104-113; our specification"


ENTRIES = (
    Entry(("zeros",), "w = 0", _JAX, "biases; the last layer of a residual branch"),
    Entry(("ones",), "w = 1", _JAX, "scales of normalization layers"),
    Entry(("constant",), "w = value", _JAX, "biases that are not 0"),
    Entry(("normal",), "N(0, stddev^2)", _JAX, "a fixed scale, as in embeddings"),
    Entry(
        ("truncated_normal",),
        "N(0, stddev^2) cut at [lower, upper] stddev",
        _JAX,
        "a fixed scale without outliers, as in vision transformers",
    ),
    Entry(("uniform",), "U(-scale, scale)", "symmetric, unlike JAX's", "a fixed bound"),
    Entry(
        ("scaled",),
        "scale * any distribution",
        "initjax",
        "a law with no variance, or a scale that no fan gives",
    ),
    Entry(
        ("variance_scaling",),
        "any distribution, Var = scale / n",
        _JAX,
        "a law, a fan or an axis that no other name has",
    ),
    Entry(
        ("lecun_normal",),
        "truncated normal, Var = 1 / fan_in",
        _LECUN,
        "SELU and linear layers; Flax's own default",
    ),
    Entry(("lecun_uniform",), "uniform, Var = 1 / fan_in", _LECUN, "as lecun_normal, bounded"),
    Entry(("lecun_untruncated_normal",), "normal, Var = 1 / fan_in", _LECUN, "as in the source"),
    Entry(
        ("glorot_normal", "xavier_normal"),
        "truncated normal, Var = 2 / (fan_in + fan_out)",
        _GLOROT,
        "tanh and sigmoid, where forward and backward signal matter alike",
    ),
    Entry(
        ("glorot_uniform", "xavier_uniform"),
        "uniform, Var = 2 / (fan_in + fan_out)",
        _GLOROT,
        "as glorot_normal, bounded; Keras' default",
    ),
    Entry(
        ("glorot_untruncated_normal", "xavier_untruncated_normal"),
        "normal, Var = 2 / (fan_in + fan_out)",
        _GLOROT,
        "as glorot_normal, without truncation",
    ),
    Entry(
        ("he_normal", "kaiming_normal"),
        "truncated normal, Var = gain^2 / fan_in, gain^2 = 2",
        _HE,
        "ReLU; any other activation by activation=...",
    ),
    Entry(
        ("he_uniform", "kaiming_uniform"),
        "uniform, Var = gain^2 / fan_in, gain^2 = 2",
        _HE,
        "as he_normal, bounded",
    ),
    Entry(
        ("he_untruncated_normal", "kaiming_untruncated_normal"),
        "normal, Var = gain^2 / fan_in, gain^2 = 2",
        _HE,
        "as in the source: N(0, 2 / n)",
    ),
    Entry(
        ("nspl",),
        "p(w) ~ |w|^-alpha, b/ratio <= |w| <= b, Var = scale / fan_in",
        _XING,
        "to start from heavy-tailed weights, as trained networks have them",
    ),
    Entry(
        ("pli",),
        "nspl whose alpha grows with the distance to the kernel's centre and with depth",
        "Jiang et al. 2023, Neural Comput. & Applic. 35:22431; our specification",
        "convolutions of 3x3 and larger",
    ),
    Entry(
        ("scale_mixture",),
        "position scale * channel scale * N(0, 1), Var = scale / fan_in",
        "initjax",
        "heavy tails of the kind that trained layers have: from unequal scales",
    ),
    Entry(
        ("orthogonal",),
        "Q of a normal matrix's QR decomposition, times scale",
        "Saxe et al. 2014, arXiv:1312.6120",
        "deep linear and recurrent layers: all singular values equal",
    ),
    Entry(
        ("scaled_orthogonal",),
        "orthogonal * max(sqrt(out / in), 1)",
        "Martens et al. 2021, arXiv:2110.01765",
        "networks without normalization whose widths differ",
    ),
    Entry(
        ("delta_orthogonal",),
        "orthogonal at the kernel's centre, else 0",
        "Xiao et al. 2018, arXiv:1806.05393",
        "very deep convolutions without normalization",
    ),
    Entry(
        ("identity", "dirac"),
        "(partial) identity at the kernel's centre",
        "Zagoruyko & Komodakis 2017, arXiv:1706.00388",
        "layers that should begin by doing nothing",
    ),
    Entry(
        ("zero",),
        "identity, or Hadamard / sqrt(2^m) where a layer widens",
        "Zhao et al. 2022 (ZerO), arXiv:2110.12661",
        "a deterministic start; needs residual connections",
    ),
    Entry(
        ("sparse",),
        "15 weights from N(0, stddev^2) a unit, else 0",
        "Martens 2010, Deep learning via Hessian-free optimization",
        "wide layers whose units should differ much",
    ),
    Entry(
        ("fixup",),
        "he_normal * L^(-1 / (2m - 2)), L branches of m layers",
        "Zhang et al. 2019, arXiv:1901.09321",
        "residual branches without normalization; their last layer and the classifier start at 0",
    ),
    Entry(
        ("rezero", "skipinit"),
        "w = 0",
        "Bachlechner et al. 2020, arXiv:2003.04887; De & Smith 2020, arXiv:2002.10444",
        "the gate that multiplies a residual branch",
    ),
    Entry(
        ("gpt2_residual",),
        "N(0, stddev^2 / (2 L))",
        "Radford et al. 2019, section 2.3",
        "the last projection of a transformer's residual branches; num_layers=L",
    ),
    Entry(
        ("mean_field_residual",),
        "N(0, c / (L fan_in))",
        "Yang & Schoenholz 2017, arXiv:1712.08969",
        "the last layer of residual branches: a variance that depends on depth; num_layers=L",
    ),
    Entry(
        ("edge_of_chaos_kernel",),
        "N(0, sw^2 / fan_in), sw^2 = 1 / E[phi'(sqrt(q) z)^2]",
        "Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232",
        "deep plain networks of any activation that has a stable point",
    ),
    Entry(
        ("edge_of_chaos_bias",),
        "N(0, sb^2), sb^2 = q - sw^2 E[phi(sqrt(q) z)^2]",
        "Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232",
        "the biases beside edge_of_chaos_kernel",
    ),
)


def kurtosis(name: str) -> float | None:
    """Of the law; of a 512 x 512 sample where it has none in closed form; None of a constant."""
    init = get(name)
    if isinstance(init, (Scaled, VarianceScaling)):
        return init.distribution.kurtosis
    w = np.asarray(init(jax.random.key(0), (512, 512)), np.float64)
    return None if w.std() == 0 else float(np.mean(w**4) / np.mean(w**2) ** 2)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def table(width: int) -> str:
    """The entries as text, `width` characters wide."""
    lines = []
    for entry in ENTRIES:
        lines.append(", ".join(entry.names))
        for text in (
            f"{entry.formula}; kurtosis {_shown(kurtosis(entry.names[0]))}",
            entry.use,
            f"[{entry.reference}]",
        ):
            lines += textwrap.wrap(
                text, width - 4, initial_indent=" " * 4, subsequent_indent=" " * 6
            )
    return "\n".join(lines)


def page() -> str:
    """docs/initializers.md."""
    lines = [
        "# Initializers",
        "",
        "<!-- Written by docs/generate.py from initjax/initializers; change it there. -->",
        "",
        "Every name that `initjax.get`, `launch.py --init=` and the models take, with its defaults;"
        " `help(initjax.nspl)` tells its arguments. Kurtosis is E[w^4] / E[w^2]^2, 3 for a normal"
        " law. Pictures: density of w / sd, and how often |w| / sd exceeds a value (CCDF), of"
        " 1,048,576 weights drawn for a 1024 x 1024 layer; dashed, the normal law.",
        "",
    ]
    for entry in ENTRIES:
        first = entry.names[0]
        lines += [
            f"## {', '.join(entry.names)}",
            "",
            f"`{entry.formula}`",
            "",
            f"- Use: {entry.use}.",
            f"- Kurtosis: {_shown(kurtosis(first))}.",
            f"- Source: {entry.reference}.",
            f"- As a value: `{get(first)!r}`.",
            "",
        ]
        if kurtosis(first) is not None:
            lines += [f"![density and CCDF of {first}](images/{first}.png)", ""]
    return "\n".join(lines)


_INITIALIZERS: dict[str, Callable[..., Initializer]] = {
    "zeros": zeros_init,
    "ones": ones_init,
    "constant": constant,
    "normal": normal,
    "truncated_normal": truncated_normal,
    "uniform": uniform,
    "scaled": scaled,
    "variance_scaling": variance_scaling,
    "lecun_normal": lecun_normal,
    "lecun_uniform": lecun_uniform,
    "lecun_untruncated_normal": lecun_untruncated_normal,
    "glorot_normal": glorot_normal,
    "glorot_uniform": glorot_uniform,
    "glorot_untruncated_normal": glorot_untruncated_normal,
    "xavier_normal": xavier_normal,
    "xavier_uniform": xavier_uniform,
    "xavier_untruncated_normal": xavier_untruncated_normal,
    "he_normal": he_normal,
    "he_uniform": he_uniform,
    "he_untruncated_normal": he_untruncated_normal,
    "kaiming_normal": kaiming_normal,
    "kaiming_uniform": kaiming_uniform,
    "kaiming_untruncated_normal": kaiming_untruncated_normal,
    "nspl": nspl,
    "pli": pli,
    "scale_mixture": scale_mixture,
    "orthogonal": orthogonal,
    "scaled_orthogonal": scaled_orthogonal,
    "delta_orthogonal": delta_orthogonal,
    "identity": identity,
    "dirac": identity,
    "zero": zero,
    "sparse": sparse,
    "fixup": fixup,
    "rezero": rezero,
    "skipinit": skipinit,
    "gpt2_residual": gpt2_residual,
    "mean_field_residual": mean_field_residual,
    "edge_of_chaos_kernel": edge_of_chaos_kernel,
    "edge_of_chaos_bias": edge_of_chaos_bias,
}


def names() -> list[str]:
    """The names that `get` knows, sorted."""
    return sorted(_INITIALIZERS)


def get(initializer: str | Callable) -> Callable:
    """The initializer of a name, such as "he_normal" or "nspl(alpha=1.5, ratio=30)".

    Args:
      initializer: a name, or a name with arguments that are literals; a callable is returned as it
        is.

    Returns:
      A value `init(key, shape, dtype=None, out_sharding=None)`.

    Raises:
      UserError (a ValueError): an unknown name, an argument that the name does not take or that is
        out of its range, or a text that is anything but a name with literals.

    >>> get("nspl(alpha=1.5, ratio=30)") == nspl(alpha=1.5, ratio=30)
    True
    """
    if callable(initializer):
        return initializer
    return call_by_name(initializer, _INITIALIZERS, "initializer", DISTRIBUTIONS)
