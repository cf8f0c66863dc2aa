"""The coordinate check: what one step moves, by width."""

import json

import pytest

from initjax.signal import coordinates
from initjax.signal.coordinates import Coordinates
from initjax.support.errors import UserError


@pytest.mark.slow
def test_slopes(tmp_path, capsys):
    """Three ReLU layers, sign steps of .01: .94 and 1.31 from LeCun's start, muP within .1 of 0."""
    flags = ["--widths=64,256,1024", f"--out={tmp_path}"]
    found = coordinates.run(coordinates.parse(flags))
    standard, mup = (found[name].slopes for name in ("standard", "mup"))
    assert list(mup) == ["Dense_0", "Dense_1", "Dense_2"]  # in the order of execution
    assert standard["Dense_1"] == pytest.approx(0.94, abs=0.1)
    assert standard["Dense_2"] == pytest.approx(1.31, abs=0.15)
    assert not found["standard"].passes and found["mup"].passes
    # At the base width they are one network.
    first = [[values[0] for values in c.changes.values()] for c in found.values()]
    assert first[0] == first[1]
    out = capsys.readouterr().out
    assert "passes: slopes within 0.1" in out and "coordinates.png" in out
    saved = json.loads((tmp_path / "coordinates.json").read_text())
    assert saved["found"]["mup"]["passes"] and saved["environment"]["jax"]
    assert (tmp_path / "coordinates.png").read_bytes()[:4] == b"\x89PNG"


def test_a_slope_is_a_power():
    found = Coordinates((1.0, 4.0, 16.0), {"a": (2.0, 4.0, 8.0), "b": (1.0, 0.0, 1.0)})
    assert found.slopes["a"] == pytest.approx(0.5) and not found.passes
    assert found.slopes["b"] != found.slopes["b"]  # nothing moved: no slope, and no pass


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--widths=64", "--widths needs two or more"),
        ("--widths=a", "--widths='a' are not numbers"),
        ("--model=lenet", "LeNet has no field width or width_multiplier"),
        ("--optimizer=adagrad", "--optimizer='adagrad' is not one of adam, sgd"),
        ("--parametrization=up", "Unknown parametrization 'up'"),
    ],
)
def test_errors(flag, message):
    with pytest.raises(UserError) as error:
        coordinates.run(coordinates.parse([flag]))
    assert message in str(error.value)
