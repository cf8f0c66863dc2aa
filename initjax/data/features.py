"""What describes a prepared set of tensorflow-datasets (TFDS), looked at before TFDS reads it.

TFDS imports the module of every class that features.json or dataset_info.json names. A folder of
data must not execute: only the features of TFDS itself may be named.
"""

import json
import os
import pathlib
from collections.abc import Iterator

from initjax.support.errors import UserError

# Where TFDS puts them below the folder of a set: VERSION/ or CONFIG/VERSION/.
_PLACES = ("*", "*/*")
_FILES = ("features.json", "dataset_info.json")
# A class is named by the first two, as protobuf writes and as it also reads; by "type" until 2021.
_KEYS = ("pythonClassName", "python_class_name", "type")


def check_descriptions(name: str, data_dir: str | os.PathLike[str] | None) -> None:
    """Checks all that lies prepared under the bare `name`, in whatever version.

    Raises:
      UserError: a file cannot be read, or names a class that is none of TFDS's own features.
    """
    from tensorflow_datasets.core.utils import file_utils

    for root in file_utils.list_data_dirs(given_data_dir=data_dir):
        folder = pathlib.Path(root).expanduser() / name
        places = (f"{place}/{file}" for place in _PLACES for file in _FILES)
        for file in (file for place in places for file in sorted(folder.glob(place))):
            try:
                if not file.is_file():  # a pipe would be waited for
                    raise ValueError("it is no file")
                description = json.loads(file.read_text("utf-8"))
                named = list(_named_classes(description))
            except (OSError, ValueError, RecursionError) as error:
                raise UserError(
                    f"{file} cannot be read: {error}\nDelete its folder and prepare {name} anew."
                ) from None
            if foreign := sorted(set(named) - _own_classes()):
                raise UserError(
                    f"{file} names the class {foreign[0][:200]!r}, which TFDS would import to read"
                    " it.\nOnly tensorflow-datasets' own features are taken: nothing in a folder"
                    " of data is executed."
                )


def _own_classes() -> set[str]:
    """The names under which TFDS writes its own features."""
    from tensorflow_datasets import features

    own = set()
    for found in vars(features).values():
        if isinstance(found, type) and issubclass(found, features.FeatureConnector):
            own |= {f"{found.__module__}.{found.__name__}", *vars(found).get("ALIASES", ())}
    return own


def _named_classes(value) -> Iterator[str]:
    """What json names as a class, in json within its strings too, which TFDS reads likewise."""
    if isinstance(value, dict):
        for key, item in value.items():
            # Without a dot there is no module to import; the schema has types of that kind.
            if key in _KEYS and isinstance(item, str) and "." in item:
                yield item
            yield from _named_classes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _named_classes(item)
    elif isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            value = json.loads(value)
        except ValueError:  # a sentence in brackets
            return
        yield from _named_classes(value)
