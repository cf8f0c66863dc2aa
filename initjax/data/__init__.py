"""Image classification data as arrays in memory, its augmentation, and exact evaluation."""

from initjax.data.augmentation import (
    AUGMENTATIONS as AUGMENTATIONS,
    Normalization as Normalization,
    augment as augment,
    default_augmentation as default_augmentation,
    draw_augmentation as draw_augmentation,
    normalize as normalize,
)
from initjax.data.dataset import (
    Dataset as Dataset,
    evaluation_indices as evaluation_indices,
)
from initjax.data.load import (
    load as load,
)
from initjax.data.own import (
    from_arrays as from_arrays,
)
