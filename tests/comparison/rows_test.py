"""Rows: what is read, what is refused and in which words."""

import json
import math

import pytest
from hypothesis import given, settings, strategies as st

from initjax.comparison import Run, read
from initjax.support.errors import UserError

_CONFIG = {
    "init": "nspl",
    "refine": "",
    "model": "mlp",
    "dataset": "digits",
    "dense_init": "",
    "bias_init": "zeros",
    "epochs": 2.0,
    "steps": 0,
    "learning_rate": 0.1,
    "seed": 3,
    "boundaries": [0.5, 0.75],
    "workdir": "somewhere",
    "data_dir": "",
}


def _metrics(steps=(10, 20), accuracy=0.9):
    return "".join(
        json.dumps(
            {
                "step": step,
                "epoch": step / 10,
                "train_loss": 1.0,
                "train_accuracy": 0.5,
                "eval_loss": 0.5,
                "eval_accuracy": accuracy,
                "seconds": 2.0 * step,
            }
        )
        + "\n"
        for step in steps
    )


def _folder(path, config=None, metrics=None):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(_CONFIG | (config or {})))
    (path / "metrics.jsonl").write_text(_metrics() if metrics is None else metrics)
    return path


def _write(tmp_path, text, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


_accuracies = st.floats(0, 1)
_runs = st.builds(
    Run,
    start=st.text(min_size=1),
    seed=st.integers(0, 2**64),
    setting=st.dictionaries(st.text(), st.text() | st.integers() | st.booleans()),
    learning_rate=st.none() | st.floats(1e-9, 1e9),
    phase=st.sampled_from(["test", "tuning"]),
    accuracy=_accuracies,
    loss=st.none() | st.floats(),
    failure=st.text(),
    seconds=st.none() | st.floats(0, 1e9),
    test_images=st.none() | st.integers(1, 10**9),
    moves=st.text(),
    step=st.just((1, 2.5)),
    eval_accuracy=st.just(()) | st.tuples(_accuracies, _accuracies | st.just(math.nan)),
    train_loss=st.just(()) | st.tuples(st.floats(0, 9), st.floats(0, 9)),
)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(_runs)
def test_a_run_survives_its_json(run):
    line = run.to_json()
    assert "\n" not in line
    again = Run.from_json(line)
    assert again.to_json() == line
    assert again.key == run.key and again.failure == run.failure


def test_rows_of_every_kind_are_the_same_runs(tmp_path):
    rows = [
        {"start": "a", "seed": s, "accuracy": 0.5, "loss": 1.5, "learning_rate": 0.1, "width": 8}
        for s in range(2)
    ]
    lines = _write(tmp_path, "\n".join(map(json.dumps, rows)) + "\n\n")
    listed = _write(tmp_path, json.dumps(rows), "rows.json")
    names = list(rows[0])
    table = [",".join(names), *(",".join(str(row[n]) for n in names) for row in rows)]
    csv = _write(tmp_path, "\ufeff" + "\r\n".join(table), "rows.csv")
    runs = read(lines)
    assert runs == read(listed) == read(csv) == read(lines, listed, csv) == read(tmp_path)
    assert runs[1] == Run("a", 1, (("width", "8"),), 0.1, "test", 0.5, 1.5)


def test_rows_that_are_evaluations_make_a_curve(tmp_path):
    path = _write(
        tmp_path,
        "start,seed,step,accuracy,loss\na,0,20,.6,1\na,0,10,.5,2\nb,0,10,.4,3\nb,0,20,,nan\n",
        "rows.csv",
    )
    a, b = read(path)
    assert (a.step, a.eval_accuracy, a.eval_loss) == ((10, 20), (0.5, 0.6), (2, 1))
    assert (a.accuracy, a.loss, a.failure) == (0.6, 1, "")
    assert b.failure == "loss is nan" and math.isnan(b.eval_accuracy[1])


def test_curves_as_lists_give_the_final_accuracy(tmp_path):
    row = {"start": "a", "seed": 0, "step": [1, 2], "eval_accuracy": [0.1, 0.2]}
    (run,) = read(_write(tmp_path, json.dumps(row)))
    assert run.accuracy == 0.2 and run.step == (1, 2)


@pytest.mark.parametrize(
    "fields, failure",
    [
        ({"failed": True}, "failed"),
        ({"failed": "out of memory"}, "out of memory"),
        ({"failed": "0", "accuracy": 0.5}, ""),
        ({"failed": False, "accuracy": 0.5}, ""),
        ({"accuracy": math.nan}, "accuracy is nan"),
        ({"accuracy": 0.1, "loss": math.inf}, "loss is inf"),
    ],
)
def test_failures(tmp_path, fields, failure):
    (run,) = read(_write(tmp_path, json.dumps({"start": "a", "seed": 0} | fields)))
    assert run.failure == failure
    assert run.accuracy is None or math.isfinite(run.accuracy)


def test_run_folders_of_the_launcher(tmp_path):
    _folder(tmp_path / "one")
    _folder(tmp_path / "two", {"refine": "lsuv", "dense_init": "pli", "bias_init": "ones"})
    one, two = read(tmp_path)
    assert (one.start, one.seed, one.learning_rate, one.accuracy) == ("nspl", 3, 0.1, 0.9)
    assert two.start == "nspl, dense pli, bias ones + lsuv"
    assert one.setting == two.setting
    assert ("model", "mlp") in one.setting and ("boundaries", "[0.5, 0.75]") in one.setting
    assert not {"seed", "workdir", "init", "learning_rate"} & dict(one.setting).keys()
    assert one.eval_loss == (0.5, 0.5) and one.seconds == 40
    assert "order" in one.moves


@pytest.mark.parametrize("length", [{"epochs": 5.0}, {"epochs": 1.0, "steps": 50}])
def test_a_run_that_stopped_early_is_told(tmp_path, length):
    _folder(tmp_path / "run", length)
    with pytest.raises(UserError, match="stopped at step 20 of 50"):
        read(tmp_path)


@pytest.mark.parametrize(
    "text, name, words",
    [
        ("", "rows.jsonl", "holds no rows"),
        ("{", "rows.jsonl", "line 1: not valid JSON"),
        ('{"start": "a", "seed": 1, "accuracy": 0.5}\n{"sta', "rows.jsonl", "line 2: not valid"),
        ("[" * 100_000, "rows.jsonl", "line 1: not valid JSON"),
        ("7", "rows.jsonl", "line 1: not a row"),
        ("{}", "rows.json", "not a list of rows"),
        ("[7]", "rows.json", "row 1: not a row"),
        ('{"init": "a", "seed": 1}', "rows.jsonl", "no start. A row needs .* here is init, seed"),
        ('{"start": "a", "accuracy": 1}', "rows.jsonl", "line 1: no seed"),
        ('{"start": "a", "seed": 1}', "rows.jsonl", "accuracy is missing"),
        ('{"start": "a", "seed": 1.5, "accuracy": 1}', "rows.jsonl", "seed=1.5 is not a whole"),
        ('{"start": "a", "seed": true, "accuracy": 1}', "rows.jsonl", "seed=True is not a number"),
        ('{"start": "a", "seed": 1, "accuracy": 93}', "rows.jsonl", "divide per cent by 100"),
        ('{"start": "a", "seed": 1, "accuracy": "x"}', "rows.jsonl", "accuracy='x' is not a num"),
        ('{"start": "a", "seed": 1, "accuracy": 1, "learning_rate": 0}', "rows.jsonl", "positive"),
        ('{"start": "a", "seed": 1, "accuracy": 1, "phase": "x"}', "rows.jsonl", "phase='x'"),
        ('{"start": "a", "seed": 1, "accuracy": 1, "setting": 3}', "rows.jsonl", "setting=3"),
        ('{"start": "a", "seed": 1, "accuracy": 1, "step": [2, 1]}', "rows.jsonl", "rise"),
        (
            '{"start": "a", "seed": 1, "step": [1, 2], "eval_accuracy": [0.5]}',
            "rows.jsonl",
            "eval_accuracy has 1 values, but step 2",
        ),
        ("start,seed,accuracy\na,1\n", "rows.csv", "line 2: not as many values as the 3 names"),
        ("start,seed,accuracy\na,1,1,1\n", "rows.csv", "line 2: not as many"),
        ("start,seed,step,accuracy\na,1,5,1\na,1,5,1\n", "rows.csv", "step does not rise"),
        ('start,seed,accuracy\n"a,1,1\n', "rows.csv", "not valid csv"),
        ("", "rows.txt", "read from .jsonl, .json and .csv"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(tmp_path, text, name, words):
    with pytest.raises(UserError, match=words) as caught:
        read(_write(tmp_path, text, name))
    assert name in str(caught.value) and str(caught.value).count("\n") <= 1


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(UserError, match="There is no such file"):
        read(tmp_path / "nothing")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(UserError, match="holds no runs"):
        read(tmp_path)
    (tmp_path / "rows.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not text in UTF-8"):
        read(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    "config, metrics, words",
    [
        ("[]", "", "not a configuration"),
        ("{}", "", "not a configuration"),
        ("{", "", "not valid JSON"),
        (None, "", "no evaluation"),
        (None, "{}\n", "no step"),
        (None, "7\n", "not a row"),
        (None, '{"step": 10}\n', "no step or no eval_accuracy"),
    ],
)
def test_broken_run_folders(tmp_path, config, metrics, words):
    folder = _folder(tmp_path / "run", metrics=metrics)
    if config is not None:
        (folder / "config.json").write_text(config)
    with pytest.raises(UserError, match=words):
        read(folder)


def test_repeated_runs_are_one_unless_they_differ(tmp_path):
    run = Run("a", 0, accuracy=0.5)
    path = _write(tmp_path, run.to_json() + "\n" + run.to_json())
    assert read(path, path) == (run,)
    other = _write(tmp_path, Run("a", 0, accuracy=0.6).to_json(), "other.jsonl")
    with pytest.raises(UserError, match=r"a, seed 0 .*twice.*rows.jsonl, line 1 and .*other.*1"):
        read(path, other)
    assert len(read(path, _write(tmp_path, Run("a", 0, phase="tuning", accuracy=0.6).to_json(),
                                 "tuning.jsonl"))) == 2  # fmt: skip


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
_NAMES = ("start", "seed", "accuracy", "loss", "learning_rate", "phase", "failed", "failure",
          "setting", "step", "eval_accuracy", "train_loss", "moves", "test_images")  # fmt: skip


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(st.dictionaries(st.sampled_from(_NAMES), _values), st.booleans())
def test_no_row_makes_a_traceback(tmp_path_factory, row, complete):
    if complete:
        row = {"start": "a", "seed": 1, "accuracy": 0.5} | row
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_text(json.dumps(row))
    try:
        (run,) = read(path)
    except UserError:
        return
    assert Run.from_json(run.to_json()).key == run.key


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(["rows.jsonl", "rows.json", "rows.csv"]))
def test_no_bytes_make_a_traceback(tmp_path_factory, content, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(b"start,seed,accuracy\n" * (name == "rows.csv") + content)
    try:
        read(path)
    except UserError:
        pass
