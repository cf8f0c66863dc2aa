"""An extension of griffe: doctests in docstrings become blocks of code on the reference's pages."""

import re

import griffe

_DOCTEST = re.compile(r"^([ ]*)>>> .*?(?=\n[ ]*\n|\Z)", re.DOTALL | re.MULTILINE)


class Fences(griffe.Extension):
    """Puts doctests between fences, or Markdown takes their brackets for links."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Changes one docstring."""
        if obj.docstring:
            obj.docstring.value = _DOCTEST.sub(
                lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", obj.docstring.value
            )
