"""How far a layer's pre-activations are from a target law.

Each divergence takes z [rows, channels], a `Law` and a key, and gives a number that is 0 where they
agree, or 0 on average. "moment" and "w2" compare channel by channel and have a closed form; the
others are minimized by their gradients.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from initjax.refine.statistics import channel_moments

# Of more rows than these, so many are drawn: sorting, and distances of all pairs, cost more.
_SORTED_ROWS = 8192
_PAIRED_ROWS = 512
_DIRECTIONS = 64


class Law(NamedTuple):
    """The law that a layer's channels should follow, independent of one another.

    Attributes:
      mean: [C].
      sd: [C], 0 for a channel that is to be constant.
      table: quantiles of (z - mean) / sd at the probabilities (i - 1/2) / Q, [Q, C], or [Q, 1] the
        same for all channels; None for a normal law.
    """

    mean: jax.Array
    sd: jax.Array
    table: jax.Array | None = None

    def quantile(self, p: jax.Array) -> jax.Array:
        """F^-1 of every channel at p [n] or [n, C]: [n, C]."""
        p = p if p.ndim == 2 else p[:, None]
        p = jnp.broadcast_to(p, (p.shape[0], self.mean.shape[0]))
        if self.table is None:
            return self.mean + self.sd * ndtri(p)
        num = self.table.shape[0]
        position = jnp.clip(p * num - 0.5, 0, num - 1)
        low = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, max(num - 2, 0))
        table = jnp.broadcast_to(self.table, (num, p.shape[1]))
        ends = [jnp.take_along_axis(table, jnp.minimum(low + k, num - 1), axis=0) for k in (0, 1)]
        fraction = position - low
        return self.mean + self.sd * (ends[0] * (1 - fraction) + ends[1] * fraction)

    def order_statistics(self, number: int) -> jax.Array:
        """What the smallest to the largest of `number` draws are on average: [number, C].

        Of a normal law Phi^-1((i - 3/8) / (n + 1/4)), Blom's (1958), and else the quantiles.
        """
        if self.table is None:
            standard = _normal_order_statistics(number, self.mean.dtype)
            return self.mean + self.sd * standard[:, None]
        return self.quantile(midpoints(number, self.mean.dtype))

    def sample(self, key: jax.Array, number: int) -> jax.Array:
        """Independent draws [number, C]."""
        smallest = jnp.finfo(self.mean.dtype).tiny
        shape = (number, self.mean.shape[0])
        return self.quantile(jax.random.uniform(key, shape, self.mean.dtype, smallest))


def midpoints(number: int, dtype) -> jax.Array:
    """The probabilities (i - 1/2) / number, i = 1 ... number."""
    return (jnp.arange(number, dtype=dtype) + 0.5) / number


def _normal_order_statistics(number, dtype):
    return ndtri((midpoints(number, dtype) * number + 0.125) / (number + 0.25))


def thin(z: jax.Array, most: int) -> jax.Array:
    """At most `most` rows of z, always the same ones.

    They are drawn: evenly spaced rows of an image could all be of one column.
    """
    if z.shape[0] <= most:
        return z
    return z[np.sort(np.random.default_rng(0).choice(z.shape[0], most, replace=False))]


def moment(z, law: Law, key=None) -> jax.Array:
    """Mean over channels of (mean - mean_T)^2 + (sd - sd_T)^2.

    It is the squared 2-Wasserstein distance of the normal laws with these moments.
    """
    mean, sd, _ = channel_moments(z)
    return ((mean - law.mean) ** 2 + (sd - law.sd) ** 2).mean()


def w2(z, law: Law, key=None) -> jax.Array:
    """Mean over channels of the squared 2-Wasserstein distance, mean_i (z_(i) - q_i)^2.

    z_(i) are the sorted values and q_i = F_T^-1((i - 1/2) / n).
    """
    z = thin(z, _SORTED_ROWS)
    return ((jnp.sort(z, axis=0) - law.quantile(midpoints(z.shape[0], z.dtype))) ** 2).mean()


def unbiased_moment(z, law: Law, key=None) -> jax.Array:
    """`moment`, of which a batch of any size expects the least where scale and shift are right.

    E[sd] of n values is below the law's by a factor c, for normal ones about 1 - 3 / (4 n), so that
    `moment` of a batch is least for a scale below 1: .95 at n = 16. Here the product of the two
    standard deviations is divided by c.
    """
    n = z.shape[0]
    mean, sd, _ = channel_moments(z)
    c = (4 * n - 4) / (4 * n - 3) * np.sqrt(1 - 1 / n)
    return ((mean - law.mean) ** 2 + sd**2 + law.sd**2 - 2 * sd * law.sd / c).mean()


def unbiased_w2(z, law: Law, key=None) -> jax.Array:
    """`w2`, of which a batch of any size expects the least where scale and shift are right.

    Sorted values of a batch vary less than the law: the mean m_i of the i-th, and not the quantile,
    is what they are compared with, and the product with them is divided by mean(m_i^2) / sd_T^2.
    """
    z = thin(z, _SORTED_ROWS)
    mean, q = law.mean, law.order_statistics(z.shape[0]) - law.mean
    share = (q**2).mean(0) / jnp.where(law.sd > 0, law.sd, 1) ** 2
    products = (jnp.sort(z, axis=0) * q).mean(0) / jnp.where(law.sd > 0, share, 1)
    return ((z.mean(0) - mean) ** 2 + z.var(0) + law.sd**2 - 2 * products).mean()


def sliced_w2(z, law: Law, key) -> jax.Array:
    """Mean squared 2-Wasserstein distance to the target along 64 random directions, unbiased.

    Bonneel, Rabin, Peyré & Pfister 2015, Sliced and Radon Wasserstein barycenters of measures. The
    sorted values of a batch are compared with the means of those of as many draws from the target
    as 8,192 rows allow. Those of a law of variance V, and of normal projections, have the mean
    square m V, m < 1, so that the distance alone is least for a scale of m; what this takes off is
    added. It can be below 0 by chance.
    """
    z = thin(z, _SORTED_ROWS)
    number = z.shape[0]
    repeats = max(1, _SORTED_ROWS // number)
    key_target, key_directions = jax.random.split(key)
    directions = jax.random.normal(key_directions, (z.shape[1], _DIRECTIONS), z.dtype)
    directions /= jnp.linalg.norm(directions, axis=0)
    target = law.sample(key_target, repeats * number).reshape(repeats, number, -1)
    ordered = jnp.sort(target @ directions, axis=1).mean(0)
    projected = jnp.sort(z @ directions, axis=0)
    distance = ((projected - ordered) ** 2).mean(0)
    variance = law.sd**2 @ directions**2
    lost = 1 - (_normal_order_statistics(number, z.dtype) ** 2).mean()
    # The root has no derivative at 0.
    found = jnp.sqrt(jnp.maximum(projected.var(0), jnp.finfo(z.dtype).tiny))
    own = lost * (1 - 1 / repeats) * variance
    return (distance - 2 * lost * jnp.sqrt(variance) * found + own).mean()


def mmd(z, law: Law, key) -> jax.Array:
    """Squared maximum mean discrepancy to draws from the target, with Gaussian kernels, unbiased.

        MMD^2 = E k(z, z') + E k(y, y') - 2 E k(z, y),   k = mean_h exp(-|u - v|^2 / (h D)),

    h = 1/4, 1, 4 and D = 2 sum of the target's variances, the mean of |y - y'|^2 (Gretton et al.
    2012, A kernel two-sample test). No sample is paired with itself: it can be below 0 by chance.
    """
    z, y, scale = _pairs(z, law, key)

    def kernel(u, v):
        distance = _squared_distances(u, v) / scale
        return sum(jnp.exp(-distance / h) for h in (0.25, 1.0, 4.0)) / 3

    return _among(kernel(z, z)) + _among(kernel(y, y)) - 2 * kernel(z, y).mean()


def energy(z, law: Law, key) -> jax.Array:
    """Energy distance to draws from the target, 2 E|z - y| - E|z - z'| - E|y - y'|, over sqrt(D).

    D is the mean of |y - y'|^2, so that wide and narrow layers count alike (Székely & Rizzo 2013,
    Energy statistics). Unbiased: no sample is paired with itself, and it can be below 0 by chance.
    """
    z, y, scale = _pairs(z, law, key)

    def distance(u, v):
        # The root has no derivative at 0, where a sample meets itself.
        squared = _squared_distances(u, v) / scale
        positive = squared > 0
        return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), 0)

    return 2 * distance(z, y).mean() - _among(distance(z, z)) - _among(distance(y, y))


def _among(pairs):
    """The mean over pairs of two different samples."""
    n = pairs.shape[0]
    return jnp.where(jnp.eye(n, dtype=bool), 0, pairs).sum() / (n * (n - 1))


def _pairs(z, law, key):
    z = thin(z, _PAIRED_ROWS)
    total = (law.sd**2).sum()
    return z, law.sample(key, z.shape[0]), 2 * jnp.where(total > 0, total, 1)


def _squared_distances(u, v):
    products = jnp.matmul(u, v.T, precision="highest")
    squares = (u**2).sum(1)[:, None] + (v**2).sum(1) - 2 * products
    return jnp.maximum(squares, 0)


DIVERGENCES: dict[str, Callable[..., jax.Array]] = {
    "moment": moment,
    "w2": w2,
    "sliced_w2": sliced_w2,
    "mmd": mmd,
    "energy": energy,
}


# What is minimized by its gradients in small batches, where it is another than what is measured.
LOSSES = DIVERGENCES | {"moment": unbiased_moment, "w2": unbiased_w2}


def solve_moment(z, law: Law, has_bias: bool):
    """(s, t), each [C], that minimize `moment` of s z + t: s = sd_T / sd, t = mean_T - s mean.

    Without a bias t = 0 and s = (mean mean_T + sd sd_T) / (mean^2 + sd^2). Channels that are dead,
    or are to be, keep their scale; so do those which without a bias would have to change their
    sign.
    """
    mean, sd, alive = channel_moments(z)
    if has_bias:
        numerator, denominator = law.sd, sd
    else:
        numerator, denominator = mean * law.mean + sd * law.sd, mean**2 + sd**2
    return _scale_and_shift(numerator, denominator, alive, mean, law, has_bias)


def solve_w2(z, law: Law, has_bias: bool):
    """(s, t), each [C], that minimize `w2` of s z + t: the regression of q_i on z_(i).

    s = Cov(z_(i), q) / Var(z), t = mean(q) - s mean(z), which leaves Var(q) (1 - rho^2), rho the
    correlation of z_(i) and q. Without a bias t = 0 and s = mean(z_(i) q) / mean(z^2).
    """
    mean, _, alive = channel_moments(z)
    z = jnp.sort(thin(z, _SORTED_ROWS), axis=0)
    q = law.quantile(midpoints(z.shape[0], z.dtype))
    if has_bias:
        mean = z.mean(0)
        centered = z - mean
        numerator = (centered * (q - q.mean(0))).mean(0)
        denominator = (centered**2).mean(0)
    else:
        numerator, denominator = (z * q).mean(0), (z**2).mean(0)
    return _scale_and_shift(
        numerator, denominator, alive, mean, law._replace(mean=q.mean(0)), has_bias
    )


def _scale_and_shift(numerator, denominator, alive, mean, law, has_bias):
    possible = alive & (law.sd > 0) & (denominator > 0) & (numerator > 0)
    scale = jnp.where(possible, numerator / jnp.where(possible, denominator, 1), 1)
    # A dead layer is left as it is; a dead channel of a living one can still be shifted.
    shift = jnp.where(alive.any(), law.mean - scale * mean, 0) if has_bias else jnp.zeros_like(mean)
    return scale, shift


SOLVERS: dict[str, Callable] = {"moment": solve_moment, "w2": solve_w2}
