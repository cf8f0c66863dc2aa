"""A model's parameter tree and its layers: rules by path, starts from another network's, and taps
into what layers put out."""

from initjax.network.adapters import (
    Adapter as Adapter,
    create_adapters as create_adapters,
    merge_adapters as merge_adapters,
)
from initjax.network.attention_rules import (
    gated_linear_unit as gated_linear_unit,
    mimetic_attention as mimetic_attention,
)
from initjax.network.corda import (
    CorDA as CorDA,
)
from initjax.network.depth_warm_start import (
    DepthWarmStart as DepthWarmStart,
)
from initjax.network.eva import (
    EVA as EVA,
)
from initjax.network.filter_covariance import (
    FilterCovariance as FilterCovariance,
)
from initjax.network.joint_rules import (
    JointRule as JointRule,
    Part as Part,
)
from initjax.network.layer_inputs import (
    layer_inputs as layer_inputs,
)
from initjax.network.layouts import (
    find_layouts as find_layouts,
)
from initjax.network.loftq import (
    LoftQ as LoftQ,
)
from initjax.network.lora import (
    LoRA as LoRA,
    RsLoRA as RsLoRA,
)
from initjax.network.lora_ga import (
    LoRAGA as LoRAGA,
)
from initjax.network.net2net_deeper import (
    Net2NetDeeper as Net2NetDeeper,
)
from initjax.network.net2net_wider import (
    Net2NetWider as Net2NetWider,
)
from initjax.network.olora import (
    OLoRA as OLoRA,
)
from initjax.network.parametrization import (
    complete_p as complete_p,
    depth_mup as depth_mup,
    mup as mup,
)
from initjax.network.paths import (
    named_leaves as named_leaves,
    path_key as path_key,
    path_name as path_name,
)
from initjax.network.pissa import (
    PiSSA as PiSSA,
)
from initjax.network.residual_rules import (
    fixup_rules as fixup_rules,
    zero_gamma as zero_gamma,
)
from initjax.network.rules import (
    Rule as Rule,
    reinitialize as reinitialize,
)
from initjax.network.sequence_rules import (
    chrono_rule as chrono_rule,
    lru_rule as lru_rule,
    mamba_rules as mamba_rules,
)
from initjax.network.sparsity import (
    erk_densities as erk_densities,
    erk_masks as erk_masks,
)
from initjax.network.stacking import (
    Stacking as Stacking,
)
from initjax.network.subcloning import (
    Subcloning as Subcloning,
    block_changes as block_changes,
)
from initjax.network.torch_rules import (
    torch_rules as torch_rules,
)
from initjax.network.unit_scaled import (
    unit_scaled_dot_general as unit_scaled_dot_general,
)
from initjax.network.warm_starts import (
    from_checkpoint as from_checkpoint,
)
from initjax.network.weight_selection import (
    WeightSelection as WeightSelection,
)
