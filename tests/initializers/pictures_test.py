"""What the pictures of laws show."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from initjax.initializers.pictures import plot_law
from initjax.support.pictures import COLORS


def test_the_ccdf_counts_zeros_and_few_values_are_seen(monkeypatch, tmp_path):
    """P(|w| >= |w_i|) of all weights: of 1,000 with 10 that are not 0 it begins at .01."""
    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **keywords: kept.append(figure))
    weights = np.zeros(1000)
    weights[:10] = np.arange(1, 11)
    plot_law(weights, tmp_path / "law.png", "ten")
    density, ccdf = kept[0].axes
    sizes, share = ccdf.lines[0].get_data()
    order = np.argsort(sizes)
    np.testing.assert_allclose(sizes[order], np.arange(1, 11) / weights.std())
    np.testing.assert_allclose(share[order], np.arange(10, 0, -1) / 1000)
    (line,) = [patch for patch in density.patches if not patch.fill]
    assert line.get_linewidth() > 0
    assert to_hex(ccdf.lines[0].get_color()) == COLORS[0]


@pytest.mark.parametrize(
    "of_red, of_green, of_blue", [(0.11238, 0.88762, 0.00401), (0.29275, 0.70725, -0.02234)]
)
def test_colors_differ_for_eyes_without_red_or_green_cones(of_red, of_green, of_blue):
    """Pair by pair, as protanopes and deuteranopes see them (Vienot et al. 1999, in linear RGB)."""

    def seen(color):
        red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
        red, green, blue = red**2.2, green**2.2, blue**2.2
        both = of_red * red + of_green * green
        return np.maximum([both, of_blue * (red - green) + blue], 0) ** (1 / 2.2)

    found = [seen(color) for color in COLORS[:6]]
    gaps = [np.abs(a - b).max() for i, a in enumerate(found) for b in found[:i]]
    assert min(gaps) > 0.1
