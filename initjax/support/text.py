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


def drawable(text: str) -> str:
    """`text` as Matplotlib draws it: it takes $...$ for a formula, and what begins with an
    underscore it leaves out of legends.

    >>> drawable("_$a$")
    ' _\\\\$a\\\\$'
    """
    return printable(text).replace("$", r"\$").replace("_", " _", text[:1] == "_")


def shown(value: object, most: int = 80) -> str:
    """`repr(value)` for a message: no longer than `most`, and of any integer."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        text = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else "a value"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def first_line(error: BaseException | str) -> str:
    """What an exception of another library says, in one line of no more than 300 characters."""
    return (str(error).strip() or repr(error)).splitlines()[0][:300]
