"""Refinements: initial parameters corrected by data or gradients, before training.

An initializer knows only a shape. A refinement takes parameters from any initializer, and a batch:

    params, report = initjax.refine.lsuv(model, params, batch, key)

`refine("consistency(divergence='w2')", model, params, batch, key)` calls one by its name, and
`names()` lists them. What is measured is measured on held-out data, before and after.
"""

# ruff: noqa: E402 - without the extra, the imports below would not say what to install.

from initjax.support import extras

extras.need("train", "flax", "optax")

from initjax.refine.admin import (
    admin as admin,
)
from initjax.refine.autoinit import (
    autoinit as autoinit,
)
from initjax.refine.consistency import (
    consistency as consistency,
)
from initjax.refine.filters import (
    kmeans_filters as kmeans_filters,
    pca_filters as pca_filters,
)
from initjax.refine.gradinit import (
    gradinit as gradinit,
)
from initjax.refine.krahenbuhl import (
    krahenbuhl as krahenbuhl,
)
from initjax.refine.lsuv import (
    lsuv as lsuv,
)
from initjax.refine.metainit import (
    gradient_quotient as gradient_quotient,
    metainit as metainit,
)
from initjax.refine.methods import (
    check as check,
    names as names,
    refine as refine,
)
from initjax.refine.network import (
    Network as Network,
)
from initjax.refine.reports import (
    LayerReport as LayerReport,
    Report as Report,
)
from initjax.refine.statistics import (
    Statistics as Statistics,
)
from initjax.refine.targets import (
    Gaussian as Gaussian,
    MeanField as MeanField,
    Reference as Reference,
    Saved as Saved,
    load_statistics as load_statistics,
    save_statistics as save_statistics,
)
