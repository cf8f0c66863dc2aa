"""Which runs a command line asks for, and what is said of them before they run."""

import dataclasses

import pytest

from initjax.comparison import Run
from initjax.comparison.grid import (
    SEVERAL,
    create_grid,
    describe_plan,
    find_baseline,
    read_done,
    read_seeds,
)
from initjax.comparison.population import run_jobs
from initjax.support.errors import UserError
from initjax.training import Config

SMALL = {"model": "mlp(width=8)", "steps": "2", "batch_size": "16"}


@pytest.mark.slow
def test_the_product_of_all_that_varies():
    grid = create_grid(
        {
            "init": "nspl(alpha=1.5, ratio=30),he_normal",
            "refine": ",lsuv",
            "bias_init": "zeros,normal(stddev=0.1)",
            "model": "mlp,lenet",
            "batch_size": "32,64",
            "learning_rate": "0.1,1e-2",
            "optimizer": "sgd,adam",
            "preset": "",
            "nesterov": False,
        },
        read_seeds("3"),
    )
    assert len(grid.starts) == 2 * 2 * 2 and len(grid.cells) == 8 * 8
    assert grid.number == len(grid.jobs()) == 64 * 2 * 3
    assert len({job.key for job in grid.jobs()}) == grid.number
    assert grid.rates == (0.01, 0.1) and grid.seeds == (0, 1, 2)
    assert "nspl(alpha=1.5, ratio=30), bias normal(stddev=0.1) + lsuv" in grid.starts
    assert all(job.config.nesterov is False for job in grid.jobs())
    # What is finished first is a comparison of all starts at one seed.
    assert {job.config.seed for job in grid.jobs()[:64]} == {0}


@pytest.mark.parametrize("name", SEVERAL)
def test_every_flag_that_may_have_several_values_has(name):
    two = {
        "init": "nspl,zeros", "refine": ",lsuv", "model": "mlp,lenet", "dataset": "digits,mnist",
        "image_size": "0,16", "dense_init": ",zeros", "bias_init": "zeros,ones",
        "activation": "relu,tanh", "optimizer": "sgd,adam", "schedule": "cosine,constant",
        "augment": "none,crop", "precision": "float32,bfloat16", "epochs": "0.5,2",
        "steps": "5,6", "batch_size": "8,16", "learning_rate": "0.1,0.2", "momentum": "0,0.9",
        "weight_decay": "0,1e-4", "warmup_steps": "0,3", "label_smoothing": "0,0.1",
        "warmup_epochs": "0,0.5", "decayed": "all,kernels",
        "loss": "softmax_cross_entropy,squared_error",
        "init_from": ",runs/a", "parametrization": "standard,mup", "base_width": "8,16",
        "base_depth": "1,2",
    }[name]  # fmt: skip
    first, second = (getattr(c, name) for c in dict.fromkeys(j.config for j in _jobs(name, two)))
    assert first != second
    assert all(isinstance(x, type(getattr(Config(), name))) for x in (first, second))


def _jobs(name, text):
    needed = {"parametrization": {"base_width": "8"}, "base_width": {"parametrization": "mup"}}
    needed["base_depth"] = needed["base_width"]
    return create_grid({name: text} | needed.get(name, {})).jobs()


def test_one_value_of_each_is_the_config_of_a_single_run():
    texts = {"init": "nspl( alpha=2 )", "learning_rate": "1e-1", "steps": "5"}
    (cell,) = create_grid(texts).cells
    alone = Config.create(init="nspl( alpha=2 )", learning_rate=0.1, steps=5)
    assert cell.config == alone and cell.config.run_name() == alone.run_name()
    # Of several runs each start has one spelling, so that adding one renames none.
    before = create_grid(texts, seeds=[0, 1]).starts
    assert before == ("nspl(alpha=2)",)
    assert before[0] in create_grid(texts | {"init": "zeros,nspl(alpha=2)"}).starts


