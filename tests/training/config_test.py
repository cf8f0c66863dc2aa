import copy
import dataclasses
import hashlib
import json
import pickle
import shlex

import pytest
from absl import flags

import initjax
from initjax.comparison import grid, launcher
from initjax.support import command
from initjax.support.errors import UserError
from initjax.support.naming import Call, parse as parse_name
from initjax.training import Config, config as configs


@pytest.fixture(scope="module")
def parse(launcher_flags):
    """The Config of a command line, by the launcher's own flags."""

    def parse(command):
        for name in (*(field.name for field in dataclasses.fields(Config)), "config", "seeds"):
            flags.FLAGS[name].unparse()
        flags.FLAGS(shlex.split(command))
        return launcher.config_from_flags()

    return parse


def test_every_field_is_a_flag_with_the_same_default(parse):
    assert parse("launch.py") == Config()
    for field in dataclasses.fields(Config):
        assert field.metadata["help"] in flags.FLAGS[field.name].help


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"init": "nspl(alpha=1.5, ratio=30)", "model": "mlp(depth=3, width=16)", "epochs": 1.5},
        {"steps": 7, "nesterov": False, "download": True, "boundaries": (0.25, 0.5, 0.875)},
        {"boundaries": (), "dense_init": "zeros", "bias_init": "normal(stddev=0.5)"},
        {"learning_rate": 1e-7, "weight_decay": 0.0, "workdir": "a folder/it's", "seed": 2**32 - 1},
        {"init_from": "depth_warm_start('runs/a b', layers='Conv_[0-3]$|Dense')"},
        {"record_statistics": True, "loss": "squared_error"},
        {"loss": "squared_error", "learning_rate_rules": "Conv_0=0.5,Dense_[0-9]{1,2}=0.1"},
        {"preset": "resnet_cifar"},
        {"preset": "resnet_cifar", "epochs": 20.0, "nesterov": True},
        {"preset": "resnet_cifar", "epochs": 30.0},
        {"preset": "resnet_cifar", "epochs": 3.0, "dataset": "digits", "schedule": "cosine"},
        {"preset": "resnet_cifar", "steps": 5, "momentum": 0.5, "augment": "crop"},
        {"preset": "resnet50_imagenet", "batch_size": 1024},
        {"preset": "resnet50_imagenet", "batch_size": 1024, "learning_rate": 0.1},
        {"preset": "resnet50_imagenet", "learning_rate": 0.4, "stream": False},
        {"stream": True, "warmup_epochs": 2.5, "decayed": "kernels"},
    ],
)
def test_command_repeats_the_run(parse, settings):
    config = Config.create(**settings)
    assert shlex.split(config.command())[:2] == ["initjax", "train"]
    assert parse(config.command().removeprefix("initjax ")) == config
    # Not by the defaults alone.
    for name, value in settings.items():
        assert getattr(config, name) == value


def test_json_round_trip():
    config = Config.create(model="mlp", steps=3, boundaries=(0.25,), init="nspl(alpha=2)")
    assert Config(**json.loads(config.to_json())) == config
    assert config.same_run(json.loads(config.to_json())) == []


def test_same_run_tells_settings_from_places():
    config = Config(model="mlp")
    moved = dataclasses.replace(config, workdir="elsewhere", data_dir="there", download=True)
    assert moved.same_run(json.loads(config.to_json())) == []
    other = dataclasses.replace(config, seed=1, init="zeros")
    assert other.same_run(json.loads(config.to_json())) == ["init", "seed"]
    assert config.same_run({}) != []


def test_what_came_later_is_the_default_where_a_saved_configuration_lacks_it():
    config, other = Config(model="mlp"), Config(model="mlp", loss="squared_error")
    saved = json.loads(config.to_json())
    assert "loss" not in saved and Config(**saved) == config
    assert config.same_run(saved) == [] and other.same_run(saved) == ["loss"]
    assert json.loads(other.to_json())["loss"] == "squared_error"
    assert config.run_name() != other.run_name()


