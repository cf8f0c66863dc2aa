"""Findings, their json, and what a damaged fit file may cause: an error of one or two lines."""

import collections
import dataclasses
import functools
import json
import math
import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import initjax
from initjax import weights
from initjax.distributions.laws import LAWS
from initjax.fit import findings, likelihood, tails
from initjax.fit.checkpoint import analyze_checkpoint
from initjax.fit.file import load, save
from initjax.fit.findings import Analysis, Findings, from_json, to_json
from initjax.support.errors import UserError
from initjax.support.files import strict_json

CLASSES = [
    value
    for value in [*vars(findings).values(), tails.Tail, likelihood.Goodness]
    if dataclasses.is_dataclass(value) and vars(value).get("__annotations__")
    if value.__module__.startswith("initjax.fit")
]
SHAPES = {
    "Conv_0": {"kernel": jax.ShapeDtypeStruct((3, 3, 8, 8), jnp.float32)},
    "Dense_0": {"kernel": jax.ShapeDtypeStruct((8, 4), jnp.float32)},
}


@functools.cache
def found() -> Findings:
    rng = np.random.default_rng(0)
    arrays = {
        "conv/kernel": rng.standard_t(4, (2, 2, 10, 20)),
        "dense/kernel": rng.laplace(size=(30, 20)),
        "few/kernel": rng.choice([-0.3, 0.1, 0.2, 0.5], (10, 10)),
        "bias": rng.normal(size=40),
        "ones/kernel": np.ones((5, 5)),
    }
    tensors = tuple(
        weights.Tensor(name, value.shape, "float64", "flax", lambda value=value: value)
        for name, value in arrays.items()
    )
    checkpoint = weights.Checkpoint("w", "npz", tensors, (("step", "it is int"),))
    return analyze_checkpoint(checkpoint, ".", bootstraps=3)


@functools.cache
def text() -> str:
    return strict_json(to_json(found()))


@pytest.mark.slow
def test_json_is_read_back_as_it_was():
    """To the last bit, and what is left out stays so."""
    again = from_json(json.loads(text()))
    assert strict_json(to_json(again)) == text()
    conv, _, few, bias = again.layers
    assert few.tail is None and conv.tail.bootstraps == 3
    assert bias.fan_in is bias.scales is bias.positions is None
    assert conv.scales.position_scale.shape == (2, 2) and len(conv.positions) == 4
    held = json.loads(text())
    assert "tail" not in held["layers"][2] and "scales" not in held["pool"]


@pytest.mark.slow
def test_numbers_that_do_not_exist():
    laws = {law: fit for layer in found().layers for law, fit in layer.laws.items()}
    assert any(math.isnan(e) for fit in laws.values() for e in fit.standard_errors.values())
    again = from_json(json.loads(text()))
    pairs = zip(found().layers, again.layers, strict=True)
    for before, after in pairs:
        for law, fit in before.laws.items():
            np.testing.assert_equal(after.laws[law].standard_errors, fit.standard_errors)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_documentation_names_the_fields(kind):
    """Exactly, and in their order."""
    _, _, attributes = kind.__doc__.partition("Attributes:\n")
    assert re.findall(r"^ {6}(\w+): ", attributes, re.MULTILINE) == list(kind.__annotations__)


def test_every_class_of_the_schema_is_documented():
    assert len(CLASSES) == 20 and {Findings, Analysis, tails.Tail} < set(CLASSES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["layers"][1]["laws"]["normal"].pop("ks"), "layers[1].laws.normal has no 'ks'"),
        (lambda f: f["pool"].pop("sd"), "pool has no 'sd'"),
        (lambda f: f.pop("skipped"), "it has no 'skipped'"),
        (lambda f: f["layers"][0].update(sb=1), "layers[0] has 'sb', which is no name"),
        (lambda f: f["layers"][0].update(sd="1"), "layers[0].sd is '1'"),
        (lambda f: f["layers"][0].update(size=1.5), "layers[0].size is 1.5"),
        (lambda f: f["layers"][0].update(shape=[1, -2]), "layers[0].shape[1] is -2"),
        (lambda f: f["layers"][0].update(layout="keras"), "layers[0].layout is 'keras'"),
        (lambda f: f["layers"][0].update(best="cauchy"), "layers[0]: 'cauchy' is no law"),
        (lambda f: f["pool"]["laws"].update(x=f["pool"]["laws"]["normal"]), "pool: 'x' is no law"),
        (lambda f: f["pool"]["laws"].pop(f["pool"]["best"]), "is not among those fitted"),
        (lambda f: f["layers"][0]["positions"][2].update(position=3), "positions[2].position is 3"),
        (lambda f: f["layers"][0]["scales"].update(position_scale=[[1], 2]), "position_scale is"),
        (lambda f: f.update(layers={}), "layers is {}"),
    ],
)  # fmt: skip
def test_errors_say_where(tmp_path, change, message):
    held = json.loads(text())
    change(held)
    (tmp_path / "fit.json").write_text(json.dumps(held))
    with pytest.raises(UserError) as raised:
        load(tmp_path)
    assert "is not a fit file of" in str(raised.value) and message in str(raised.value)


# Mutations


