"""experiments/study.py: parts that run, tables from rows, and the answers to claims."""

import importlib.util
import json
import tomllib

import pytest
from helpers import ROOT

from initjax.comparison.rows import Run
from initjax.training import Config

FLAGS = ["--init=he_normal,zeros", "--model=mlp(depth=1, width=8)", "--steps=4", "--seeds=3"]
MARKS = "# Words\n\n{}\n{}\nmore words\n"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """study.py, whose experiments lie in a folder of their own with one part."""
    spec = importlib.util.spec_from_file_location("study", ROOT / "experiments" / "study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    folder = tmp_path / "one"
    (folder / "results" / "small").mkdir(parents=True)
    text = f'[[part]]\nname = "small"\nasks = "Which?"\ngap = true\nflags = {FLAGS}\n'
    (folder / "study.toml").write_text(text)
    for readme in (tmp_path / "README.md", folder / "README.md"):
        readme.write_text(MARKS.format(module.BEGIN, module.END))
    (tmp_path / "claims.toml").write_text(
        '[[claim]]\nsource = "a"\nclaim = "b"\npart = "one/small"\nfirst = "x"\nsecond = "y"\n'
        'by = "c"\n\n'
        '[[claim]]\nsource = "a"\nclaim = "d"\nfound = "7 (n = 3)"\nanswer = "disagree"\nby = "e"\n'
    )
    return module


def write_rows(study, accuracies, **values):
    """Ten seeds of each start, at one setting."""
    rows = [
        Run(
            start,
            seed,
            {"model": "m"},
            learning_rate=0.1,
            accuracy=mean + 0.001 * (seed * step % 7),
            loss=1 - mean,
            step=(1, 2),
            eval_accuracy=(0.1, mean),
            eval_loss=(2.0, 1 - mean),
            train_accuracy=(0.1, mean + 0.01),
            train_loss=(2.0, 1 - mean),
            **values,
        )
        for step, (start, mean) in enumerate(accuracies.items(), 2)
        for seed in range(10)
    ]
    path = study.HERE / "one" / "results" / "small" / "rows.jsonl"
    path.write_text("".join(row.to_json() + "\n" for row in rows))


def answer(study, **claim):
    """Of a study that is done."""
    about = study.HERE / "one" / "results" / "small" / "comparison.json"
    about.write_text('{"about": {"jax": "1"}}')
    return study.answer_of({"part": "one/small", "first": "x", "second": "y"} | claim)


def test_answers(study):
    assert answer(study) == ("not run yet", "not run")
    write_rows(study, {"x": 0.8, "y": 0.6})
    words, found = answer(study)
    assert found == "agree" and words.startswith("x is better than y") and "10 seeds" in words
    assert answer(study, first="y", second="x")[1] == "disagree"
    assert answer(study, expects="equivalent")[1] == "disagree"
    assert answer(study, measure="area")[1] == "agree"  # the lower loss
    assert answer(study, first="y", second="x", measure="area")[1] == "disagree"
    assert answer(study, setting={"model": "m"})[1] == "agree"
    assert answer(study, setting={"model": "other"})[1] == "not run"
    assert answer(study, second="z")[1] == "not run"
    words, found = answer(study, value=0.8)
    assert found == "disagree" and words.endswith("(n = 10)")  # it is 0.8 and some thousandths
    assert answer(study, value=0.803)[1] == "agree"
    # Where one start trains at no seed there is no difference of accuracies, but an answer.
    rows = study.HERE / "one" / "results" / "small" / "rows.jsonl"
    failed = [json.loads(line) for line in rows.read_text().splitlines()]
    for row in failed:
        if row["start"] == "y":
            row["failed"] = "diverged"
    rows.write_text("".join(json.dumps(row) + "\n" for row in failed))
    assert answer(study)[1] == "agree: it fails less often"
    assert answer(study, first="y", second="x")[1] == "disagree: it fails more often"
    write_rows(study, {"x": 0.8, "y": 0.8})
    assert answer(study, expects="equivalent")[1] != "disagree"


def test_tables_come_from_rows_and_words_stay(study):
    write_rows(study, {"x": 0.8, "y": 0.6})
    study.write_tables()
    text = (study.HERE / "one" / "README.md").read_text()
    assert text.startswith("# Words\n") and text.endswith("more words\n")
    assert "| x | 80.27 ±" in text and "x is better than y" in text
    assert "| all | x | " in text  # the gap between training and test
    claims = (study.HERE / "README.md").read_text()
    assert "| agree (under way) | c |" in claims  # it left no comparison.json
    assert "2 claims. agree: 1, disagree: 1." in claims and "| 7 (n = 3) | disagree | e |" in claims
    study.write_tables()
    assert (study.HERE / "one" / "README.md").read_text() == text


def test_what_is_wrong_is_told(study):
    with pytest.raises(study.UserError, match="no study 'two'; there are one"):
        study.run("two", [])
    with pytest.raises(study.UserError, match="one has no part 'large'; it has small"):
        study.run("one", ["large"])
    (study.HERE / "README.md").write_text("no marks")
    with pytest.raises(study.UserError, match=r"README\.md lacks the lines"):
        study.write_tables()


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*/study.toml")))
def test_settings_are_flags_of_the_launcher(path):
    """Every part makes a grid, without its data."""
    from initjax.comparison.grid import create_grid

    for part in tomllib.loads(path.read_text())["part"]:
        flags = dict(flag.removeprefix("--").partition("=")[::2] for flag in part["flags"])
        assert set(part) <= {"name", "asks", "before", "flags", "baseline", "gap"}
        seeds = range(int(flags.pop("seeds")))
        assert len(seeds) >= 5
        flags.pop("tune", None)
        switched = {name.removeprefix("no"): False for name in flags if name == "nonesterov"}
        texts = {name: text for name, text in flags.items() if name != "nonesterov"}
        kinds = {"eval_every": float}
        texts = {name: kinds.get(name, str)(text) for name, text in texts.items()}
        assert set(texts) <= set(vars(Config.create()))
        assert create_grid(texts | switched, seeds).number >= 2 * len(seeds)


def test_claims_name_parts_and_starts_that_exist(study, monkeypatch):
    """What a claim asks for is among the starts of its part."""
    from initjax.comparison.grid import create_grid

    monkeypatch.setattr(study, "HERE", ROOT / "experiments")
    for claim in tomllib.loads((ROOT / "experiments" / "claims.toml").read_text())["claim"]:
        if "part" not in claim:
            assert claim["found"] and claim["answer"]
            continue
        name, _, part = claim["part"].partition("/")
        flags = dict(f[2:].partition("=")[::2] for f in study.parts_of(name)[part]["flags"])
        chosen = {n: flags[n] for n in ("init", "refine", "dense_init", "init_from") if n in flags}
        starts = create_grid(chosen, range(3)).starts
        assert claim["first"] in starts, claim
        assert claim.get("second", claim["first"]) in starts, claim


@pytest.mark.slow
def test_a_part_runs_once(study, capfd):
    """By the real launcher; what is done is not done again."""
    (study.HERE / "launch.py").symlink_to(ROOT / "launch.py")
    study.HERE = study.HERE / "experiments"
    study.HERE.mkdir()
    (study.HERE.parent / "one").rename(study.HERE / "one")
    study.run("one", ["small"])
    rows = study.HERE / "one" / "results" / "small" / "rows.jsonl"
    first = rows.read_text()
    assert first.count("\n") == 6
    study.run("one", [])
    assert rows.read_text() == first and "0 done in" in capfd.readouterr().out.replace("runs ", "")
    verdict, about = study.judged("one", study.parts_of("one")["small"])
    assert set(verdict.starts) == {"he_normal", "zeros"} and about["jax"]
