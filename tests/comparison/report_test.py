"""The table, the page, comparison.json and the command."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from initjax.comparison import Run, __main__, judge, save, table
from initjax.comparison.page import html_page
from initjax.support.errors import UserError
from initjax.support.tables import shorten
from initjax.support.text import printable

_NASTY = ("<script>alert(1)</script>", "\x1b[31m$y_1$\x07", "_名前 {x}%s")


def _runs(starts=("a", "b", "c"), seeds=6, failed=(), **fields):
    rng = np.random.default_rng(0)
    runs = []
    for i, start in enumerate(starts):
        for seed in range(seeds):
            final = float(rng.normal(0.9 - 0.02 * i, 0.005))
            run = Run(
                start,
                seed,
                accuracy=final,
                loss=1 - final,
                step=(100, 200, 300),
                eval_accuracy=(0.5, 0.7, final),
                eval_loss=(2, 1, 1 - final),
                **fields,
            )
            if (start, seed) in failed:
                run = dataclasses.replace(
                    run, failure="loss is nan", accuracy=None, loss=None, step=(100,),
                    eval_accuracy=(0.1,), eval_loss=(float("nan"),),
                )  # fmt: skip
            runs.append(run)
    return runs


def _page(runs, **options):
    return html_page(judge(runs, **options), runs, {"command": "python -m <x> & y"})


def test_the_table_ranks_and_says_what_holds():
    runs = _runs(seeds=8, learning_rate=0.1, failed=[("c", 2)])
    lines = table(judge(runs)).splitlines()
    assert lines[0] == "All at rate 0.1"
    assert lines[1].split()[:3] == ["start", "accuracy", "(%)"]
    assert [line.split()[0] for line in lines[2:5]] == ["a", "b", "c"]
    assert "first" in lines[2] and "worse" in lines[3]
    assert any(line.startswith("a is better than b: +") for line in lines)
    assert any("c at 1 of 8 seeds" in line for line in lines)
    assert any(line.startswith("Margin for equivalence: ") for line in lines)


def test_a_table_against_a_baseline():
    text = table(judge(_runs(seeds=8), baseline="b", margin=0.002))
    assert "minus baseline" in text and "(as asked)" in text
    assert re.search(r"^a .* better ", text, re.M) and re.search(r"^c .* worse ", text, re.M)


def test_many_pairs_are_told_with_the_leader_only():
    text = table(judge(_runs(starts=[f"s{i}" for i in range(6)], seeds=4)))
    assert text.count("Cannot tell") == 5


@pytest.mark.slow
def test_names_from_data_do_nothing():
    runs = _runs(starts=_NASTY, seeds=3, setting={"<i>": "\x1b]0;x\x07"}, moves="<b>x</b>")
    verdict = judge(runs)
    text = table(verdict)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text) and r"\x1b[31m" in text
    page = _page(runs)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", page)
    assert "<script" not in page and "<i>" not in page and "<b>x" not in page
    assert "&lt;script&gt;alert(1)" in page and "名前 {x}%s" in page
    assert "python -m &lt;x&gt; &amp; y" in page


@pytest.mark.slow
def test_the_page_is_whole_and_alone():
    runs = _runs(seeds=8, failed=[("c", 2)], test_images=10_000, moves="order, augmentation")
    page = _page(runs)
    assert page.startswith("<!doctype html>") and page.endswith("</html>\n")
    assert "//" not in re.sub(r"data:image/png;base64,[\w+/=]+", "", page)
    for theme in ("src=", "srcset="):
        assert page.count(f"{theme}'data:image/png;base64,") == 4
    for words in (
        "A seed moves: order, augmentation.",
        "Other 10,000 images would move an accuracy of",
        "seed 2: loss is nan",
        "0.3 to 52.7",  # Clopper-Pearson of 1 in 8
        "All numbers of 3 pairs",
    ):
        assert words in page, words
    for tag in ("table", "figure", "ul", "details", "div"):
        assert page.count(f"<{tag}") == page.count(f"</{tag}>")


@pytest.mark.slow
def test_one_seed_is_never_better():
    runs = _runs(seeds=1)
    verdict = judge(runs)
    text = table(verdict) + _page(runs) + json.dumps(verdict.to_json())
    assert "better" not in text.lower()


@pytest.mark.slow
def test_two_seeds_have_no_verdict():
    page = _page(_runs(seeds=2))
    assert "no verdict from 2 seeds" in page and "better" not in page.lower()


@pytest.mark.slow
def test_rows_without_curves_have_a_page():
    runs = [Run(start, s, accuracy=0.5) for start in "ab" for s in range(3)]
    assert _page(runs).count("<figure>") == 1
    assert "Comparison of 1 start: a" in _page(runs[:3])


@pytest.mark.slow
def test_a_start_that_always_fails_has_a_page():
    runs = _runs(failed=[("a", seed) for seed in range(6)])
    assert "6 of 6" in _page(runs)
    everything = [dataclasses.replace(r, accuracy=None, failure="x") for r in _runs(seeds=2)]
    assert "2 of 2" in _page(everything)


@pytest.mark.slow
def test_rates_and_settings_have_their_parts():
    runs = []
    for model in ("m", "n"):
        for rate in (0.1, 0.3):
            fields = {"setting": {"model": model}, "learning_rate": rate}
            runs += _runs(seeds=3, phase="tuning", failed=[("b", 1)], **fields)
        tests = _runs(seeds=8, setting={"model": model}, learning_rate=0.1)
        runs += [dataclasses.replace(run, seed=run.seed + 50) for run in tests]
    page = _page(runs)
    for words in (
        "Learning rates",
        "edge of the grid",
        "best of 2",
        "Over 2 settings",
        "interquartile mean",
        "profile area",
        "model=n",
    ):
        assert words in page, words
    text = table(judge(runs))
    assert "best rate 0.1" in text and "setting by setting" in text


@pytest.mark.slow
def test_comparison_json_is_strict_and_versioned(tmp_path):
    runs = _runs(seeds=6, failed=[("a", 0)])
    files = save(judge(runs), runs, tmp_path, {"training command": "python launch.py"})
    assert files == ["comparison.json", "report.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files

    def refuse(constant):
        raise AssertionError(constant)

    found = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=refuse)
    assert found["version"] == 1
    assert found["about"]["training command"] == "python launch.py"
    assert {"initjax", "python", "jax", "host", "command", "date"} <= found["about"].keys()
    pair = found["settings"][0]["contests"][0]["pairs"][0]
    assert {"difference", "p_adjusted", "verdict", "sentence", "failures"} <= pair.keys()


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(run.to_json() + "\n" for run in _runs()))
    arguments = [str(rows), "--baseline=b", "--margin=0.01", f"--out={tmp_path / 'out' / 'x'}"]
    __main__.run(__main__.parse(arguments))
    printed = capsys.readouterr().out
    assert "minus baseline" in printed and "comparison.json, report.html" in printed
    assert (tmp_path / "out" / "x" / "report.html").is_file()
    with pytest.raises(UserError, match="--out="):
        __main__.run(__main__.parse([str(rows), f"--out={rows}"]))


@pytest.mark.slow
def test_the_command_answers_mistakes_with_a_line(tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("start,seed,accuracy\n\x1b[31m,1,x\n")
    command = [sys.executable, "-m", "initjax.comparison", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"error: {rows}, line 2: accuracy='x' is not a number.\n"


def test_texts():
    assert printable("a\n\x1b\u202eé") == "a\\n\\x1b\\u202eé"
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert shorten("abcdefghijk", 10) == "abcd...ijk"
