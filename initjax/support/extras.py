"""The package's extras: which of them brings a package that is not there."""

import importlib.util

from initjax.support.errors import UserError

# Extra: what this library imports of it. setup.cfg says what is installed; a test holds the two
# together.
EXTRAS = {
    "train": (
        "absl", "flax", "matplotlib", "optax", "orbax", "PIL", "tensorboardX", "tqdm"
    ),
    "data": ("array_record", "grain", "PIL", "tensorflow_datasets", "tqdm"),
    "fit": ("matplotlib", "tensorstore", "tqdm"),
    "hub": ("huggingface_hub",),
    "interop": ("keras", "penzai"),
}  # fmt: skip


class MissingExtra(UserError, ImportError):
    """A package that comes with an extra is not installed."""


def need(extra: str, *names: str) -> None:
    """Raises MissingExtra, which says what to install, unless these packages of it are there.

    Args:
      extra: such as "train".
      names: of its packages; none: all of them.
    """
    missing = [name for name in names or EXTRAS[extra] if not importlib.util.find_spec(name)]
    if missing:
        raise MissingExtra(
            f"{', '.join(missing)} cannot be imported: `pip install 'initjax[{extra}]'` brings"
            f" {'it' if len(missing) == 1 else 'them'}."
        )


def brings(error: ModuleNotFoundError) -> MissingExtra | None:
    """The MissingExtra that a failed import stands for; None: it is another package's."""
    top = (error.name or "").partition(".")[0]
    extra = next((extra for extra, names in EXTRAS.items() if top in names), None)
    if extra is None:
        return None
    return MissingExtra(f"{top} cannot be imported: `pip install 'initjax[{extra}]'` brings it.")
