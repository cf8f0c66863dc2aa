"""What comes with an extra is named by what misses it."""

import configparser
import importlib.metadata
import importlib.util
import re

import pytest
from helpers import ROOT

from initjax.support import extras


@pytest.mark.slow
def test_extras_are_those_of_setup_cfg():
    """A module belongs to a package that the extra installs."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    packages = importlib.metadata.packages_distributions()
    for extra, modules in extras.EXTRAS.items():
        lines = config["options.extras_require"][extra].split("\n")
        installed = {re.split("[><=]", line)[0].lower() for line in lines if line}
        for module in modules:
            # A namespace may have several: orbax has.
            names = {name.lower().replace("_", "-") for name in packages[module]}
            assert names & {name.replace("_", "-") for name in installed}, module


def test_what_is_missing_is_named(monkeypatch):
    extras.need("train")
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("flax", "optax") else real(name)
    )
    with pytest.raises(extras.MissingExtra) as error:
        extras.need("train")
    assert str(error.value) == (
        "flax, optax cannot be imported: `pip install 'initjax[train]'` brings them."
    )
    extras.need("train", "tqdm")
    assert isinstance(error.value, ImportError)


def test_a_failed_import_is_of_an_extra_or_of_another_package():
    found = extras.brings(ModuleNotFoundError("", name="tensorstore.python"))
    assert "pip install 'initjax[fit]'" in str(found)
    assert extras.brings(ModuleNotFoundError("", name="my_package")) is None
