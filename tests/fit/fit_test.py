"""python -m initjax.fit: checkpoint to table, fit.json, report, and back to an initializer."""

import dataclasses
import json
import math
import re
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import initjax
from initjax import weights
from initjax.distributions import Empirical, StudentT, SymmetricPowerLaw
from initjax.distributions.laws import LAWS
from initjax.fit import controls, pictures as pictures, report
from initjax.fit.__main__ import main
from initjax.fit.analysis import describe
from initjax.fit.checkpoint import analyze_checkpoint
from initjax.fit.controls import cutoff_exponents, gaussian_slopes
from initjax.fit.file import load
from initjax.fit.findings import VERSION, Vuong
from initjax.fit.histograms import histogram
from initjax.fit.scales import scales
from initjax.support.errors import UserError


def network(seed=0):
    """Weights of known laws, under the names of a small convolutional network."""
    rng = np.random.default_rng(seed)
    radius = np.array([[0.5, 1, 0.5], [1, 2, 1], [0.5, 1, 0.5]])
    return {
        "first/kernel": rng.standard_normal((3, 3, 16, 32)) * radius[..., None, None],
        "second/kernel": 0.05 * rng.standard_t(4, (1, 1, 64, 128)),
        "third/kernel": 0.1 * rng.laplace(size=(128, 64)),
        "head/kernel": 0.01 * 50 ** rng.random((64, 50)) * rng.choice([-1, 1], (64, 50)),
        "head/bias": np.zeros(50),
        "broken/kernel": np.full((10, 10), np.nan),
        "flat/kernel": np.ones((10, 10)),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the command leaves for the network above."""
    folder = tmp_path_factory.mktemp("fit")
    arrays = {name: value.astype(np.float32) for name, value in network().items()}
    np.savez(folder / "weights.npz", **arrays)
    out = folder / "out"
    main([str(folder / "weights.npz"), f"--out={out}", "--bootstraps=20"])
    return out


@pytest.fixture(scope="module")
def found(folder):
    return load(folder)


def layer(found, name):
    return next(item for item in found.layers if item.path.startswith(name))


@pytest.mark.slow
def test_finds_the_laws(found):
    assert [item.path.split("/")[0] for item in found.layers] == [
        "first", "second", "third", "head",
    ]  # fmt: skip
    assert layer(found, "second").best == "student_t"
    assert layer(found, "third").best == "laplace"
    assert layer(found, "head").best == "truncated_power_law"
    head = layer(found, "head").laws["truncated_power_law"]
    error = head.standard_errors["alpha"]
    assert abs(head.parameters["alpha"] - 1) < 4 * error
    low, high = head.intervals["alpha"]
    assert high - low == pytest.approx(2 * 1.96 * error, rel=1e-3)


@pytest.mark.slow
def test_reports_what_it_skips(found):
    assert [path.split("/")[0] for path, _ in found.skipped] == ["broken", "flat"]
    reasons = " ".join(reason for _, reason in found.skipped)
    assert "100 of 100 weights are infinite or NaN" in reasons
    assert "one of 1 sizes" in reasons


@pytest.mark.slow
def test_the_file_is_complete_and_strict_json(folder, found):
    json.loads((folder / "fit.json").read_text(), parse_constant=pytest.fail)
    assert found.version == VERSION
    for item in [*found.layers, found.pool]:
        assert set(item.laws) == set(LAWS)
        aics = [law.aic for law in item.laws.values()]
        assert aics == sorted(aics)
        assert item.best_law.vuong_best == Vuong(0, 1)
        assert item.laws["normal"].nats_over_normal == 0
        assert item.tail.bootstraps == 20 and 0 <= item.tail.p <= 1
        assert len(item.quantiles) == len(Empirical.probabilities())
    assert found.pool.size == sum(item.size for item in found.layers)


def test_scales_of_positions(found):
    scales = layer(found, "first").scales
    expected = np.array([[0.5, 1, 0.5], [1, 2, 1], [0.5, 1, 0.5]])
    expected = expected / np.sqrt((expected**2).mean())
    # 512 weights a position: a relative standard error of 1 / sqrt(1024).
    np.testing.assert_allclose(scales.position_scale, expected, rtol=4 / math.sqrt(1024))
    assert scales.kurtosis > 5
    error = math.sqrt(24 / (9 * 512))
    assert abs(scales.kurtosis_without_position - 3) < 4 * error
    positions = layer(found, "first").positions
    assert len(positions) == 9 and positions[4].position == (1, 1)
    assert positions[4].sd == pytest.approx(2, rel=4 / math.sqrt(1024))
    assert layer(found, "third").positions == ()


@pytest.mark.slow
def test_report_in_a_browser_needs_nothing_else(folder, found):
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6
    assert not re.search(r"(src|href)='(?!data:)", page) and "<script" not in page
    answer = page.index("Is the law of these weights a power law?")
    assert answer < page.index("<img")
    assert "In some layers" in report.verdict(found)[0]
    assert "head/kernel (alpha" in report.verdict(found)[1]
    hostile = dataclasses.replace(found, skipped=(("<script>x</script>", "a & b"),))
    page = report.html_page(hostile)
    assert "<script>" not in page and "&lt;script&gt;" in page


def analyzed(arrays, **arguments):
    tensors = tuple(
        weights.Tensor(name, value.shape, value.dtype.name, "flax", lambda value=value: value)
        for name, value in arrays.items()
    )
    checkpoint = weights.Checkpoint("w", "npz", tensors)
    return analyze_checkpoint(checkpoint, **{"bootstraps": 0} | arguments)


@pytest.mark.slow
def test_every_cell_of_the_page_is_escaped(monkeypatch):
    """Names of layers, reasons, laws' parameters, the source and the environment."""
    monkeypatch.setattr(report, "_PICTURES", ())
    values = np.random.default_rng(0).normal(size=(4, 30, 30))
    found = analyzed({"<b>&a</b>\x1b[2J/kernel": values})
    hostile = dataclasses.replace(
        found,
        source=dataclasses.replace(found.source, path="<i>1</i>", format="<i>2</i>"),
        environment={"<i>3</i>": "<i>4</i>"},
        skipped=(("<i>5</i>\x1b", "<i>6</i>"),),
        no_weights=(("<i>7</i>", "<i>8</i>\x9b"),),
    )
    page = report.html_page(hostile)
    assert "<i>" not in page and "<b>" not in page and "\x1b" not in page and "\x9b" not in page
    assert all(f"&lt;i&gt;{i}&lt;/i&gt;" in page for i in range(1, 9))
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page)
    assert r"&lt;b&gt;&amp;a&lt;/b&gt;\x1b[2J/kernel" in cells
    text = report.table(hostile)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text) and r"\x1b[2J/kernel" in text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shard", "member", "leaf"])
