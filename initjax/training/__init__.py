"""Training runs: one compiled program a run, resumed bit for bit."""

# ruff: noqa: E402 - without the extra, the imports below would not say what to install.

from initjax.support import extras

extras.need("train")

from initjax.training.config import (
    Config as Config,
)
from initjax.training.devices import (
    Devices as Devices,
    keep_memory as keep_memory,
    use_cpu_cores as use_cpu_cores,
)
from initjax.training.inference import (
    load_run as load_run,
)
from initjax.training.loop import (
    train as train,
    train_and_evaluate as train_and_evaluate,
)
from initjax.training.objective import (
    METRICS as METRICS,
    metric as metric,
)
from initjax.training.progress import (
    Listener as Listener,
    Numbers as Numbers,
    Quiet as Quiet,
)
from initjax.training.trainer import (
    Trainer as Trainer,
)
