import numpy as np
import PIL.Image
import pytest

from initjax.comparison.bands import plot_bands


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 4])
def test_bands_are_a_png_that_shows_the_values(tmp_path, number):
    x = np.arange(5)
    files = []
    for name, slope in (("a", 1.0), ("b", 2.0)):
        lines = {"one": (x, slope * x + 1, x + 0.5, 2 * x + 2), "two": (x, x + 3, x + 2, x + 4)}
        path = tmp_path / f"{name}.png"
        plot_bands(
            {f"panel {i}": lines for i in range(number)},
            path,
            "a title",
            xlabel="step",
            ylabels=["loss"] * number,
            log=[True] * number,
        )
        with PIL.Image.open(path) as image:
            assert image.format == "PNG"
            assert np.asarray(image.convert("L")).std() > 5  # not blank
        files.append(path.read_bytes())
    assert files[0] != files[1]
