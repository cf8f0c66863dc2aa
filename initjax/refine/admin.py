"""Admin: shortcuts of a post-norm transformer scaled by the variance of what they are added to."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from initjax.network.paths import compile_pattern, named_leaves, natural_order
from initjax.refine.calibration import inputs_of, split_batch
from initjax.refine.methods import register
from initjax.refine.network import Network
from initjax.refine.reports import Report, scalar_report
from initjax.support.errors import UserError


@register
def admin(
    model: Any,
    params: Any,
    batch: Any,
    key: jax.Array,
    *,
    omega: str = "omega",
    branch: str = r"(out|Dense_1)$",
    held_out: Any = None,
) -> tuple[Any, Report]:
    """Adaptive model initialization (Liu et al. 2020, arXiv:2004.08249, Admin).

    Of a transformer with post-norm, x_i = LN(omega_i x_(i-1) + f_i(x_(i-1))), the parameters omega,
    of any shape, are set to

        omega_1 = 1,    omega_i = sqrt(sum_(j < i) Var f_j),

    the variances being measured in one pass with omega = 1. Nothing else changes.

    Args:
      model: as in `consistency`; it multiplies every shortcut by a parameter of its own.
      params: its parameters, from any initializer.
      batch: as in `consistency`.
      key: a PRNG key, for dropout.
      omega: a regular expression for the paths of these parameters, whose names, in their order
        (Block_2 before Block_10), are in the order of the branches.
      branch: one for the layers that put out f_i, the last of each branch.
      held_out: as in `consistency`.

    Returns:
      (params, report), the report's objective being sum_i Var f_i / (omega_i^2 + Var f_i), how much
      the output depends on the branches: their number grows it as N with omega = 1, as log N here.

    Raises:
      UserError (a ValueError): as many omegas as branches are not found; a pattern that is no
        regular expression.
    """
    calibration, held_out = map(inputs_of, split_batch(batch, held_out))
    network = Network(model, key)
    find_omega, find_branch = compile_pattern(omega), compile_pattern(branch)
    leaves, structure = jax.tree.flatten(params)
    paths = [path for path, _ in named_leaves(params)]
    omegas = sorted(filter(find_omega.search, paths), key=natural_order)
    branches = list(filter(find_branch.search, network.shapes(params, calibration)))
    if not omegas or len(omegas) != len(branches):
        raise UserError(
            f"admin: omega={omega!r} finds {len(omegas)} parameters"
            f" ({', '.join(omegas[:3]) or 'none'}), branch={branch!r} {len(branches)} layers"
            f" ({', '.join(branches[:3]) or 'none'}); there must be one for each.\nA model"
            ' multiplies every shortcut by self.param("omega", nn.initializers.ones, ()).'
        )

    def with_omegas(values):
        values = dict(zip(omegas, values, strict=True))
        return structure.unflatten(
            [
                jnp.full_like(leaf, values[path]) if path in values else leaf
                for path, leaf in zip(paths, leaves, strict=True)
            ]
        )

    def variances(params, inputs):
        found = network.statistics(params, inputs)
        return np.array([found[path].variance for path in branches])

    ones = with_omegas(np.ones(len(omegas)))
    sums = np.cumsum(variances(ones, calibration))
    refined = with_omegas(np.sqrt(np.concatenate([[1.0], sums[:-1]])))
    objectives = []
    for p in (params, refined):
        sizes = [jnp.mean(jnp.square(leaf)) for leaf in _leaves_at(p, omegas)]
        f = variances(p, held_out)
        objectives.append(float(np.sum(f / np.maximum(np.array(sizes) + f, 1e-30))))
    return refined, scalar_report(
        network,
        "admin",
        "dependence on the branches, the sum of Var f / (omega^2 + Var f),",
        (params, refined),
        (calibration, held_out),
        objectives,
    )


def _leaves_at(params, paths):
    found = dict(named_leaves(params))
    return [found[path] for path in paths]
