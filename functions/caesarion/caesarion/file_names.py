"""Names of a session's files: what is refused, and how a name that a client's machine gave is made safe. Pure."""

import os.path
import unicodedata

from caesarion.errors import InvalidRequest

MAX_NAME_BYTES = 200
MAX_DEPTH = 16
PARTIAL_PREFIX = ".upload-"
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # parts of Persian and Indic words, and of emoji that are made of several


def checked_path(path: str) -> str:
    """Return a path inside the session's folder as it is. Raises InvalidRequest for one that leaves it."""
    problem = _problem(path)
    if problem:
        raise InvalidRequest(f"The file's path {problem}, got {path[:120]!r}.", code="invalid_path")
    return path


def _problem(path: str) -> str | None:
    parts = path.split("/")
    if not path or path.startswith("/"):
        return "must be relative to /uploaded_files/"
    if any(unicodedata.category(char) == "Cc" for char in path):
        return "must not have control characters such as a newline"
    if any(unicodedata.category(char) == "Cs" for char in path):
        return "must be UTF-8"
    if "\\" in path:
        return "must not have a backslash"
    if any(part in ("", ".", "..") for part in parts):
        return "must not leave the folder or have empty parts"
    if len(parts) > MAX_DEPTH:
        return f"must not have more than {MAX_DEPTH} parts"
    if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        return f"must not have a part longer than {MAX_NAME_BYTES} bytes"
    if parts[-1].startswith(PARTIAL_PREFIX):
        return f"must not begin with {PARTIAL_PREFIX!r}, which marks uploads under way"
    return None


def safe_name(given: str) -> str:
    """Return a readable file name for what an upload form called the file.

    Folders go (also those of Windows), as do control and invisible characters; letters of every script stay. A long
    name is shortened before its extension. Raises InvalidRequest when nothing is left.
    """
    name = unicodedata.normalize("NFC", given.replace("\\", "/").rsplit("/", 1)[-1])
    name = "".join(char for char in name if char in _JOINERS or unicodedata.category(char) not in _INVISIBLE)
    name = " ".join(name.split()).rstrip(".")
    if not name.strip(". "):
        raise InvalidRequest(
            f"The name of an uploaded file must have a letter or digit, got {given[:120]!r}.", code="invalid_path"
        )
    stem, extension = os.path.splitext(name)
    room = MAX_NAME_BYTES - len(extension.encode())
    if len(name.encode()) > MAX_NAME_BYTES and room > 0:
        name = stem.encode()[:room].decode(errors="ignore").rstrip() + extension
    return name