def test_preset_is_the_recipe_of_he_et_al():
    config = Config.create(preset="resnet_cifar")
    expected = {
        "dataset": "cifar10",
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 1e-4,
        "batch_size": 128,
        "steps": 64_000,
        "schedule": "step",
        "boundaries": (0.5, 0.75),
        "warmup_steps": 0,
        "augment": "crop_flip",
        "label_smoothing": 0.0,
    }
    assert {name: getattr(config, name) for name in expected} == expected


def test_preset_of_imagenet():
    """Goyal et al. 2017, with the cosine and the label smoothing of He et al. 2019."""
    config = Config.create(preset="resnet50_imagenet")
    expected = {
        "model": "resnet50(zero_init_residual=True)",
        "dataset": "imagenet2012",
        "stream": True,
        "image_size": 224,
        "augment": "random_resized_crop",
        "epochs": 90,
        "batch_size": 256,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "schedule": "cosine",
        "warmup_epochs": 5,
        "weight_decay": 1e-4,
        "decayed": "kernels",
        "label_smoothing": 0.1,
    }
    assert {name: getattr(config, name) for name in expected} == expected
    # Rates are linear in the batch size, unless they are given.
    more = Config.create(preset="resnet50_imagenet", batch_size=8192)
    assert more.learning_rate == 3.2
    given = Config.create(preset="resnet50_imagenet", batch_size=8192, learning_rate=0.1)
    assert given.learning_rate == 0.1


def test_streaming_tells_no_runs_apart():
    config, streamed = Config(), Config(stream=True)
    assert streamed.run_name() == config.run_name() and streamed.settings() == config.settings()
    assert not config.same_run(json.loads(streamed.to_json()))


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 64), ("learning_rate", 0.2), ("nesterov", True), ("dataset", "digits")],
)
def test_any_field_overrides_the_preset(name, value):
    preset = Config.create(preset="resnet_cifar")
    config = Config.create(preset="resnet_cifar", **{name: value})
    assert getattr(preset, name) != value
    assert config == dataclasses.replace(preset, **{name: value})


def test_epochs_override_the_steps_of_a_preset():
    config = Config.create(preset="resnet_cifar", epochs=2.0)
    assert (config.epochs, config.steps) == (2.0, 0)


def test_epochs_and_steps_together_are_an_error():
    with pytest.raises(UserError, match="--epochs and --steps"):
        Config.create(epochs=2.0, steps=5)


