"""A turn's chunks as Markdown text, for clients that show nothing else. Pure, with the state of one turn."""

import re
from typing import Any

from caesarion_chat.shown import cut_in_the_middle, without_ansi
from caesarion_chat.ui_stream import Chunk

MAX_OUTPUT_CHARS = 8000
MAX_ALT_CHARS = 60
_TICKS = re.compile(r"`{3,}")
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml")


class Markdown:
    """Gives the text for each chunk. `base` is put before the addresses of pictures."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._fresh = True
        self._code_calls: set[str] = set()

    def text(self, chunk: Chunk) -> str:
        """Return what a chunk adds, which may be nothing."""
        match chunk:
            case {"type": "text-delta", "delta": str(delta)}:
                self._fresh = False
                return delta
            case {"type": "tool-input-available", "toolName": "python", "input": {"code": str(code)}}:
                self._code_calls.add(chunk["toolCallId"])
                return self._block(fenced(code, "python"))
            case {"type": "tool-output-available", "output": dict(output)} if not chunk.get("preliminary"):
                if chunk["toolCallId"] in self._code_calls:
                    return "".join(self._block(part) for part in self._outputs(output))
            case {"type": "tool-output-error", "errorText": str(text)} | {
                "type": "data-notice",
                "data": {"text": str(text)},
            }:
                return self._block(f"> {text}")
        return ""

    def _block(self, text: str) -> str:
        before, self._fresh = ("" if self._fresh else "\n\n"), True
        return f"{before}{text}\n\n"

    def _outputs(self, output: dict[str, Any]) -> list[str]:
        parts: list[str] = []
        for item in output["outputs"]:
            match item:
                case {"type": "stream", "text": str(text)}:
                    parts.append(fenced(_short(text)))
                case {"type": "error", "traceback": list(lines)}:
                    parts.append(fenced(_short("\n".join(lines))))
                case {"type": "truncated", "dropped_bytes": int(dropped)}:
                    parts.append(f"> {dropped} bytes of output were dropped.")
                case {"data": dict(data)}:
                    parts += self._display(data, item.get("urls", {}))
        if output["status"] not in ("ok", "error"):
            parts.append(f"> The code ended as: {output['status']}.")
        return parts

    def _display(self, data: dict[str, Any], urls: dict[str, str]) -> list[str]:
        picture = next((urls[kind] for kind in PICTURES if kind in urls), None)
        if picture is not None:
            return [f"![picture]({self._base}{picture})"]
        if isinstance(data.get("text/markdown"), str):
            return [fenced(_short(data["text/markdown"]), "markdown")]
        if isinstance(data.get("text/plain"), str):
            return [fenced(_short(data["text/plain"]))]
        return [f"[{kind}]({self._base}{url})" for kind, url in urls.items()][:1]


def fenced(text: str, language: str = "") -> str:
    """Return a text in a fence that nothing in it can close."""
    longest = max((len(found) for found in _TICKS.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _short(text: str) -> str:
    return cut_in_the_middle(without_ansi(text), MAX_OUTPUT_CHARS)
