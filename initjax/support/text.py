"""Text that others wrote, such as the names in a file, on its way to a terminal."""


def printable(text: str, keep: str = "") -> str:
    """`text` with the characters escaped that a terminal would obey or cannot show.

    Args:
      text: any string.
      keep: characters that stay as they are.

    >>> printable("layer\\x1b[2J")
    'layer\\\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def first_line(error: BaseException | str) -> str:
    """What an exception of another library says, in one line of no more than 300 characters."""
    return (str(error).strip() or repr(error)).splitlines()[0][:300]