def test_no_name_commands_the_terminal(tmp_path, capsys, kind):
    name = "\x1b[2J\x9b"
    if kind == "shard":
        (tmp_path / f"{name}.npz").write_bytes(b"PK\x03\x04 damaged")
    else:
        array = (
            np.array(["a"]) if kind == "member" else np.random.default_rng(0).normal(size=(9, 9))
        )
        np.savez(tmp_path / "w.npz", **{f"{name}/kernel": array, "bias": np.zeros(3)})
    try:
        main([str(tmp_path), "--bootstraps=0"])
        shown = "".join(capsys.readouterr())
    except SystemExit as stopped:
        shown = str(stopped)
    assert r"\x1b[2J" in shown and not re.search(r"[\x1b\x9b]", shown)


@pytest.mark.slow
def test_rows_of_the_table(monkeypatch):
    """Whole names that stay different, axes, zeros, sides and KS in each."""
    monkeypatch.setattr(report, "_PICTURES", ())
    rng = np.random.default_rng(0)
    pruned = rng.normal(size=(60, 60)) * (rng.random((60, 60)) < 0.1)
    deep = "/".join(["block"] * 15)
    found = analyzed(
        {
            "pruned/kernel": pruned,
            f"a/{deep}/kernel": abs(rng.normal(size=(60, 60))),
            f"b/{deep}/kernel": rng.normal(size=(4, 30, 30)),
        }
    )
    header, _, *rows = [re.split(r" {2,}", line) for line in report.table(found).splitlines()]
    cells = [dict(zip(header, row, strict=False)) for row in rows[:3]]
    assert [cell["layer"] for cell in cells] == [layer.path for layer in found.layers]
    assert [cell["axes"] for cell in cells] == ["io", "io", "?"]
    assert [cell["fan in"] for cell in cells] == ["60", "60", "-"]
    zeros = f"{(pruned == 0).sum():,} ({(pruned == 0).mean():.1%})"
    assert [cell["zeros"] for cell in cells] == [zeros, "0", "0"]
    assert cells[0]["w < 0"] == f"{(pruned < 0).sum()}" and cells[1]["w < 0"] == "0"
    assert cells[0]["w > 0"] == f"{(pruned > 0).sum()}" and cells[1]["w > 0"] == "3,600"
    assert [cell["KS"] for cell in cells] == [f"{a.best_law.ks:.4f}" for a in found.layers]
    assert "--layout=" in report.table(found) and "--layout=" in report.html_page(found)
    (said,) = (text for text in report.verdict(found) if text.startswith("Zeros"))
    assert f"more than 1%: {100 * (pruned == 0).mean():.3g} %" in said


