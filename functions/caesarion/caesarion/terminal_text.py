"""Text as a terminal would show it. Pure."""


def overwritten(text: str) -> str:
    r"""Return what a terminal would show of `text` after carriage returns and backspaces: of ``"10%\r20%"`` the 20%."""
    if "\r" not in text and "\b" not in text:
        return text
    return "\n".join(_line_overwritten(line.removesuffix("\r")) for line in text.split("\n"))


def _line_overwritten(line: str) -> str:
    if "\b" not in line:
        seen: list[str] = []
        width = 0
        for piece in reversed(line.split("\r")):
            if len(piece) > width:
                seen.append(piece[width:])
                width = len(piece)
        return "".join(seen)
    cells: list[str] = []
    column = 0
    for char in line:
        if char == "\r":
            column = 0
        elif char == "\b":
            column = max(0, column - 1)
        else:
            cells[column : column + 1] = [char]
            column += 1
    return "".join(cells)
