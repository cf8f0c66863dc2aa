"""A comparison in a notebook: callables and arrays in, rows and a verdict out."""

import functools
import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from initjax import data as data_sets
from initjax.comparison.grid import Grid, read_seeds
from initjax.comparison.population import Job, run_jobs
from initjax.comparison.results import Verdict
from initjax.comparison.rows import Run
from initjax.comparison.study import Study
from initjax.comparison.tables import table
from initjax.initializers.catalog import get
from initjax.support.errors import UserError
from initjax.support.files import user_path
from initjax.training.config import Config, Named


class Comparison(NamedTuple):
    """What `compare` returns; prints as the table of a terminal.

    Attributes:
      rows: of all runs, tuning ones included.
      verdict: on them.
    """

    rows: tuple[Run, ...]
    verdict: Verdict

    def __str__(self) -> str:
        return table(self.verdict)


def compare(
    make_model: str | Callable[[Any], Any],
    data: Any,
    starts: Sequence[str] | Mapping[str, Any],
    seeds: int | Sequence[int],
    *,
    learning_rate: float | Sequence[float] | None = None,
    tune: bool = False,
    until_decided: int = 0,
    baseline: str = "",
    margin: float | None = None,
    folder: str | os.PathLike[str] | None = None,
    method: str = "auto",
    listener: Any = None,
    **settings: Any,
) -> Comparison:
    """Trains a model from several starts over several seeds, in silence, and judges.

    >>> from initjax.comparison import compare
    >>> found = compare(
    ...     "mlp(width=16)", "digits", ["he_normal", "normal(stddev=0.001)"], seeds=3,
    ...     steps=20, batch_size=64,
    ... )
    >>> len(found.rows)
    6
    >>> [start.start for start in found.verdict.settings[0].contests[0].starts]
    ['he_normal', 'normal(stddev=0.001)']

    Args:
      make_model: a start -> a Flax Linen module, images [B, H, W, C] to logits [B, num_classes]; or
        the name of a model, such as "resnet32".
      data: a name, a `Dataset`, or arrays (train_images, train_labels, test_images, test_labels).
      starts: names, which reach `make_model` as initializers; or label -> whatever `make_model`
        takes (for a model by name: an initializer).
      seeds: how many, or a list.
      learning_rate: one or several; None: that of `Config`.
      tune: each start's own rate is chosen first, on held-out training images and other seeds.
      until_decided: the most seeds up to which they are added until all is decided; 0: none.
      baseline: a start that the others are compared with; empty: all pairs.
      margin: accuracy difference without practical interest; None: half the sd from seed to seed.
      folder: where rows are kept as they come: the same call goes on from them. It knows a start by
        its label only. None: in memory.
      method: "auto", "vmap" or "devices": how replicas are run.
      listener: who is told how it goes on, such as a subclass of `initjax.training.Quiet`.
      **settings: other fields of `Config`: epochs or steps, batch_size, optimizer, ...

    Raises:
      UserError (a ValueError): settings, starts or data that cannot be.
    """
    dataset = _dataset(data, settings)
    named = starts if isinstance(starts, Mapping) else {str(name): get(name) for name in starts}
    if not named or len(named) < len(starts):
        raise UserError(f"starts={list(starts)} must be one or more, each of another name.")
    rates = [learning_rate] if isinstance(learning_rate, int | float) else learning_rate
    if rates is not None:
        settings["learning_rate"] = rates[0]
    values = {label: get(x) if isinstance(x, str) else x for label, x in named.items()}
    models = {label: None for label in values}
    if not isinstance(make_model, str):
        models = {label: make_model(value) for label, value in values.items()}
        values = {label: Named(label) for label in values}
    else:
        settings["model"] = make_model
    cells = [
        Job(
            Config.create(init=values[label], dataset=dataset.name, **settings),
            start=label,
            model=models[label],
            program=None if models[label] is None else _program(models[label], dataset),
        )
        for label in values
    ]
    grid = Grid(
        tuple(cells),
        tuple(sorted(map(float, rates or [cells[0].config.learning_rate]))),
        read_seeds(str(seeds)) if isinstance(seeds, int) else tuple(sorted(set(seeds))),
    )
    if folder is not None:
        folder = user_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
    study = Study.create(
        grid, baseline=baseline, margin=margin, tune=tune, until_decided=until_decided
    )
    rows, verdict = study.run(
        functools.partial(
            run_jobs, dataset=dataset, folder=folder, method=method, listener=listener
        )
    )
    return Comparison(tuple(rows), verdict)


def _program(model, dataset: data_sets.Dataset) -> tuple[str, str]:
    """Equal for models that compute the same, whatever their weights begin from."""
    x = jnp.zeros((2, *dataset.train_images.shape[1:]))
    key = jax.random.key(0)
    modes = [{}]
    if "train" in inspect.signature(model.__call__).parameters:
        modes = [{"train": True}, {"train": False}]
    variables = jax.eval_shape(model.init, key, x)

    def compute(variables, x):
        rngs = {"dropout": key}
        return [model.apply(variables, x, **m, mutable=["batch_stats"], rngs=rngs) for m in modes]

    text = str(jax.make_jaxpr(compute)(variables, x))
    return type(model).__name__, re.sub(r"0x[0-9a-f]+", "", text)  # without addresses


def _dataset(data, settings: Mapping[str, Any]) -> data_sets.Dataset:
    if isinstance(data, str):
        return data_sets.load(
            data,
            settings.get("data_dir") or None,
            settings.get("image_size") or None,
            settings.get("download", False),
            settings.get("stream") or None,
        )
    return data if isinstance(data, data_sets.Dataset) else data_sets.from_arrays(*data)