@pytest.mark.slow
def test_a_law_that_is_best_and_not_good_is_no_headline():
    rng = np.random.default_rng(0)
    uniform = rng.uniform(0.002, 0.012, (8, 1024))
    small = 0.01 * 50 ** rng.random((5, 6))
    for values in (uniform, small):
        found = analyzed({"a/kernel": values})
        assert "a power law? No." in report.verdict(found)[0]


@pytest.mark.slow
def test_words_say_how_weights_are_discrete():
    """Quantized layers, limits of families, and what failed, in table and answer."""
    rng = np.random.default_rng(0)
    normal = rng.normal(0, 0.02, (60, 60))
    found = analyzed(
        {
            "rounded/kernel": np.round(normal, 2),
            "half/kernel": normal.astype(np.float16),
            "few/kernel": np.repeat(rng.normal(size=30), 100).reshape(30, 100),
            "box/kernel": rng.uniform(-1, 1, (60, 60)),
        }
    )
    box = found.layers[3]
    at_limit = dataclasses.replace(box, best="generalized_normal")
    failed = {name: law for name, law in box.laws.items() if name != "truncated_power_law"}
    failed = {name: dataclasses.replace(law, nats_over_normal=None) for name, law in failed.items()}
    found = dataclasses.replace(
        found, layers=(*found.layers[:3], at_limit, dataclasses.replace(box, laws=failed))
    )
    assert at_limit.best_law.limit == "uniform"
    text = report.table(found)
    assert "step 0.01 " in text and "float16" in text and "30 sizes" in text and "nan" not in text
    assert "at its limit uniform" in text
    (said,) = (text for text in report.verdict(found) if text.startswith("Discrete"))
    assert "multiples of a step in 1 layer (rounded/kernel)" in said
    assert "few sizes in 1 layer (few/kernel)" in said


@pytest.mark.slow
def test_gaussian_tails_stand_beside_the_compatible_ones():
    rng = np.random.default_rng(0)
    found = analyzed({f"{i}/kernel": rng.standard_t(3, (30, 30)) for i in range(2)}, bootstraps=9)
    (said,) = (text for text in report.verdict(found) if text.startswith("Far tails"))
    gaussian = sum(layer.tail.gaussian_p > 0.1 for layer in found.layers)
    assert f"which have no power law, {gaussian} of 2 are" in said


