"""Names of a session's files: what is refused, and how a name that a client's machine gave is made safe. Pure."""

import os.path
import unicodedata

from caesarion.errors import InvalidRequest

MAX_NAME_BYTES = 200
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})


def checked_path(path: str) -> str:
    """Return a path inside the session's folder as it is. Raises InvalidRequest for one that leaves it."""
    parts = path.split("/")
    problem = None
    if not path or path.startswith("/"):
        problem = "must be relative to /uploaded_files/"
    elif any(unicodedata.category(char) == "Cc" for char in path):
        problem = "must not have control characters such as a newline"
    elif "\\" in path:
        problem = "must not have a backslash"
    elif any(part in ("", ".", "..") for part in parts):
        problem = "must not leave the folder or have empty parts"
    if problem:
        raise InvalidRequest(f"The file's path {problem}, got {path[:120]!r}.", code="invalid_path")
    return path


def safe_name(given: str) -> str:
    """Return a readable file name for what an upload form called the file.

    Folders go (also those of Windows), as do control and invisible characters; letters of every script stay. A long
    name is shortened before its extension. Raises InvalidRequest when nothing is left.
    """
    name = unicodedata.normalize("NFC", given.replace("\\", "/").rsplit("/", 1)[-1])
    name = "".join(char for char in name if unicodedata.category(char) not in _INVISIBLE)
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
