"""Runs as frames and as scores."""

import numpy as np
import pytest

from initjax.comparison import Run, to_frame, to_scores
from initjax.support.errors import UserError


def run(start, seed, model="mlp", accuracy=0.5, **values):
    return Run(start, seed, {"model": model}, accuracy=accuracy, **values)


def test_a_frame_has_a_row_a_run_or_an_evaluation():
    runs = [
        run("a", 0, step=(1, 2), eval_accuracy=(0.25, 0.5)),
        run("b", 1, accuracy=None, failure="diverged"),
    ]
    frame = to_frame(runs)
    assert list(frame.start) == ["a", "b"] and list(frame.model) == ["mlp", "mlp"]
    assert np.isnan(frame.accuracy[1]) and frame.failure[1] == "diverged"
    curves = to_frame(runs, curves=True)
    assert list(curves.step) == [1, 2] and list(curves.eval_accuracy) == [0.25, 0.5]


def test_scores_are_seeds_by_settings():
    runs = [
        run(start, seed, model, 0.1 * seed + 0.01 * len(model))
        for model in ("mlp", "lenet")
        for seed in (1, 0)
        for start in ("a", "b")
    ]
    runs.append(run("a", 7, phase="tuning"))
    scores = to_scores(runs)
    np.testing.assert_allclose(scores["b"], [[0.05, 0.03], [0.15, 0.13]])
    failed = [run("a", 0, accuracy=None, failure="diverged"), run("a", 1)]
    np.testing.assert_array_equal(to_scores(failed, failed=0.1)["a"], [[0.1], [0.5]])


def test_what_is_missing_or_twice_is_told():
    with pytest.raises(UserError, match="b has no run of seed 1 at model mlp"):
        to_scores([run("a", 0), run("a", 1), run("b", 0)])
    with pytest.raises(UserError, match="two learning rates"):
        to_scores([run("a", 0, learning_rate=0.1), run("a", 0, learning_rate=0.2)])