def test_boundaries_are_parsed(parse):
    assert parse("launch.py --boundaries=0.25,0.5").boundaries == (0.25, 0.5)
    assert parse("launch.py --boundaries=").boundaries == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "foo"}, "--loss='foo' is not one of softmax_cross_entropy, sigmoid_cross"),
        ({"optimizer": "foo"}, "--optimizer='foo' is not one of sgd, adam, adamw"),
        ({"schedule": "foo"}, "constant, step, cosine"),
        ({"precision": "float16"}, "float32, bfloat16"),
        ({"augment": "foo"}, "auto, none, crop, crop_flip"),
        ({"preset": "foo"}, "resnet_cifar"),
        ({"init": "foo"}, "--init: .*he_normal"),
        ({"init": ""}, "--init: "),
        ({"dense_init": "foo"}, "--dense_init: .*he_normal"),
        ({"bias_init": "constant(value=[])"}, "--bias_init|value"),
        ({"model": "foo"}, "--model: .*resnet32"),
        ({"model": "mlp(depth=2.5)"}, "--model: depth=2.5"),
        ({"activation": "foo"}, "--activation: .*relu"),
        ({"epochs": 0.0}, "--epochs=0.0"),
        ({"epochs": float("nan")}, "--epochs=nan"),
        ({"epochs": float("inf")}, "--epochs=inf"),
        ({"steps": -1}, "--steps=-1"),
        ({"steps": 0}, "--steps=0 must be 1 or more"),
        ({"steps": 0, "preset": "resnet_cifar"}, "--steps=0 must be 1 or more"),
        ({"warmup_epochs": 31.0}, "--warmup_epochs=31.0 must be 0 to --epochs"),
        ({"steps": 0, "epochs": 2.0}, "--steps=0 must be 1 or more"),
        ({"steps": 2**31}, "--steps="),
        ({"batch_size": 0}, "--batch_size=0"),
        ({"image_size": -1}, "--image_size=-1"),
        ({"image_size": 32000}, "--image_size=32000 must be 0 to 2048 pixels"),
        ({"learning_rate": 0.0}, "--learning_rate=0.0"),
        ({"learning_rate": float("inf")}, "--learning_rate=inf"),
        ({"momentum": 1.0}, "--momentum=1.0"),
        ({"learning_rate_rules": "Conv_0"}, "--learning_rate_rules: 'Conv_0' is not of the form"),
        ({"learning_rate_rules": "a=1,"}, "--learning_rate_rules: '' is not of the form"),
        ({"learning_rate_rules": "a=x"}, "--learning_rate_rules: a='x' is not a number"),
        ({"learning_rate_rules": "a=-1"}, "--learning_rate_rules: a=-1.0 must not be negative"),
        ({"learning_rate_rules": "(=1"}, r"--learning_rate_rules: pattern='\(' is not a regular"),
        ({"weight_decay": -1e-4}, "--weight_decay=-0.0001"),
        ({"weight_decay": float("inf")}, "--weight_decay=inf"),
        ({"weight_decay": float("nan")}, "--weight_decay=nan"),
        ({"warmup_steps": -1}, "--warmup_steps=-1"),
        ({"label_smoothing": 1.0}, "--label_smoothing=1.0"),
        ({"eval_every": 0.0}, "--eval_every=0.0"),
        ({"eval_every": float("inf")}, "--eval_every=inf"),
        ({"seed": -1}, "--seed=-1"),
        ({"boundaries": ("x",)}, "--boundaries=x"),
        ({"boundaries": (0.5, 0.25)}, "rising"),
        ({"boundaries": (1.5,)}, "between 0 and 1"),
    ],
)
def test_bad_values_are_told_by_flag(settings, message):
    with pytest.raises(UserError, match=message) as error:
        Config.create(**settings)
    assert len(str(error.value).splitlines()) <= 2


def test_run_name_tells_settings_apart():
    configs = [
        Config(model="mlp"),
        Config(model="mlp", seed=1),
        Config(model="mlp", learning_rate=0.2),
        Config(model="mlp", init="nspl(alpha=2)"),
        Config(model="mlp", init_from="runs/a"),
        Config(model="mlp(width=10)"),
    ]
    names = [config.run_name() for config in configs]
    assert len(set(names)) == len(names)
    assert names[0].startswith("digits-mlp-nspl-")
    assert Config(model="mlp", workdir="w", data_dir="d").run_name() == names[0]
    long = Config(init="nspl(" + " " * 500 + "alpha=2)", dataset="imagenette/160px-v2").run_name()
    assert len(long) < 200
    assert "/" not in long


def test_a_text_is_read_once(monkeypatch):
    """By the first Config that has it; what it names is a value from then on."""
    config = Config(
        init="nspl(alpha=2)", bias_init="normal", model="mlp(width=8)", refine="lsuv(tolerance=0.2)"
    )
    assert config.init.value == initjax.nspl(alpha=2)
    assert config.bias_init.value == initjax.normal()
    assert config.dense_init.value is None and config.dense_init == ""
    assert config.model.value == Call("mlp", (), (("width", 8),))
    assert config.refine.value == parse_name("lsuv(tolerance=0.2)")

    def fail(*args):
        raise AssertionError("read again")

    for name in configs._NAMED:
        monkeypatch.setitem(configs._NAMED, name, (fail, True))
    again = dataclasses.replace(config, seed=1)
    assert again.init.value is config.init.value
    with pytest.raises(AssertionError, match="read again"):
        dataclasses.replace(config, init="zeros")
    for same in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert same == config and same.init.value == config.init.value


def test_values_are_taken_as_their_texts(parse):
    config = Config(init=initjax.nspl(alpha=2.0), model=parse_name("mlp(width=8)"))
    assert config.model == "mlp(width=8)" and config.init == repr(initjax.nspl(alpha=2.0))
    assert config.init.value == initjax.nspl(alpha=2.0)
    assert parse(config.command().removeprefix("initjax ")) == config


