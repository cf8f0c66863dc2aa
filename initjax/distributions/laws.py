"""Every law by name: those that can be drawn from, and those that are fitted.

A law stands in one file, which registers it here; the package's face imports the file. Laws are
compared and reported in the order of the face.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from initjax.distributions.base import Distribution
from initjax.distributions.family import Law, scale_law
from initjax.distributions.symmetric import Symmetric
from initjax.support.naming import Registry

DISTRIBUTIONS = Registry("distribution")  # class name -> class: what an initializer's text may hold
LAWS = Registry("law")  # name -> `family.Law`


Drawn = TypeVar("Drawn", bound=Distribution)
Fitted = TypeVar("Fitted", bound=Symmetric)


def drawn(distribution: type[Drawn]) -> type[Drawn]:
    """Lets the text of an initializer hold a distribution: "scaled(.1, Laplace())"."""
    DISTRIBUTIONS.add(distribution.__name__, distribution)
    return distribution


def fitted(
    name: str,
    start: Callable[..., Any],
    *,
    center: Callable[..., Any] | None = None,
    limits: Mapping[str, Law] | None = None,
    contains: Sequence[str] = (),
    **links: str,
) -> Callable[[type[Fitted]], type[Fitted]]:
    """Lets a symmetric distribution times a scale be fitted under `name`, and be `drawn`.

    Args:
      name: of the family, in fit files and reports.
      start: (sample) -> where the search begins, one row of (scale, *fields) a start.
      center: (*fields) -> a typical ln|w| at scale 1, where it may be far from 0; see `family.Law`.
      limits: what this family comes to at an edge of its fields; see `family.Law`.
      contains: families that this one contains at values of its fields.
      **links: each field's link, see `family.Law`, in the order of the fields.
    """

    def register(distribution: type[Fitted]) -> type[Fitted]:
        edges = dict(limits or {})
        more = {"center": center, "limits": edges, "contains": (*contains, *edges)}
        LAWS.add(name, scale_law(distribution, links, start, **more))
        return drawn(distribution)

    return register
