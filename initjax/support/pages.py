"""What HTML pages share: their frame, one style in light and dark, and escaping.

A page has no external parts, and is readable at 390 pixels.
"""

import html
from collections.abc import Iterable

from initjax.support.text import printable

_STYLE = """
:root { --ink: #222; --paper: #fff; --soft: #5c5c5c; --line: #ddd; --box: #f3f6fa; --mark: #2f7fc1;
  color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e2e2e2; --paper: #16181b; --soft: #a8a8a8;
  --line: #3a3d42; --box: #20252c; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1160px; margin: 1.5em auto;
  padding: 0 1em; color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.5em; line-height: 1.25; } h2 { font-size: 1.25em; margin: 2em 0 .5em; }
h3 { font-size: 1.05em; margin: 1.6em 0 .4em; }
.answer { background: var(--box); border-left: 4px solid var(--mark); padding: .5em 1em; }
.answer p { margin: .4em 0; } .answer p.first { font-weight: 600; font-size: 1.08em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; }
td, th { padding: .3em .8em .3em 0; text-align: left; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; white-space: nowrap; vertical-align: bottom; }
th { color: var(--soft); font-weight: 500; } .number { text-align: right; }
figure { margin: 0; }
figcaption, footer, .soft { color: var(--soft); font-size: 13px; }
figcaption b { color: var(--ink); font-weight: 600; }
li { margin: .25em 0; } details { margin: .8em 0; } summary { cursor: pointer; }
footer { margin-top: 2.5em; border-top: 1px solid var(--line); padding-top: .8em; }
footer dl { display: grid; grid-template-columns: max-content 1fr; gap: .1em 1em; margin: 0; }
footer dd { margin: 0; }
"""


def escape(text: str) -> str:
    """Text as HTML, in which no name of a file or a start is markup or commands a terminal."""
    return html.escape(printable(text))


def page(title: str, style: str, parts: Iterable[str], about: dict[str, str]) -> str:
    """A whole page: its title as a heading, `parts` of HTML, and what it was made with.

    Args:
      title: a text.
      style: CSS beside that of all pages.
      parts: HTML.
      about: names and texts for the foot.
    """
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in about.items())
    lines = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *parts,
        f"<footer><p>This report was made with</p><dl>{facts}</dl></footer></body></html>",
    ]
    return "\n".join(lines) + "\n"
