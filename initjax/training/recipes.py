"""Published recipes."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "": {},
    # He, Zhang, Ren & Sun 2015 (arXiv:1512.03385), section 4.2: divided by 10 at 32k and 48k steps.
    "resnet_cifar": {
        "dataset": "cifar10",
        "batch_size": 128,
        "steps": 64_000,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 1e-4,
        "schedule": "step",
        "boundaries": (0.5, 0.75),
        "warmup_steps": 0,
        "label_smoothing": 0.0,
        "augment": "crop_flip",
    },
}