@pytest.mark.parametrize(
    ("settings", "name", "digest"),
    [
        ({}, "digits-resnet32-nspl-dd61e1ac", "bab8e7779b609a1f"),
        (
            {
                "init": "nspl( alpha=1.5,ratio = 30 )",
                "model": "mlp(depth=3, width=16)",
                "refine": "consistency(divergence='w2')",
                "dense_init": "zeros",
                "activation": "tanh",
                "steps": 7,
            },
            "digits-mlp_depth_3_width_16-nspl_alpha_1.5_ratio_30-3dd36c6e",
            "ac89ba05764b75a2",
        ),
        (
            {"preset": "resnet_cifar", "epochs": 20.0, "bias_init": "normal(stddev=0.5)"},
            "cifar10-resnet32-nspl-4ce47eae",
            "29fb243b3ddecdf9",
        ),
    ],
)
def test_folders_of_earlier_versions_are_still_those_of_the_same_runs(settings, name, digest):
    """Names and config.json as of commit 5701105, whose Config held texts."""
    config = Config.create(**settings)
    assert config.run_name() == name
    assert hashlib.sha256(config.to_json().encode()).hexdigest()[:16] == digest


def test_config_repeats_a_run(parse, tmp_path):
    """Of a preset, of steps, of names with arguments, of flags that are lists; flags override."""
    for settings in (
        {"preset": "resnet_cifar", "epochs": 3.0, "nesterov": True, "boundaries": (0.2, 0.4)},
        {
            "steps": 7,
            "model": "mlp(depth=3)",
            "init": "nspl(ratio=30)",
            "download": True,
        },
        {"learning_rate_rules": "Conv_0=0.5,Dense=0.1", "loss": "squared_error", "seed": 3},
    ):
        config = Config.create(**settings)
        (tmp_path / "config.json").write_text(config.to_json())
        flag = f"launch.py --config={tmp_path / 'config.json'}"
        assert parse(flag) == config
        # What a run is named after is the same, so that the same command goes on with it.
        assert parse(flag).run_name() == config.run_name()
        assert parse(f"{flag} --epochs=2 --init=zeros") == dataclasses.replace(
            config, epochs=2.0, steps=0, init="zeros"
        )
    parse(f"{flag} --seeds=2")
    assert launcher.grid_from_flags()[0].seeds == (0, 1)


@pytest.mark.parametrize(("text", "reason"), [
    (None, "No such file"), ("{", "no JSON"), ("[" * 100_000, "no JSON"), ("[]", "no config.json"),
    ('{"init": "nspl", "colour": 1}', "no config.json"), ('{"init": 3}', "--init"),
    (b"\xff", "no JSON"),
])  # fmt: skip
def test_config_that_is_none(parse, tmp_path, text, reason):
    if text is not None:
        (tmp_path / "c").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=reason):
        parse(f"launch.py --config={tmp_path / 'c'}")


def test_help_has_every_flag_once_and_its_default(parse):
    text = launcher.help_text()
    known = [field.name for field in dataclasses.fields(Config)]
    known += ["seeds", "baseline", "margin", "tune", "until_decided", "population", "config"]
    grouped = [name for names in launcher.GROUPS.values() for name in names]
    known += ["compilation_cache", "coordinator", "num_processes", "process_id", "distributed"]
    assert sorted(grouped) == sorted(known)
    assert "--learning_rate=NUMBER[,...]\n      Peak learning rate. (default: 0.1)" in text
    assert "--seed=INTEGER\n" in text and "--[no]nesterov" in text
    assert {name for name in grouped if f"={name}[" in text} <= set(grid.SEVERAL)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("lr", "learning_rate"),
        ("wd", "weight_decay"),
        ("bs", "batch_size"),
        ("epoch", "epochs"),
        ("learningrate", "learning_rate"),
        ("initialiser", None),
    ],
)
def test_an_unknown_flag_says_which_was_meant(parse, written, meant):
    with pytest.raises(UserError) as error:
        command.parse_absl_flags(["launch.py", f"--{written}=.1"])
    first, second = str(error.value).splitlines()
    hint = f" Did you mean --{meant}?" if meant else ""
    assert first == f"Unknown command line flag '{written}'.{hint}"
    assert "--help" in second
