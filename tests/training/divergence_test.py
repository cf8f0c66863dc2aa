import re
import types

import numpy as np
import pytest

from initjax.support.errors import UserError
from initjax.training import Config
from initjax.training.divergence import check_loss, check_state

BAD = np.float32([1, np.inf])


def state(**params):
    good = {"Dense_0": {"kernel": np.float32([3, -7])}, "Dense_1": {"bias": np.float32([1])}}
    return types.SimpleNamespace(
        params=good | {name: {"kernel": value} for name, value in params.items()},
        batch_stats={},
        opt_state=({"trace": good}, np.int32(3)),
    )


def told(loss=np.nan, split="training", steps=range(5, 6), found=None, **settings):
    """The two lines."""
    config = Config(model="mlp", init="he_normal", **settings)
    with pytest.raises(UserError) as error:
        check_loss(split, loss, found or state(), config, steps, 9)
    return str(error.value).splitlines()


def test_step_and_layer_are_named():
    line, cure = told(found=state(Dense_0=BAD, Dense_2=BAD))
    assert line.startswith(
        "The training loss is nan at step 5 of 9, where Dense_0/kernel and 1 more"
    )
    line, _ = told(np.inf, "test")
    assert "test loss is inf" in line and "the largest parameter, 7, is in Dense_0/kernel" in line
    assert cure == "Try a lower --learning_rate than 0.1, or more --warmup_steps."


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"steps": range(1, 2)}, "The initial weights do this: try another --init than he_normal."),
        ({"steps": range(1, 2), "refine": "lsuv"}, "The initial .* another --refine than lsuv."),
        ({"steps": range(1, 2), "split": "test"}, "Try a lower --learning_rate than 0.1, or more"),
        ({"steps": range(1, 9)}, "Try a lower --learning_rate than 0.1, .* or another --init."),
        ({"weight_decay": 1e9}, "Try a lower --weight_decay than 1e.09"),
        ({"learning_rate": 1e30}, "Try a lower --learning_rate than 1e.30"),
    ],
)
def test_the_likely_cause_is_named(settings, cure):

    assert re.match(cure, told(**settings)[1])


@pytest.mark.parametrize("part", ["params", "batch_stats", "opt_state"])
def test_a_state_that_is_not_finite_is_refused(part):
    config = Config(model="mlp")
    check_state(state(), config, 3, 9)
    bad = state()
    setattr(bad, part, {"Conv_0": {"kernel": BAD}})
    with pytest.raises(UserError, match="At step 3 of 9 Conv_0/kernel is not finite; this is not"):
        check_state(bad, config, 3, 9)
