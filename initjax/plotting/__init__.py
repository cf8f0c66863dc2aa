"""Every figure; the only package that imports matplotlib."""

from initjax.plotting.bands import plot_bands as plot_bands
from initjax.plotting.curves import plot_curves as plot_curves
from initjax.plotting.laws import plot_law as plot_law
from initjax.plotting.signals import (
    plot_gradients as plot_gradients,
    plot_histograms as plot_histograms,
    plot_propagation as plot_propagation,
    plot_variance as plot_variance,
)
