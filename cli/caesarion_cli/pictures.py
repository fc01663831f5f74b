"""Pictures and other contents that text cannot show: the files they are saved to, and their inline forms.

Inline: https://iterm2.com/documentation-images.html and https://sw.kovidgoyal.net/kitty/graphics-protocol/
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caesarion_cli.terminal import Inline

KITTY_CHUNK = 4096
ITERM_TYPES = frozenset({"image/png", "image/jpeg", "image/gif"})
_SAVED = (
    (re.compile(r"image/png"), ".png"),
    (re.compile(r"image/jpeg"), ".jpg"),
    (re.compile(r"image/gif"), ".gif"),
    (re.compile(r"image/webp"), ".webp"),
    (re.compile(r"image/svg\+xml"), ".svg"),
    (re.compile(r"application/pdf"), ".pdf"),
    (re.compile(r"application/vnd\.plotly\.v\d+\+json"), ".plotly.json"),
    (re.compile(r"application/vnd\.vegalite\.v[\d.]+json"), ".vl.json"),
)
_AS_TEXT = frozenset({"image/svg+xml"})
_NAMELESS = re.compile(r"<IPython\.[\w.]+ object>")


@dataclass(frozen=True, slots=True)
class Picture:
    """A content to be saved. `media_type` is what it is, `extension` how its file's name ends."""

    media_type: str
    extension: str
    content: bytes


def picture_in(data: Mapping[str, Any]) -> Picture | None:
    """Return what of a MIME bundle is to be saved as a file: a picture, a figure, or a page that has no text form."""
    for pattern, extension in _SAVED:
        for media_type, value in data.items():
            if pattern.fullmatch(media_type):
                return Picture(media_type, extension, _content(media_type, value))
    if "text/html" in data and _NAMELESS.fullmatch(str(data.get("text/plain", ""))):
        return Picture("text/html", ".html", _joined(data["text/html"]).encode())
    return None


def text_in(data: Mapping[str, Any]) -> str:
    """Return the text form of a MIME bundle; the source where the only text would be the name of a class."""
    plain = data.get("text/plain")
    if plain is not None and not _NAMELESS.fullmatch(_joined(plain)):
        return _joined(plain)
    for media_type in ("text/markdown", "text/latex", "application/json", "text/html"):
        if media_type in data:
            value = data[media_type]
            return _joined(value) if media_type != "application/json" else json.dumps(value, indent=2)
    return _joined(plain) if plain is not None else f"[{', '.join(data)}]"


def inline_form(picture: Picture, inline: Inline | None) -> str | None:
    """Return the text that shows a picture on such a terminal, or None where it cannot."""
    if inline == "iterm" and picture.media_type in ITERM_TYPES:
        encoded = base64.b64encode(picture.content).decode()
        return f"\x1b]1337;File=inline=1;size={len(picture.content)};preserveAspectRatio=1:{encoded}\x07\n"
    if inline == "kitty" and picture.media_type == "image/png":
        return "".join(_kitty_chunks(base64.b64encode(picture.content).decode())) + "\n"
    return None


class PictureFolder:
    """Saves pictures under one stem, numbered. A file that was there before stays as it is."""

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder = folder
        self._stem = stem
        self._ours: set[Path] = set()
        self._shown = 0
        self._before = 0

    def save(self, picture: Picture) -> Path:
        """Save a picture under the next name and return its path. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        while True:
            self._shown += 1
            path = self._folder / f"{self._stem}-{self._shown}{picture.extension}"
            if path in self._ours:
                path.write_bytes(picture.content)
                return path
            try:
                with path.open("xb") as file:
                    file.write(picture.content)
            except FileExistsError:
                continue
            self._ours.add(path)
            return path

    def save_again(self, path: Path, picture: Picture) -> Path:
        """Save the new content of a display that was saved to `path`. Raises OSError."""
        if path.name.endswith(picture.extension):
            path.write_bytes(picture.content)
            return path
        return self.save(picture)

    def begin(self) -> None:
        """Note that another execution begins: what it clears is its own."""
        self._before = self._shown

    def clear(self) -> None:
        """Let the next pictures take the names of this execution's, which are not shown any more."""
        self._shown = self._before


def _content(media_type: str, value: Any) -> bytes:
    if media_type.endswith("json"):
        return json.dumps(value).encode()
    text = _joined(value)
    return text.encode() if media_type in _AS_TEXT else base64.b64decode(text)


def _joined(value: Any) -> str:
    """Return a text that Jupyter may have given as a list of lines."""
    return "".join(value) if isinstance(value, list) else str(value)


def _kitty_chunks(encoded: str) -> Iterator[str]:
    for at in range(0, len(encoded), KITTY_CHUNK):
        more = int(at + KITTY_CHUNK < len(encoded))
        head = f"a=T,f=100,q=2,m={more}" if at == 0 else f"m={more}"
        yield f"\x1b_G{head};{encoded[at : at + KITTY_CHUNK]}\x1b\\"
