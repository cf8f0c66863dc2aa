"""Every figure; the only package that imports matplotlib."""

from initjax.plotting.curves import plot_curves as plot_curves
from initjax.plotting.laws import plot_law as plot_law
