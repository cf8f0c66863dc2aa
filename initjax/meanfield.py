"""Where theory stood before it had a wing of its own; these names stay."""

from initjax.initializers.edge_of_chaos import (
    EdgeOfChaos as EdgeOfChaos,
    edge_of_chaos as edge_of_chaos,
    edge_of_chaos_bias as edge_of_chaos_bias,
    edge_of_chaos_kernel as edge_of_chaos_kernel,
)
from initjax.theory.fixed_points import (
    correlation_map as correlation_map,
    predict_residual_variance as predict_residual_variance,
)