@pytest.mark.slow
def test_a_picture_that_fails_does_not_cost_the_page(monkeypatch):
    def fails(found):
        raise ZeroDivisionError("<0>")

    monkeypatch.setattr(report, "_PICTURES", (("One", fails, ""), ("Two", lambda _: None, "")))
    page = report.html_page(analyzed({"a/kernel": np.random.default_rng(0).normal(size=(9, 9))}))
    assert "Not drawn: ZeroDivisionError(&#x27;&lt;0&gt;&#x27;)" in page and "<h2>Layers" in page


@pytest.mark.slow
def test_sizes_that_reach_zero_are_drawn():
    """Half of the least distance between sizes reached to 0, where power laws have a pole."""
    rng = np.random.default_rng(27)
    count = int(rng.integers(20, 60))
    sizes = rng.normal(0, 0.02, count)
    found = analyzed({"w": np.repeat(sizes, int(rng.integers(10, 100))).reshape(count, -1)})
    assert all(law.support[0] > 0 for law in found.layers[0].laws.values() if "alpha" in
               law.parameters)  # fmt: skip
    assert pictures.plot_ccdfs(found).axes and not found.layers[0].failed


@pytest.mark.slow
def test_sides_of_a_distribution():
    rng = np.random.default_rng(0)
    values = np.where(rng.random((200, 200)) < 0.3, -rng.exponential(2, (200, 200)),
                      rng.exponential(1, (200, 200)))  # fmt: skip
    values[:, :100] = 0
    (layer,) = analyzed({"a/kernel": values}).layers
    above, below = pictures.side_ccdfs(layer, np.array([0.5, 2.0]))
    np.testing.assert_allclose(above, 0.7 * np.exp([-0.5, -2]), atol=0.01)
    np.testing.assert_allclose(below, 0.3 * np.exp([-0.25, -1]), atol=0.01)
    sizes = np.array([0.5, 2.0])
    np.testing.assert_allclose(pictures.magnitude_ccdf(layer, sizes), above + below)


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 60, 900])
def test_pictures_have_whole_titles_names_and_all_exponents(number):
    """Of a network of so many layers, one of which has an exponent of 40."""
    found = analyzed({"a/b/kernel": np.random.default_rng(0).standard_t(4, (30, 30))}, bootstraps=1)
    layer = found.layers[0]
    layers = [
        dataclasses.replace(layer, path=f"net/stage_{i // 100}/$block_{i}$/kernel")
        for i in range(number)
    ]
    layers[1] = dataclasses.replace(layers[1], tail=dataclasses.replace(layer.tail, alpha=40.0))
    found = dataclasses.replace(found, layers=tuple(layers))
    for draw in (pictures.plot_aic, pictures.plot_exponents, pictures.plot_kurtosis):
        figure = draw(found)
        figure.draw_without_rendering()
        width, height = figure.bbox.width, figure.bbox.height
        for axis in filter(lambda axis: axis.get_title(), figure.axes):
            box = axis.title.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= width and box.y1 <= height
        for axis in figure.axes[: 2 if draw is pictures.plot_exponents else 1]:
            ticks = axis.get_xticks()
            assert (ticks == np.round(ticks)).all() and len(ticks) <= 45
            texts = [label.get_text() for label in axis.get_xticklabels()]
            assert texts[0].endswith("$block_0$") and texts[-1].endswith(f"$block_{number - 1}$")
            assert not any(label.get_parse_math() for label in axis.get_xticklabels())
            assert all(label.get_window_extent().y0 >= 0 for label in axis.get_xticklabels())
    low, high = pictures.plot_exponents(found).axes[0].get_ylim()
    assert low <= layer.tail.alpha and high > 40


