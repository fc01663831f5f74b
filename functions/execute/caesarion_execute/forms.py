"""One form of one output as a file: a picture, or a text too large to come along with the rest."""

import base64
import binascii
import json
import re

from starlette.requests import Request
from starlette.responses import Response

from caesarion.adapters.sandbox_http import Answer
from caesarion.errors import InvalidRequest, NotFound

# An output never changes, so who has it need not ask again.
HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
SHOWN_INLINE = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}/[A-Za-z0-9][A-Za-z0-9.+-]{0,100}")


def seq_of(request: Request) -> int:
    """Return the number of an output that the path names."""
    text = request.path_params["seq"]
    if not re.fullmatch(r"[1-9][0-9]{0,13}", text):
        raise InvalidRequest(f"An output's number must be a whole number from 1, got {text[:40]!r}.", code="invalid_id")
    return int(text)


async def first_line(answer: Answer) -> bytes:
    """Return the first whole line of an answer, or nothing when it has none."""
    async for block in answer.lines():
        return block.partition(b"\n")[0]
    return b""


def form_response(line: bytes, seq: int, kind: str) -> Response:
    """Return the form `kind` of the output in `line`. Raises NotFound for an output or a form that there is not."""
    output = json.loads(line) if line else {}
    data = output.get("data")
    if output.get("seq") != seq or not isinstance(data, dict):
        raise NotFound(f"There is no display or result with the number {seq} in this execution.")
    if kind not in data or not _MEDIA_TYPE.fullmatch(kind):
        raise NotFound(f"This output has no form {kind[:80]!r}; it has {', '.join(data)}. Name one with ?form=.")
    headers = dict(HEADERS)
    if kind not in SHOWN_INLINE:
        headers["Content-Disposition"] = "attachment"
    return Response(_content(kind, data[kind]), headers=headers, media_type=kind)


def _content(kind: str, form: object) -> bytes:
    if not isinstance(form, str):
        return json.dumps(form).encode()
    textual = kind.startswith("text/") or kind.endswith(("+xml", "json", "javascript"))
    if textual:
        return form.encode("utf-8", "replace")
    try:
        return base64.b64decode(form)
    except (binascii.Error, ValueError):
        return form.encode("utf-8", "replace")
