"""A trained model, from the folder of its run."""

import json
import os
from typing import Any, NamedTuple

import numpy as np

from initjax.data.augmentation import Normalization
from initjax.data.load import load
from initjax.support.errors import UserError
from initjax.support.files import intact, user_path
from initjax.training.checkpoints import read_latest
from initjax.training.config import Config
from initjax.training.start import model_of


class Run(NamedTuple):
    """What `load_run` returns.

    Attributes:
      model: the Flax Linen module, [B, H, W, C] float images to [B, num_classes] logits.
      variables: {"params": ..., "batch_stats": ...} of the newest checkpoint.
      normalization: [B, H, W, C] images, as bytes or as the data set has them, to what `model`
        takes.
      config: the run's settings.
    """

    model: Any
    variables: dict[str, Any]
    normalization: Normalization
    config: Config


def load_run(folder: str | os.PathLike[str]) -> Run:
    """The model that a run of launch.py has trained, ready for inference.

        model, variables, normalization, config = initjax.load_run("runs/digits-lenet-nspl-123")
        logits = model.apply(variables, normalization(images))  # images: uint8 [B, H, W, C]

    The run is only read; it may still be going on. A run from before data.json was written needs
    its data set once more.

    Raises:
      UserError (a ValueError): no run, or none with a checkpoint that can be read.
    """
    folder = user_path(folder)
    try:
        saved = json.loads((folder / "config.json").read_text())
        config = Config(**saved)
    except OSError:
        raise UserError(f"{folder} is not the folder of a run: it has no config.json.") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{folder / 'config.json'} is not a configuration: {error}") from None
    try:
        facts = intact(json.loads((folder / "data.json").read_text()))
        if facts is None:
            raise ValueError("it is not what was written")
        num_classes = facts["num_classes"]
        mean, std = (np.float32(facts[name]) for name in ("mean", "std"))
    except FileNotFoundError:
        place, size = config.data_dir or None, config.image_size or None
        dataset = load(config.dataset, place, size, False, None)
        num_classes, mean, std = dataset.num_classes, dataset.mean, dataset.std
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{folder / 'data.json'} cannot be read: {error!r}\n"
            "Delete it: then the data set is asked again."
        ) from None
    state = read_latest(folder / "checkpoints", config.settings())["state"]
    variables = {name: state[name] for name in ("params", "batch_stats") if state.get(name)}
    return Run(model_of(config, num_classes), variables, Normalization(mean, std), config)
