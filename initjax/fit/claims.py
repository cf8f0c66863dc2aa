"""May a layer be called a power law? A best law is not a good law."""

from initjax.fit.findings import Claim, LawFit
from initjax.fit.grids import Grid

POWER_LAWS = ("power_law", "truncated_power_law", "cutoff_power_law")
LARGEST_KS = 0.03
LEAST_P, LARGEST_DIVERGENCE = 0.01, 0.005  # of the binned fit: either is enough
LEAST_WEIGHTS = 1000  # that are not 0
LEAST_SIZES = 50  # different ones, where they are counted


def power_law_claim(law: str, fit: LawFit, weights: int, grid: Grid | None) -> Claim | None:
    """Whether "a power law" may be said of weights whose best law this is, and what speaks against.

    Args:
      law: the law with the least AIC.
      fit: what was fitted of it.
      weights: how many are not 0.
      grid: of the weights.

    Returns:
      `Claim`; None where the best law is no power law.
    """
    if law not in POWER_LAWS:
        return None
    low, high = fit.intervals["alpha"]
    against = []
    if not low > 0:
        against.append(f"the 95 % interval of alpha, {low:.3g} to {high:.3g}, is not above 0")
    if not fit.ks <= LARGEST_KS:
        against.append(f"its distance from the weights (KS) is {fit.ks:.2g}, above {LARGEST_KS}")
    good = fit.goodness
    if good and not (good.p >= LEAST_P or good.divergence <= LARGEST_DIVERGENCE):
        against.append(f"by groups of |w| it is {good.divergence:.2g} nats per weight off")
    if weights < LEAST_WEIGHTS:
        against.append(f"{weights} weights that are not 0 are fewer than {LEAST_WEIGHTS}")
    if grid and (grid.kind in ("sizes", "channels") or 0 < grid.sizes < LEAST_SIZES):
        against.append("|w| has few different sizes")
    return Claim(not against, tuple(against))