def test_a_folder_with_a_comma(tmp_path):
    (tmp_path / "a,b").mkdir()
    assert _jobs("dataset", f"{tmp_path}/a,b")[0].config.dataset == f"{tmp_path}/a,b"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"learning_rate": "x"}, "--learning_rate=x is not a number."),
        ({"learning_rate": "0.1,x"}, "--learning_rate=x is not a number."),
        ({"learning_rate": "0.1,"}, "--learning_rate= is not a number."),
        ({"learning_rate": "0.1,-1"}, "--learning_rate=-1.0 must be positive"),
        ({"batch_size": "1.5"}, "--batch_size=1.5 is not a whole number."),
        ({"init": "nspl,nspl()"}, "--init has 'nspl' twice."),
        ({"init": "zeros,"}, "--init: "),
        ({"learning_rate": "0.1,1e-1"}, "--learning_rate has 0.1 twice."),
        ({"init": "xavier_normal,glorot_normal"}, "xavier_normal and glorot_normal are the same"),
        ({"init": "zeros", "dense_init": ",zeros"}, "are the same start under two names"),
        ({"epochs": "1,2", "steps": "3"}, "--epochs and --steps say the same twice"),
        ({"optimizer": "sgd,foo"}, "--optimizer='foo' is not one of sgd, adam, adamw."),
        ({"model": "mlp,mpl"}, "Did you mean 'mlp'?"),
        ({"epochs": ",".join(map(str, range(1, 999))), "batch_size": "1,2", "momentum":
          ",".join(f"0.0{i}1" for i in range(1, 100))}, "at most 100,000"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_in_a_line_or_two(texts, message):
    with pytest.raises(UserError) as error:
        create_grid(texts)
    assert message in str(error.value) and len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize("text", ["", "0", "x", "-1", "1.5", "1,1", "0,-1", "0,4294967296"])
def test_seeds_that_are_none(text):
    with pytest.raises(UserError, match="--seeds"):
        read_seeds(text)


def test_seed_and_seeds_contradict():
    with pytest.raises(UserError, match="--seed and --seeds"):
        create_grid({"seed": 3}, (0, 1))


def test_baseline():
    starts = create_grid({"init": "zeros,nspl(alpha=2)", "refine": ",lsuv"}).starts
    assert find_baseline("", starts) == ""
    assert find_baseline("nspl( alpha=2)", starts) == "nspl(alpha=2)"
    assert find_baseline("zeros + lsuv", starts) == "zeros + lsuv"
    with pytest.raises(UserError, match="--baseline='he_normal' is not one of the starts: zeros"):
        find_baseline("he_normal", starts)


def test_the_folder_is_that_of_what_is_shared():
    name = create_grid({"init": "zeros,nspl"}, (0, 1)).folder_name()
    for more in (
        {"init": "zeros,nspl,he_normal"},
        {"init": "nspl", "refine": ",lsuv"},
        {"learning_rate": "0.1,0.2"},
        {"data_dir": "elsewhere", "workdir": "w"},
    ):
        assert create_grid({"init": "zeros,nspl"} | more, (0, 1, 2)).folder_name() == name
    assert name == "comparison-a9bfc37a"  # as of commit 92f62e7
    for other in ({"model": "mlp"}, {"model": "mlp,lenet"}, {"steps": "5"}, {"eval_every": 0.5}):
        assert create_grid({"init": "zeros,nspl"} | other).folder_name() != name


def test_plan():
    grid = create_grid(SMALL | {"init": "zeros,nspl,he_normal"}, range(5))
    lines = "\n".join(describe_plan(grid, {}))
    assert "3 starts x 1 setting x 1 learning rate x 5 seeds: 15 runs, 0 of them done" in lines
    assert "1 program" in lines and "Time: unknown until the first evaluation." in lines
    assert "no difference, however large, can be told; take at least 7 seeds" in lines
    enough = dataclasses.replace(grid, seeds=tuple(range(10)))
    lines = "\n".join(describe_plan(enough, {}, baseline="zeros"))
    assert "baseline zeros" in lines and '"Better" needs 7 seeds or more.' in lines
    assert "the smallest p is 0.0039 after Holm" in lines and "sd" in lines
    done = {job.key: job.row(accuracy=0.5, seconds=120.0) for job in grid.jobs()[:5]}
    lines = "\n".join(describe_plan(grid, done))
    assert "5 of them done" in lines and "Time: about 20 min" in lines
    all_done = {job.key: job.row(accuracy=0.5) for job in grid.jobs()}
    assert "nothing is left to run" in "\n".join(describe_plan(grid, all_done))
    alone = create_grid(SMALL, (0, 1))
    assert "nothing to compare" in "\n".join(describe_plan(alone, {}))


def test_rows_of_a_killed_comparison_are_counted(tmp_path):
    grid = create_grid(SMALL | {"init": "zeros,nspl"}, (0, 1))
    lines = [job.row(accuracy=0.5).to_json() for job in grid.jobs()[:2]]
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, lines[0][:30]]))
    assert list(read_done(tmp_path)) == [job.key for job in grid.jobs()[:2]]
    assert read_done(None) == read_done(tmp_path / "nowhere") == {}


@pytest.mark.slow
def test_a_job_knows_the_key_of_its_row():
    """What is planned as done is what the population skips."""
    grid = create_grid(SMALL | {"init": "nspl(alpha=0.50),zeros", "refine": ""}, (0,))
    runs = run_jobs(grid.jobs())
    assert [run.key for run in runs] == [job.key for job in grid.jobs()]
    assert all(isinstance(run, Run) for run in runs)
