"""What a network does to a signal before a single step of training: measured, and by theory.

python -m initjax.signal --model="mlp(depth=50)" --activation=tanh --init=he_normal,nspl
"""

# ruff: noqa: E402 - without the extra, the imports below would not say what to install.

from initjax.support import extras

extras.need("train", "flax")

from initjax.signal.layers import (
    Layer as Layer,
    Signal as Signal,
    depth_scale as depth_scale,
)
from initjax.signal.measure import (
    advise as advise,
    measure as measure,
    predict as predict,
)
from initjax.signal.prediction import (
    Prediction as Prediction,
)
from initjax.signal.program import (
    FLAT as FLAT,
)
