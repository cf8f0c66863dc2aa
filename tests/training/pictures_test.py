import numpy as np
import PIL.Image
import pytest

from initjax.training.pictures import plot_curves


def row(step, loss):
    return {
        "epoch": step / 2,
        "train_loss": loss,
        "train_accuracy": 1 - loss / 10,
        "eval_loss": 2 * loss,
        "eval_accuracy": 1 - loss / 5,
    }


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 100])
def test_curves_are_a_png(tmp_path, number):
    rows = [row(step, 1 / step) for step in range(1, number + 1)]
    plot_curves(rows, tmp_path / "curves.png", "a title")
    with PIL.Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG"
        assert image.size == (1080, 432)
        assert np.asarray(image.convert("L")).std() > 5  # not blank


@pytest.mark.slow
def test_curves_show_the_values(tmp_path):
    for name, loss in (("a.png", 1.0), ("b.png", 2.0)):
        plot_curves([row(1, 1.0), row(2, loss)], tmp_path / name, "a title")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


@pytest.mark.slow
def test_a_title_is_no_formula(tmp_path):
    names = ("train_loss", "train_accuracy", "eval_loss", "eval_accuracy")
    rows = [{"epoch": 1.0, **dict.fromkeys(names, 0.5)}]
    plot_curves(rows, tmp_path / "curves.png", r"lenet from from_fit('$\bad$.json')")
    assert (tmp_path / "curves.png").stat().st_size > 0