@pytest.mark.slow
def test_words_say_what_was_found():
    rng = np.random.default_rng(0)
    arrays = {f"{i}/kernel": rng.standard_normal((50, 60)) for i in range(5)}
    tensors = tuple(
        weights.Tensor(name, value.shape, "float64", "flax", lambda value=value: value)
        for name, value in arrays.items()
    )
    checkpoint = weights.Checkpoint("normal", "npz", tensors)
    sentences = report.verdict(analyze_checkpoint(checkpoint, bootstraps=0))
    assert "a power law? No. Of 5 layers (15,000 weights)" in sentences[0]
    assert not any("Far tails" in sentence for sentence in sentences)


@pytest.mark.slow
def test_pictures(found):
    for draw in (
        pictures.plot_ccdfs, pictures.plot_exponents, pictures.plot_cutoffs, pictures.plot_radial,
        pictures.plot_aic, pictures.plot_kurtosis,
    ):  # fmt: skip
        assert draw(found).axes
    assert pictures.plot_radial(dataclasses.replace(found, layers=found.layers[1:])) is None
    second = layer(found, "second")
    sizes = np.array([0.05, 0.2])
    exact = 2 * scipy.stats.t(4).sf(sizes / 0.05)
    error = 4 * math.sqrt(0.25 / second.size)
    np.testing.assert_allclose(pictures.magnitude_ccdf(second, sizes), exact, atol=error)
    np.testing.assert_allclose(pictures.law_ccdf(second, "student_t", sizes), exact, atol=error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "kind"), [("best", StudentT), ("nspl", SymmetricPowerLaw), ("empirical", Empirical)]
)
def test_a_fit_is_an_initializer(folder, law, kind):
    init = initjax.from_fit(folder / "fit.json", "second.*", law=law, scale=1.5)
    assert isinstance(init.distribution, kind)
    drawn = np.asarray(init(jax.random.key(0), (300, 400)))
    assert drawn.var() == pytest.approx(1.5 / 300, rel=1e-5)
    if law == "empirical":
        original = network()["second/kernel"].ravel()
        scaled = drawn.ravel() * original.std() / drawn.std()
        assert scipy.stats.ks_2samp(scaled, original).pvalue > 1e-4


def test_fitted_scale(folder):
    init = initjax.from_fit(folder, "third", scale="fitted", law="laplace")
    # Laplace weights of scale .1 with a fan of 128.
    assert init.scale == pytest.approx(128 * 2 * 0.01, rel=0.1)


@pytest.mark.slow
def test_one_sided_weights_keep_their_mean(tmp_path):
    """N(1, .1): law="empirical", scale="fitted" drew a mean of 10.03."""
    weights_ = np.random.default_rng(0).normal(1, 0.1, (100, 200)).astype(np.float32)
    np.savez(tmp_path / "w.npz", kernel=weights_)
    main([str(tmp_path / "w.npz"), f"--out={tmp_path}", "--bootstraps=0"])
    init = initjax.from_fit(tmp_path, "kernel", law="empirical", scale="fitted")
    drawn = np.asarray(init(jax.random.key(0), (100, 200)))
    assert drawn.mean() == pytest.approx(1, rel=0.02)
    assert drawn.std() == pytest.approx(0.1, rel=0.02)
    with pytest.warns(UserWarning, match="0 weights below 0 and 20000 above"):
        init = initjax.from_fit(tmp_path, "kernel", law="normal", scale="fitted")
    drawn = np.asarray(init(jax.random.key(0), (100, 200)), np.float64)
    assert np.square(drawn).mean() == pytest.approx(1.01, rel=0.01)


