"""Lists for people: aligned columns, sizes and times that are quick to read. Pure."""

import unicodedata
from collections.abc import Sequence

_UNITS = ("kB", "MB", "GB", "TB")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return lines of aligned columns with headings."""
    cells = [list(headings), *[[printable(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


def size(size_bytes: int | None) -> str:
    """Return a size in the largest unit that leaves a number of 1 or more."""
    if size_bytes is None:
        return "-"
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value, number = float(size_bytes), -1
    while round(value, 1) >= 1000 and number < len(_UNITS) - 1:
        value, number = value / 1000, number + 1
    return f"{value:.1f} {_UNITS[number]}"


def moment(rfc3339: str | None) -> str:
    """Return a time of the API to the second, in UTC as it came."""
    return "-" if not rfc3339 else rfc3339[:19].replace("T", " ") + "Z"


def printable(text: str) -> str:
    """Return `text` with what could steer a terminal written as escapes: names come from anybody's code."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in ("Cc", "Cf", "Cs") else char
        for char in text
    )
