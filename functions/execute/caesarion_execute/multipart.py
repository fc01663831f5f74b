"""Upload forms read as they come in: one part after the other, never more than a piece of one in memory."""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum

from caesarion.errors import InvalidRequest

MAX_PARTS = 1000


@dataclass(frozen=True, slots=True)
class Part:
    """The head of a part: the form field's name, and the file's name when it is one."""

    field: str
    file_name: str | None


class _End(Enum):
    """Marks where a part ends."""

    PART = "part"


_Event = Part | bytes | _End


class PartReader:
    """Reads a multipart body. `next_part`, then `chunks` to the end of that part, then `next_part` again."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        from python_multipart.multipart import MultipartParser, parse_options_header

        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidRequest(
                "Files are sent as multipart/form-data with parts named `file`, or one by one with PUT .../files/NAME.",
                code="invalid_form",
            )
        self._options = parse_options_header
        self._body = body
        self._events: deque[_Event] = deque()
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._disposition = b""
        self._parts = 0
        self._complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
                    "on_part_end": lambda: self._events.append(_End.PART),
                    "on_end": self._on_end,
                },
            )
        except ValueError as exc:
            raise _malformed(exc) from exc

    async def next_part(self) -> Part | None:
        """Return the head of the next part, past what is left of this one, or None after the last."""
        while (event := await self._next_event()) is not None:
            if isinstance(event, Part):
                return event
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the content of the part. Raises InvalidRequest when the body ends before the part does."""
        while True:
            event = await self._next_event()
            if isinstance(event, bytes):
                yield event
            elif event is None:
                raise InvalidRequest("The upload broke off; its last file was not stored.", code="upload_incomplete")
            else:
                return

    async def _next_event(self) -> _Event | None:
        from python_multipart.exceptions import FormParserError

        while not self._events:
            piece = await anext(self._body, None)
            if piece is None:
                if not self._complete:
                    raise InvalidRequest(
                        "The upload broke off before the form's end; its last file was not stored.",
                        code="upload_incomplete",
                    )
                return None
            try:
                self._parser.write(piece)
            except FormParserError as exc:
                raise _malformed(exc) from exc
        return self._events.popleft()

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidRequest(f"A form may have at most {MAX_PARTS} parts.", code="invalid_form")
        self._header = (bytearray(), bytearray())
        self._disposition = b""

    def _on_header_end(self) -> None:
        name, value = self._header
        if bytes(name).lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        _, options = self._options(self._disposition)
        file_name = options.get(b"filename")
        field = _text(options.get(b"name", b""))
        self._events.append(Part(field, _unescaped(_text(file_name)) if file_name is not None else None))

    def _on_end(self) -> None:
        self._complete = True


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _unescaped(name: str) -> str:
    """Return a file name as it was before a browser wrote it into a form (HTML standard, multipart/form-data)."""
    for escaped, char in (("%22", '"'), ("%0A", "\n"), ("%0D", "\r")):
        name = name.replace(escaped, char)
    return name


def _malformed(exc: Exception) -> InvalidRequest:
    return InvalidRequest(f"The form cannot be read: {str(exc)[:200]}.", code="invalid_form")
