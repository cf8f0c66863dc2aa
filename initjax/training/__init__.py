"""Training runs: one compiled program a run, resumed bit for bit."""

from initjax.training.config import (
    Config as Config,
)
from initjax.training.devices import (
    use_cpu_cores as use_cpu_cores,
)
from initjax.training.loop import (
    train_and_evaluate as train_and_evaluate,
)
from initjax.training.trainer import (
    Trainer as Trainer,
)
