"""--parametrization: the start, the rates and the decay of a run."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import draw_dataset

from initjax.comparison.grid import create_grid
from initjax.support.errors import UserError
from initjax.training import Config, Trainer
from initjax.training.replicas import Member, Replicas
from initjax.training.start import model_of, parametrization_of

SMALL = Config(
    model="mlp(width=16)", init="he_normal", batch_size=16, steps=2, warmup_steps=0, augment="none"
)
MUP = {"parametrization": "mup", "base_width": 4.0}


def run(config, steps=1):
    """The parameters before and after some steps."""
    trainer = Trainer(config, draw_dataset())
    state = trainer.create_state()
    before = jax.device_get(state.params)
    state, _ = trainer.run(state, trainer.zero_metrics(), trainer.order(0), steps)
    return before, jax.device_get(state.params)


@pytest.mark.slow
def test_at_the_base_width_it_is_the_standard_run():
    """Start and steps, to the last bit; with decay, which has a program of its own."""
    same = dataclasses.replace(SMALL, parametrization="mup", base_width=16.0)
    jax.tree.map(np.testing.assert_array_equal, run(same, 2), run(SMALL, 2))


@pytest.mark.slow
def test_a_first_step_of_adam_and_its_decay():
    """m = 4: output weights half as large (2 by variance, 1/4 folded), a step of 1 / m in hidden
    and output weights, and of decay as much as ever.
    """
    adam = {"optimizer": "adamw", "nesterov": False, "schedule": "constant", "learning_rate": 0.01}
    config = dataclasses.replace(SMALL, weight_decay=0.5, **adam, **MUP)
    before, after = run(config)
    plain = Trainer(dataclasses.replace(config, parametrization="standard"), draw_dataset())
    plain = jax.device_get(plain.create_state().params)
    for layer, size, rate in (("Dense_0", 1, 1), ("Dense_1", 1, 1 / 4), ("Dense_2", 1 / 2, 1 / 4)):
        old, new = before[layer]["kernel"], after[layer]["kernel"]
        np.testing.assert_allclose(old, size * plain[layer]["kernel"], rtol=1e-6)
        step = np.abs(new - (1 - 0.01 * 0.5) * old)
        moved = step[step > 1e-6]  # not of pixels that are nothing
        np.testing.assert_allclose(moved, 0.01 * rate, rtol=2e-3)
        assert len(moved) > step.size / 3


@pytest.mark.slow
def test_a_replica_is_the_run():
    config = dataclasses.replace(SMALL, **MUP)
    dataset = draw_dataset()
    states = Replicas(config, dataset, 1).create_states([Member(config)])["state"]
    alone = jax.device_get(Trainer(config, dataset).create_state())
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b), states, alone)


def test_a_comparison_with_the_standard_one():
    """Of settings; a base width alone would do nothing."""
    texts = {"model": "mlp(width=8)", "base_width": "4", "parametrization": "standard,mup"}
    grid = create_grid(texts, seeds=(0, 1))
    assert [str(cell.config.parametrization) for cell in grid.cells] == ["standard", "mup"]
    assert len({cell.group for cell in grid.cells}) == 2
    with pytest.raises(UserError, match="--base_width needs a --parametrization, such as mup"):
        create_grid({"base_width": "4"})


@pytest.mark.slow
def test_depth_and_width_of_a_model_by_name():
    config = Config(
        model="vit_tiny(patch_size=4, depth=4, width_multiplier=0.25)",
        parametrization="complete_p",
        base_width=0.125,
        base_depth=1,
    )
    found = parametrization_of(config, model_of(config, 10), (8, 8, 3))
    assert found.leaves["Block_3/Dense_1/kernel"].folded == 0.25
    lenet = dataclasses.replace(SMALL, model="lenet", **MUP)
    with pytest.raises(UserError, match="--parametrization=mup: LeNet has no field width"):
        parametrization_of(lenet, model_of(lenet, 10), (8, 8, 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parametrization": "mup"}, "--parametrization=mup needs --base_width"),
        (
            {"parametrization": "complete_p", "base_width": 8.0},
            "--parametrization=complete_p needs --base_depth, the depth at which",
        ),
        ({"parametrization": "mpu", "base_width": 8.0}, "--parametrization: Unknown"),
        ({"parametrization": "mup", "base_width": -1.0}, "--base_width=-1.0 must be 0 or more"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(UserError) as error:
        Config(**settings)
    assert message in str(error.value)
    assert Config().parametrization.value is None and "parametrization" not in Config().to_json()
