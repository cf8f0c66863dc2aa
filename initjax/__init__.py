"""initjax: from which weights should a network start?"""

import importlib as _importlib
import importlib.util as _util
import typing as _typing

from initjax.support import command as _command
from initjax.support.version import __version__ as __version__

if _command.is_starting():  # `python -m initjax.fit` imports this first, and JAX takes a second
    _command.start()

if _typing.TYPE_CHECKING:
    from initjax import (
        comparison as comparison,
        data as data,
        fit as fit,
        initializers as initializers,
        models as models,
        network as network,
        refine as refine,
        signal as signal,
        support as support,
        theory as theory,
        training as training,
        weights as weights,
    )
    from initjax.network.keras_initializer import for_keras as for_keras  # needs `interop`
    from initjax.public import *  # noqa: F403 - each is an explicit line there
    from initjax.training.inference import load_run as load_run  # needs the extra `train`
else:  # hidden from checkers, so that they see a slip in a name
    _OF_EXTRAS = {
        "for_keras": "initjax.network.keras_initializer",
        "load_run": "initjax.training.inference",
    }

    def __getattr__(name: str) -> _typing.Any:
        """What initjax offers is imported when it is first asked for: `--help` needs no JAX."""
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        public = _importlib.import_module("initjax.public")
        if name in _OF_EXTRAS:
            return getattr(_importlib.import_module(_OF_EXTRAS[name]), name)
        if name == "__all__":
            return [known for known in vars(public) if not known.startswith("_")]
        if name in vars(public):
            globals()[name] = value = vars(public)[name]
            return value
        if _util.find_spec(f"{__name__}.{name}"):  # a wing, such as initjax.training
            return _importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *globals()["__getattr__"]("__all__")})