@pytest.mark.slow
def test_zeros_are_drawn_back_when_asked(tmp_path):
    rng = np.random.default_rng(0)
    kernel = (rng.laplace(size=(100, 200)) * (rng.random((100, 200)) < 0.1)).astype(np.float32)
    np.savez(tmp_path / "w.npz", kernel=kernel)
    main([str(tmp_path / "w.npz"), f"--out={tmp_path}", "--bootstraps=0"])
    for asked, share in ((False, 0), (True, 0.9)):
        init = initjax.from_fit(tmp_path, "kernel", law="laplace", scale="fitted", zeros=asked)
        drawn = np.asarray(init(jax.random.key(0), (100, 200)))
        assert (drawn == 0).mean() == pytest.approx(share, abs=0.01)
        assert drawn.std() == pytest.approx(kernel.std(), rel=0.01)


@pytest.mark.slow
def test_every_law_draws(folder, found):
    """Of finite variance; the others say so."""
    for name in LAWS:
        try:
            init = initjax.from_fit(folder, "third", law=name)
        except UserError as error:
            assert "no finite variance" in str(error)
            continue
        drawn = np.asarray(init(jax.random.key(1), (200, 300)))
        assert np.isfinite(drawn).all()


@pytest.mark.slow
def test_rules_apply_a_fit_to_another_network(folder):
    shapes = {
        f"Conv_{i}": {"kernel": jax.ShapeDtypeStruct((3, 3, 8, 8), jnp.float32)} for i in range(2)
    } | {f"Dense_{i}": {"kernel": jnp.zeros((8, 8)), "bias": jnp.ones(8)} for i in range(3)}
    rules = initjax.rules_from_fit(folder, shapes)
    laws = {rule.pattern: rule.init.distribution for rule in rules}
    assert laws["^Dense_0/kernel$"] == initjax.from_fit(folder, "second").distribution
    assert laws["^Dense_2/kernel$"] == initjax.from_fit(folder, "head").distribution
    assert laws["^Conv_1/kernel$"] == initjax.from_fit(folder, "first").distribution
    params = initjax.reinitialize(shapes, rules, jax.random.key(0))
    assert float(params["Dense_1"]["kernel"].std()) > 0
    assert (params["Dense_1"]["bias"] == 1).all()
    with pytest.raises(UserError, match="matches no leaf"):
        initjax.rules_from_fit(folder, shapes, pattern="nothing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "nowhere"}, "has no layer 'nowhere'"),
        ({"layer": "("}, "not a regular expression"),
        ({"layer": "second", "law": "cauchy"}, "law='cauchy' was not fitted"),
        ({"layer": "second", "scale": -1}, "scale=-1.0 must be positive"),
    ],
)
def test_from_fit_errors(folder, arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        initjax.from_fit(folder, **arguments)


def test_bad_files(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        initjax.from_fit(tmp_path / "fit.json", "a")
    (tmp_path / "fit.json").write_text("{}")
    with pytest.raises(UserError, match="is not a fit file"):
        initjax.from_fit(tmp_path, "a")
    (tmp_path / "fit.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(UserError, match="has version 99"):
        initjax.from_fit(tmp_path, "a")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["missing.npz"], "missing.npz"),
        (["weights.npz", "--layers=nowhere"], "nothing that matches --layers='nowhere'"),
        (["weights.npz", "--layers=("], "not a regular expression"),
        (["weights.npz", "--layers=broken"], "no layer can be fitted"),
        (["weights.npz", "--bootstraps=-1"], "bootstraps=-1"),
        (["garbage.npz"], "garbage.npz"),
        (["bert-base-uncased"], "named with its owner: OWNER/bert-base-uncased"),
        (["weights.npz", "--out=/dev/null/x"], "--out=/dev/null/x cannot be made"),
    ],
)
def test_command_errors(folder, flags, message, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "garbage.npz").write_bytes(b"PK\x03\x04garbage")
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert str(stopped.value).startswith("error: ") and message in str(stopped.value)
    assert str(stopped.value).count("\n") <= 2


