"""A model's parameter tree and its layers: rules by path, starts from another network's, and taps
into what layers put out."""

from initjax.network.adapters import (
    Adapter as Adapter,
    create_adapters as create_adapters,
    merge_adapters as merge_adapters,
)
from initjax.network.depth_warm_start import (
    DepthWarmStart as DepthWarmStart,
)
from initjax.network.filter_covariance import (
    FilterCovariance as FilterCovariance,
)
from initjax.network.layouts import (
    find_layouts as find_layouts,
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
from initjax.network.rules import (
    Rule as Rule,
    reinitialize as reinitialize,
)
from initjax.network.stacking import (
    Stacking as Stacking,
)
from initjax.network.subcloning import (
    Subcloning as Subcloning,
    block_changes as block_changes,
)
from initjax.network.warm_starts import (
    from_checkpoint as from_checkpoint,
)
from initjax.network.weight_selection import (
    WeightSelection as WeightSelection,
)
