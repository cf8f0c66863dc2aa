"""Pure numbers on activations and random networks: gains, moments, fixed points."""

from initjax.theory.activations import (
    activation_names as activation_names,
    get_activation as get_activation,
)
from initjax.theory.fixed_points import (
    DepthScales as DepthScales,
    correlation_map as correlation_map,
    depth_scales as depth_scales,
    predict_residual_variance as predict_residual_variance,
)
from initjax.theory.gains import (
    gain as gain,
)
from initjax.theory.unit_scaling import (
    unit_scaling_gain as unit_scaling_gain,
)