def test_says_why_there_are_no_kernels(tmp_path):
    words = {f"words{i}": np.array(["a", "b"]) for i in range(5)}
    np.savez(tmp_path / "w.npz", **words)
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "w.npz")])
    message = str(stopped.value)
    assert "It holds: no tensors." in message and message.count("\n") == 1
    reason = "its dtype <U1 is not one of numbers"
    shown = "; ".join(f"words{i}: {reason}" for i in range(3))
    assert message.endswith(f"\nNot read: {shown}; ...")


@pytest.mark.slow
@pytest.mark.parametrize("name", [r"$\bad$/kernel", "$x^{$/kernel", "\x1b[2J\n$/kernel"])
def test_names_mean_nothing_to_pictures_and_terminals(tmp_path, capsys, name):
    """Neither mathtext, nor an escape sequence, nor a line of its own."""
    np.savez(tmp_path / "w.npz", **{name: np.random.default_rng(0).normal(size=(2, 2, 20, 30))})
    main([str(tmp_path / "w.npz"), f"--out={tmp_path}", "--bootstraps=0"])
    assert (tmp_path / "report.html").read_text().count("data:image/png") == 6
    out = capsys.readouterr().out
    assert "\x1b" not in out and name.encode("unicode_escape").decode()[-12:] in out.replace(
        "\\\\", "\\"
    )
    titles = pictures.plot_ccdfs(load(tmp_path)).axes
    assert not any(axis.title.get_parse_math() for axis in titles)


@pytest.mark.slow
def test_layers_chosen_by_the_user(folder, capsys):
    main([str(folder.parent / "weights.npz"), "--layers=third|head", "--bootstraps=0"])
    out = capsys.readouterr().out
    assert "third/kernel" in out and "second/kernel" not in out
    assert "skipped head/bias: 0 weights that are not 0" in out


@pytest.mark.slow
def test_command_as_a_user_runs_it(folder):
    """In a process of its own: a table, an answer; Ctrl-C stops it without a traceback."""
    command = [sys.executable, "-m", "initjax.fit", str(folder.parent / "weights.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert "student_t" in done.stdout and "a power law?" in done.stdout
    assert done.stderr == ""
    with subprocess.Popen(
        [*command, "--bootstraps=1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert "npz, 7 tensors" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130 and err == "Stopped.\n"


@pytest.mark.parametrize(("size", "slope", "error"), [(150, -0.26, 0.075), (5_000_000, -2.96, 0.1)])
def test_slopes_that_gaussian_samples_have(size, slope, error):
    """-.26 at n = 300 and -2.96 at n = 1e7, one side of each; error: the sd of one sample."""
    assert abs(gaussian_slopes(size, 40).mean() - slope) < 2 * error


def test_slope_of_a_sample_is_that_of_its_control():
    counted = histogram(np.random.default_rng(1).standard_normal(100_000))
    found = controls.slope(counted)
    assert abs(found.measured - found.gaussian_mean) < 4 * found.gaussian_sd


def test_jarque_bera():
    values = np.random.default_rng(2).standard_t(8, 5_000)
    expected = scipy.stats.jarque_bera(values)
    found = describe(histogram(values)).jarque_bera
    assert found.statistic == pytest.approx(expected.statistic, rel=5e-3)


def test_exponents_against_cutoffs():
    rng = np.random.default_rng(3)
    for row in cutoff_exponents(histogram(1 + rng.pareto(1.5, 200_000))):
        assert abs(row.alpha - 2.5) < 4 * row.standard_error
    for row in cutoff_exponents(histogram(rng.standard_normal(200_000))):
        if row.quantile >= 0.25:
            assert row.alpha == pytest.approx(row.gaussian_alpha, abs=5 * row.standard_error + 0.01)


def test_torch_kernels_are_turned():
    kernel = np.random.default_rng(4).standard_normal((8, 4, 3, 3))
    kernel[0] *= 10
    found = scales(weights.as_kernel(kernel, "oihw"))
    assert np.shape(found.position_scale) == (3, 3)
    assert found.channel_spread > 0.5
    assert found.kurtosis > 8 > 4 > found.kurtosis_without_channel
