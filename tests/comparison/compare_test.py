"""Comparisons in a notebook: callables and arrays, in silence."""

from typing import Any

import flax.linen as nn
import numpy as np
import pytest
from helpers import draw_dataset

from initjax.comparison import compare, read
from initjax.comparison.progress import Quiet
from initjax.support.errors import UserError

pytestmark = pytest.mark.slow

DATA = draw_dataset()
SMALL = {"steps": 4, "batch_size": 16, "augment": "none"}


class Net(nn.Module):
    kernel_init: Any
    width: int = 8

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.width, kernel_init=self.kernel_init)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


class Heard(Quiet):
    def __init__(self):
        self.work, self.runs = [], []

    def planned(self, work):
        self.work.append(work)

    def finished(self, run, runs):
        self.runs.append(run)


def test_callables_and_arrays(tmp_path, capsys):
    arrays = (DATA.train_images, DATA.train_labels, DATA.test_images, DATA.test_labels)
    starts = {"he": "he_normal", "tiny": nn.initializers.normal(1e-3)}
    heard = Heard()
    found = compare(
        Net, arrays, starts, [4, 2], baseline="he", folder=tmp_path, listener=heard, **SMALL
    )
    assert capsys.readouterr() == ("", "")
    assert {(run.start, run.seed) for run in found.rows} == {
        (start, seed) for start in starts for seed in (2, 4)
    }
    assert found.verdict.baseline == "he" and "he" in str(found)
    setting = dict(found.rows[0].setting)
    assert (setting["model"], setting["dataset"]) == ("Net", "own")
    assert set(read(tmp_path)) == set(found.rows)
    # One program: the modules differ in nothing but where their weights begin.
    assert heard.work[0].programs == 1 and len(heard.runs) == 4
    # Adding a start and a seed runs only these.
    more, heard = starts | {"zeros": "zeros"}, Heard()
    again = compare(
        Net, arrays, more, [4, 2, 7], baseline="he", folder=tmp_path, listener=heard, **SMALL
    )
    assert len(heard.runs) == 9 - 4 and set(found.rows) < set(again.rows)


def test_modules_that_compute_other_things_share_no_program():
    def make(start):
        return Net(nn.initializers.he_normal(), width=start)

    heard = Heard()
    found = compare(make, DATA, {"narrow": 3, "wide": 9}, 1, listener=heard, **SMALL)
    assert heard.work[0].programs == 2
    assert all(not run.failure or "above" in run.failure for run in found.rows)


def test_models_by_name_at_several_rates():
    found = compare(
        "mlp(width=8)", DATA, ["he_normal", "zeros"], 2, learning_rate=[0.1, 0.01], **SMALL
    )
    (setting,) = found.verdict.settings
    assert [contest.learning_rate for contest in setting.contests] == [0.01, 0.1]
    assert setting.values["model"] == "mlp(width=8)"
    zeros = [run for run in found.rows if run.start == "zeros"]
    assert len(zeros) == 4 and len({run.accuracy for run in zeros}) == 1  # it learns biases alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"starts": []}, "starts="),
        ({"starts": ["zeros", "zeros"]}, "another name"),
        ({"starts": ["foo"]}, "foo"),
        ({"seeds": 0}, "--seeds=0"),
        ({"baseline": "foo"}, "baseline='foo'"),
        ({"data": (np.zeros((3, 4, 4)),) * 4}, "labels"),
        ({"make_model": "foo"}, "Unknown model"),
    ],
)
def test_what_cannot_be_compared(options, message):
    given = {"make_model": "mlp", "data": DATA, "starts": ["zeros", "ones"], "seeds": 2} | options
    with pytest.raises(UserError, match=message):
        compare(**given)
