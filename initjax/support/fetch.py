"""Downloads: whole or not at all, with a digest, and a word on what is missing."""

import hashlib
import http.client
import os
import pathlib
import threading
import urllib.error
import urllib.request

from initjax.support.bars import bar
from initjax.support.files import user_path, whole_file

_CONNECT_SECONDS = 9  # for name resolution, connection and the head of the answer together
_READ_SECONDS = 10  # for each block after that
_READ_SIZE = 1 << 20


class NetworkError(Exception):
    """A download failed for reasons that are not of this machine's disk."""


def cache_folder() -> pathlib.Path:
    """Where initjax keeps what it can make or fetch again: $INITJAX_CACHE, or ~/.cache/initjax."""
    folder = os.environ.get("INITJAX_CACHE")
    if not folder:
        folder = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "initjax")
    return user_path(folder)


def fetch(url: str, target: pathlib.Path, size: int | None, sha256: str) -> None:
    """Downloads `url` to `target`, unless it is there already; only what is intact gets there.

    Args:
      url: http or https.
      target: a file in a folder that exists.
      size: bytes of the file; None takes the server's word.
      sha256: its SHA-256 in hex, or the first digits of it.

    Raises:
      NetworkError: the server cannot be reached, or sends something else.
      OSError: `target` cannot be written.
    """
    if target.exists():
        with target.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256):
                return
    digest = hashlib.sha256()
    received = 0
    name = url.rpartition("/")[2]
    with open_url(url) as response, bar(size or response.length, "B", name) as progress:
        if size is None:
            size = response.length or 0
        with whole_file(target) as part:
            # A server that sends too much is not listened to for longer than it takes to know.
            while received <= size and (block := _read(response, url)):
                part.write(block)
                digest.update(block)
                received += len(block)
                progress.update(len(block))
            if received != size or not digest.hexdigest().startswith(sha256):
                raise NetworkError(
                    f"{url} is not the file that was expected: {received} of {size} bytes, "
                    f"SHA-256 {digest.hexdigest()[:8]}..., expected {sha256[:8]}..."
                )


def open_url(url: str) -> http.client.HTTPResponse:
    """Opens `url`, or gives up after `_CONNECT_SECONDS`.

    Raises:
      NetworkError: there is no answer; or one of an error, which is then the cause.
    """
    outcome = []

    def connect() -> None:
        try:
            outcome.append(urllib.request.urlopen(url, timeout=_READ_SECONDS))
        except urllib.error.HTTPError as error:
            error.close()
            outcome.append(error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            outcome.append(getattr(error, "reason", error))

    # In a thread, because no timeout of a socket covers name resolution, and one socket is tried
    # for each address of the host.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS)
    if not outcome:
        raise NetworkError(f"{url} cannot be reached: no answer in {_CONNECT_SECONDS} seconds.")
    if isinstance(outcome[0], http.client.HTTPResponse):
        return outcome[0]
    cause = outcome[0] if isinstance(outcome[0], Exception) else None
    raise NetworkError(f"{url} cannot be reached: {outcome[0]}.") from cause


def _read(response: http.client.HTTPResponse, url: str) -> bytes:
    """The next block of `response`, empty at its end."""
    try:
        return response.read(_READ_SIZE)
    except (OSError, http.client.HTTPException) as error:
        raise NetworkError(f"{url} broke off: {error!r}.") from error
