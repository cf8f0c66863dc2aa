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
    # ResNet-50 of He et al. 2015 as trained by Goyal et al. 2017 (arXiv:1706.02677): rate .1 for a
    # batch of 256, warmed up, decay on kernels, branches that begin at 0; with the cosine, 90
    # epochs and label smoothing of He et al. 2019 (arXiv:1812.01187), as in big_vision's recipe.
    "resnet50_imagenet": {
        "model": "resnet50(zero_init_residual=True)",
        "dataset": "imagenet2012",
        "stream": True,
        "image_size": 224,
        "augment": "random_resized_crop",
        "batch_size": 256,
        "epochs": 90.0,
        "optimizer": "sgd",
        "rate_of_256": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 1e-4,
        "decayed": "kernels",
        "schedule": "cosine",
        "warmup_epochs": 5.0,
        "label_smoothing": 0.1,
    },
}
