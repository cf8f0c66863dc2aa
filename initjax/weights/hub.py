"""Finds pretrained weights by name: torchvision's models, and Hugging Face repositories."""

import pathlib
import re
import urllib.error
from collections.abc import Callable

from initjax.support.errors import UserError
from initjax.support.fetch import NetworkError, cache_folder, fetch, open_url
from initjax.weights.formats import endings

_TORCHVISION_URL = "https://download.pytorch.org/models/"

# The files of torchvision's IMAGENET1K_V1 weights; a name ends with the first digits of the file's
# SHA-256.
TORCHVISION_FILES = {
    "alexnet": "alexnet-owt-7be5be79.pth",
    "densenet121": "densenet121-a639ec97.pth",
    "googlenet": "googlenet-1378be20.pth",
    "mobilenet_v2": "mobilenet_v2-b0353104.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "vgg11": "vgg11-8a719046.pth",
    "vgg11_bn": "vgg11_bn-6002323d.pth",
    "vgg13": "vgg13-19584684.pth",
    "vgg13_bn": "vgg13_bn-abd245e5.pth",
    "vgg16": "vgg16-397923af.pth",
    "vgg16_bn": "vgg16_bn-6c64b313.pth",
    "vgg19": "vgg19-dcbb9e9d.pth",
    "vgg19_bn": "vgg19_bn-c79401a0.pth",
}

# Where a repository has several, the first counts. An index lists shards.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "flax_model.msgpack",
)


def fetch_torchvision(name: str) -> pathlib.Path:
    """The file of a torchvision model, downloaded into the cache unless it is there.

    Args:
      name: one of `TORCHVISION_FILES`.

    Raises:
      UserError: the file cannot be had.
    """
    filename = TORCHVISION_FILES[name]
    digest = re.search(r"-([0-9a-f]{8})\.pth$", filename)[1]
    target = cache_folder() / "weights" / filename
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch(_TORCHVISION_URL + filename, target, None, digest)
    except NetworkError as error:
        raise UserError(
            f"{name} cannot be downloaded: {error}\n"
            f"Copy {filename} to {target.parent}, or give the path of a file of weights."
        ) from error
    except OSError as error:
        raise UserError(
            f"{target} cannot be written: {error}\nSet INITJAX_CACHE=DIR to a folder to write to."
        ) from error
    return target


def is_repository(source: str) -> bool:
    """Whether `source` has the form of a Hugging Face repository, "org/name", and of no file."""
    return (
        not source.endswith(endings()) and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source) is not None
    )


def fetch_repository(repository: str) -> tuple[str, Callable[[str], pathlib.Path | None]]:
    """The weights of a Hugging Face repository, from its cache where the hub cannot be reached.

    Returns:
      The first of `WEIGHT_FILES` that it has, and a function that fetches a file by its name, or
      gives None if there is no such file.

    Raises:
      UserError: there is no such repository, it has no weights, or it cannot be reached.
    """
    try:
        from huggingface_hub import constants, errors, hf_hub_download
    except ImportError:
        raise UserError(
            f"{repository} is no file or folder here.\n"
            "If it is a Hugging Face repository: pip install 'initjax[hub]'."
        ) from None
    offline = not _answers(constants.ENDPOINT)

    def find(filename: str) -> pathlib.Path | None:
        try:
            path = hf_hub_download(repository, filename, local_files_only=offline)
        except errors.EntryNotFoundError:  # also that it is not in the cache
            return None
        except errors.RepositoryNotFoundError as error:
            raise UserError(
                f"{repository} is no file or folder here, and no repository of Hugging Face that"
                " you may read."
            ) from error
        except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
            raise UserError(f"{repository} cannot be fetched: {_first_line(error)}") from error
        return pathlib.Path(path)

    for filename in WEIGHT_FILES:
        if find(filename):
            return filename, find
    if offline:
        raise UserError(
            f"{repository} is no file or folder here, and {constants.ENDPOINT} cannot be reached"
            " for it.\nGive the path of a file of weights."
        )
    raise UserError(f"{repository} has none of {', '.join(WEIGHT_FILES)}.")


def _answers(url: str) -> bool:
    """Whether there is a server, which the hub's own client takes half a minute to find out."""
    try:
        open_url(url).close()
    except NetworkError as error:
        return isinstance(error.__cause__, urllib.error.HTTPError)
    return True


def _first_line(error: BaseException) -> str:
    return (str(error) or repr(error)).splitlines()[0][:300]
