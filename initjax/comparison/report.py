"""What a comparison leaves: comparison.json and report.html."""

import pathlib
from collections.abc import Mapping, Sequence

from initjax.comparison.results import Verdict
from initjax.comparison.rows import Run
from initjax.support.environment import describe_environment
from initjax.support.files import strict_json, write_whole


def to_json(verdict: Verdict, about: Mapping[str, str]) -> str:
    """The content of comparison.json.

        {"version": 1, "about": {"initjax", "commit", "device", "host", "python", "jax", "jaxlib",
         "date", "command", ...},
         the fields of `initjax.comparison.results.Verdict`, with those of its parts nested}

    null stands for what so few runs cannot say, and for infinities. A later version adds fields
    without a new number, and changes them with one.
    """
    fields = verdict.to_json()
    return strict_json({"version": fields.pop("version"), "about": dict(about), **fields}, indent=1)


def save(
    verdict: Verdict,
    runs: Sequence[Run],
    folder: pathlib.Path,
    about: Mapping[str, str] | None = None,
) -> list[str]:
    """Writes comparison.json and report.html; returns their names.

    Args:
      verdict: on these runs.
      runs: whose curves are drawn.
      folder: exists.
      about: what else a reader should know of the runs, such as the command that made them; takes
        the place of what `describe_environment` says under the same name.
    """
    about = {name: _shown(value) for name, value in describe_environment().items()} | dict(
        about or {}
    )
    write_whole(folder / "comparison.json", to_json(verdict, about) + "\n")
    from initjax.comparison.page import html_page  # and Matplotlib, which only it needs

    write_whole(folder / "report.html", html_page(verdict, runs, about))
    return ["comparison.json", "report.html"]


def _shown(value) -> str:
    """A value of the environment as a page shows it."""
    return {None: "-", True: "yes", False: "no"}.get(value, value)
