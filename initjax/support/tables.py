"""Texts in tables: short enough, and in aligned columns."""

from collections.abc import Sequence


def shorten(text: str, most: int) -> str:
    """The text, its middle left out where it is longer than `most`.

    >>> shorten("nspl(alpha=1.5, ratio=30)", 12)
    'nspl(...=30)'
    """
    if len(text) <= most:
        return text
    head = (most - 3 + 1) // 2
    return text[:head] + "..." + text[len(text) - (most - 3 - head) :]


def align(rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Lines of a table; columns in `left` are aligned there, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