def places(value, path=()):
    """Paths of everything that json holds, but for all but four of long lists."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for i in sorted({0, 1, len(value) // 2, len(value) - 1} & set(range(len(value)))):
            yield from places(value[i], (*path, i))


BIG = "9" * 400
# As text: json.dumps would not write all of them.
VALUES = [
    "null", "true", "-1", "0", "1", "1e300", "1e-300", "-1e-300", "1e400", "NaN", "Infinity", BIG,
    "0." + BIG, "9" * 5000, '"x"', r'"\u001b[2J\n"', r'"\ud800"', "[]", "{}", "[1, 2]", "[[1], 2]",
    '{"alpha": 1}', "[" * 100_000, "[" * 100_000 + "]" * 100_000,
]  # fmt: skip
FITS = [
    {"layer": "conv"}, {"layer": "dense", "law": "nspl", "scale": "fitted"},
    {"layer": "dense", "law": "empirical", "scale": "fitted"}, {"layer": "pool", "zeros": True},
]  # fmt: skip


def replaced(held: str, path, value: str) -> str:
    """json in which what stands at `path` is `value`, or is not there for ""."""
    held = json.loads(held)
    at = held
    for key in path[:-1]:
        at = at[key]
    if not path:
        return value
    if value:
        at[path[-1]] = "@@@"
    else:
        del at[path[-1]]
    return json.dumps(held).replace('"@@@"', value)


def check(file, counts, laws=LAWS) -> None:
    """Weights that are finite, or an error of one or two lines."""
    fits = [*FITS, *({"layer": "conv", "law": law} for law in laws)]
    calls = [lambda kw=kw: [initjax.from_fit(file, **kw)] for kw in fits]
    calls += [
        lambda kw=kw: [rule.init for rule in initjax.rules_from_fit(file, SHAPES, **kw)]
        for kw in ({}, {"law": "empirical"}, {"scale": "fitted"})
    ]
    for call in calls:
        try:
            inits = call()
        except UserError as error:
            message = str(error)
            assert message and message.count("\n") <= 1 and len(message) < 4000
            assert "\x1b" not in message
            counts["refused"] += 1
            continue
        for init in inits:
            counts["made"] += 1
            # Most mutations leave most laws alone.
            if init not in DRAWN:
                drawn = np.asarray(init(jax.random.key(0), (8, 4)))
                assert np.isfinite(drawn).all(), init
                DRAWN.add(init)


DRAWN = set()


@pytest.mark.slow
def test_mutations(tmp_path):
    """200 of a real file: of every kind, with every value, and cut anywhere."""
    counts, files = collections.Counter(), 0
    everywhere = list(places(json.loads(text())))
    used = [  # what weights are made from
        path for path in everywhere
        if path[:2] in (("layers", 0), ("layers", 1)) and {"sd", "mean", "fan_in", "shape", "path",
            "layout", "quantiles", "best", "parameters", "support"} & set(path)
    ]  # fmt: skip

    @hypothesis.settings(
        max_examples=200,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(
        st.one_of(
            st.tuples(st.sampled_from(everywhere), st.sampled_from(["", *VALUES])),
            st.tuples(st.sampled_from(used), st.sampled_from(["", *VALUES])),
            st.tuples(st.just(None), st.integers(0, len(text()) - 1)),
        )
    )
    def run(mutation):
        nonlocal files
        path, value = mutation
        changed = text()[:value] if path is None else replaced(text(), path, value)
        file = tmp_path / f"{files}.json"
        files += 1
        file.write_text(changed)
        check(file, counts, set(LAWS) & set(path or ()))

    run()
    assert files >= 200 and counts["made"] > 150 < counts["refused"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "change"),
    [
        ("empirical", lambda f: f.update(quantiles=[q * 1e30 for q in f["quantiles"]])),
        ("empirical", lambda f: f.update(quantiles=[q * 1e-30 for q in f["quantiles"]])),
        ("empirical", lambda f: f.update(quantiles=[q * 1e160 for q in f["quantiles"]])),
        ("generalized_normal",
         lambda f: f["laws"]["generalized_normal"]["parameters"].update(power=0.02)),
        ("log_normal", lambda f: f["laws"]["log_normal"]["parameters"].update(sigma=15)),
        ("nspl", lambda f: f["laws"]["truncated_power_law"].update(
            support=[1e-300, 1], parameters={"alpha": 1.0})),
        ("nspl", lambda f: f["laws"]["truncated_power_law"]["parameters"].update(alpha=1e300)),
        ("nspl", lambda f: f["laws"]["truncated_power_law"]["parameters"].clear()),
        ("nspl", lambda f: f["laws"]["truncated_power_law"].update(support=[0, 1])),
    ],
)  # fmt: skip
def test_laws_beyond_float32_are_refused(tmp_path, law, change):
    held = json.loads(text())
    change(held["layers"][0])
    (tmp_path / "fit.json").write_text(json.dumps(held))
    with pytest.raises(UserError, match=r"conv/kernel (has no|cannot)"):
        initjax.from_fit(tmp_path, "conv", law=law)


@pytest.mark.parametrize("sd", [1e300, 1e30, 1e-30, None])
def test_scales_beyond_float32_are_refused(tmp_path, sd):
    held = json.loads(text())
    held["layers"][0] |= {"sd": sd, "mean": 0}
    (tmp_path / "fit.json").write_text(json.dumps(held))
    with pytest.raises(UserError, match="give scale as a number"):
        initjax.from_fit(tmp_path, "conv", scale="fitted")


@pytest.mark.slow
def test_the_file_itself_draws(tmp_path):
    """So that mutations are not refused for what was there before."""
    save(found(), tmp_path / "fit.json")
    counts = collections.Counter()
    check(tmp_path / "fit.json", counts)
    assert counts["made"] > 15 and counts["refused"] <= 3  # laws without a variance


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"null", b'{"version": 1}', b"1e9"])
def test_no_fit_files(tmp_path, content):
    (tmp_path / "fit.json").write_bytes(content)
    with pytest.raises(UserError, match="is not a fit file"):
        load(tmp_path)
