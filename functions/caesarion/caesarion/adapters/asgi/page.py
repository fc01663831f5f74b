"""The page in front of the functions: files of its folder, each with what a browser is to forbid it.

The folder is read once, into a table from paths to files: what is not in the table cannot be asked for. Files need no
key and are not counted; every other request goes on to the functions as it came.
"""

import asyncio
import base64
import gzip
import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

logger = logging.getLogger(__name__)

INDEX = "index.html"
RENDER = "render.html"
NOT_FOUND = "/404.html"
CONFIG = "/config.json"
UNCHANGING = "/_next/static/"
READING = frozenset({"GET", "HEAD"})
HTML = "text/html; charset=utf-8"
MEDIA_TYPES = {
    ".avif": "image/avif",
    ".css": "text/css; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".gif": "image/gif",
    ".htm": HTML,
    ".html": HTML,
    ".ico": "image/x-icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}
NOT_COMPRESSED = ("image/", "font/", "application/octet-stream")
SMALL_BYTES = 1024**2
LEAST_BYTES = 256
SIBLINGS = {"br": ".br", "gzip": ".gz"}

TURNED_DOWN = (
    "accelerometer",
    "autoplay",
    "camera",
    "display-capture",
    "encrypted-media",
    "geolocation",
    "gyroscope",
    "hid",
    "magnetometer",
    "microphone",
    "midi",
    "payment",
    "screen-wake-lock",
    "serial",
    "usb",
    "xr-spatial-tracking",
)
HEADERS_OF_ALL = {
    "x-content-type-options": "nosniff",
    # With no-referrer a browser would say `Origin: null` in some of the page's own requests, which `Access` refuses.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": ", ".join(f"{feature}=()" for feature in TURNED_DOWN),
}
HEADERS_OF_BODY = frozenset({"content-encoding", "content-length", "content-type"})
RENDER_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; frame-ancestors 'self'; form-action 'none'; "
    "base-uri 'none'"
)
GOVERNED_TYPES = frozenset({"", "text/javascript", "application/javascript", "module", "importmap", "speculationrules"})

NOT_BUILT = b"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Caesarion</title>
<body style="font-family: system-ui, sans-serif; max-width: 36rem; margin: 4rem auto; padding: 0 1rem">
<h1>The page is not built</h1>
<p>Build it with <code>make setup</code> and start again, or name its folder in <code>CAESARION_PAGE_DIR</code>.</p>
<p>The functions work without it: <a href="/openapi.json">/openapi.json</a> lists what they take.</p>
</html>
"""


def content_security_policy(html: bytes, connect: Iterable[str]) -> str:
    """Return the policy of a page: its own files, its inline scripts by their hashes, and the origins in `connect`."""
    hashes = [f"'sha256-{_base64_sha256(script)}'" for script in inline_scripts(html)]
    others = list(dict.fromkeys(connect))
    return "; ".join(
        (
            "default-src 'none'",
            " ".join(("script-src 'self'", *hashes)),
            "style-src 'self' 'unsafe-inline'",
            " ".join(("img-src 'self' data: blob:", *others)),
            "font-src 'self'",
            " ".join(("connect-src 'self'", *others)),
            "frame-src 'self'",
            "worker-src 'self'",
            "manifest-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            "object-src 'none'",
            "frame-ancestors 'none'",
        )
    )


def inline_scripts(html: bytes) -> list[str]:
    """Return the texts of the inline scripts that a browser asks the policy about, each once: no data blocks."""
    found = _InlineScripts()
    # A browser hashes what it parsed, in which every line ends with a newline alone.
    found.feed(html.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n"))
    found.close()
    return list(dict.fromkeys(found.scripts))


class _InlineScripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts: list[str] = []
        self._pieces: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            given = dict(attrs)
            kind = (given.get("type") or "").strip().lower()
            self._pieces = [] if "src" not in given and kind in GOVERNED_TYPES else None

    def handle_data(self, data: str) -> None:
        if self._pieces is not None:
            self._pieces.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self._pieces is not None:
            self.scripts.append("".join(self._pieces))
            self._pieces = None


def _base64_sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@dataclass(frozen=True, slots=True)
class Form:
    """A file as it is sent in one encoding; `headers` are those of a whole answer."""

    body: bytes
    etag: str
    headers: dict[str, str]


class PageFile:
    """A file of the page. It is read and compressed when first asked for, and kept."""

    def __init__(self, read: Callable[[], bytes], siblings: Mapping[str, Path], headers: Mapping[str, str]) -> None:
        """`siblings` are files that hold the same in an encoding; `headers` go out in every case."""
        self._read = read
        self._siblings = siblings
        self._headers = {**HEADERS_OF_ALL, **headers}
        self._compressed = not headers["content-type"].startswith(NOT_COMPRESSED)
        self._loading = threading.Lock()
        self.forms: Mapping[str, Form] | None = None

    def load(self) -> Mapping[str, Form]:
        """Return the forms of this file by encoding. Blocks the first time; raises OSError when the file is gone."""
        with self._loading:
            if self.forms is None:
                self.forms = self._made()
            return self.forms

    def _made(self) -> dict[str, Form]:
        content = self._read()
        bodies = {"identity": content} | {name: path.read_bytes() for name, path in self._siblings.items()}
        if self._compressed and "gzip" not in bodies and len(content) >= LEAST_BYTES:
            bodies["gzip"] = gzip.compress(content, 9 if len(content) <= SMALL_BYTES else 6, mtime=0)
        digest = hashlib.sha256(content).hexdigest()[:32]
        return {name: self._form(name, body, digest) for name, body in bodies.items()}

    def _form(self, encoding: str, body: bytes, digest: str) -> Form:
        encoded = encoding != "identity"
        etag = f'"{digest}-{encoding}"' if encoded else f'"{digest}"'
        headers = {**self._headers, "content-length": str(len(body)), "etag": etag}
        if encoded:
            headers["content-encoding"] = encoding
        if self._compressed:
            headers["vary"] = "Accept-Encoding"
        return Form(body, etag, headers)


class Page:
    """Answers for the files of the page, and hands every other request to the functions."""

    def __init__(
        self, functions: Starlette, directory: Path | None, config: Mapping[str, Any], connect: Iterable[str] = ()
    ) -> None:
        """`directory` has the page as it was built, if it was; `config` is what the page reads as /config.json.

        `connect` are the origins of functions that the page calls besides its own.
        """
        self._functions = functions
        files = page_files(directory, tuple(connect)) if directory is not None else {}
        files.setdefault("/", _made_page(NOT_BUILT))
        files[CONFIG] = _made_config(config)
        taken = sorted(path for path in files if self._is_route({"type": "http", "method": "GET", "path": path}))
        if taken:
            logger.warning("files of the page are hidden by routes of the functions", extra={"paths": taken})
        self._files = {path: file for path, file in files.items() if path not in taken}
        self._status_of_root = 200 if directory is not None and f"/{INDEX}" in files else 404

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in READING:
            response = await self._response(scope)
            if response is not None:
                await response(scope, receive, send)
                return
        await self._functions(scope, receive, send)

    async def _response(self, scope: Scope) -> Response | None:
        """Return the answer to a request for a file, or None for one that is the functions' to answer."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        headers = Headers(scope=scope)
        file, status = self._files.get(path), self._status_of_root if path == "/" else 200
        if file is None and prefers_html(",".join(headers.getlist("accept"))) and not self._is_route(scope):
            file, status = self._files.get(NOT_FOUND), 404
        if file is None:
            return None
        try:
            forms = file.forms
            if forms is None:
                forms = await asyncio.to_thread(file.load)
        except OSError as exc:
            logger.warning("a file of the page is gone; was it built anew?", extra={"reason": exc.strerror})
            return None
        form = _chosen(forms, ",".join(headers.getlist("accept-encoding")))
        if status == 200 and _names(",".join(headers.getlist("if-none-match")), form.etag):
            kept = {name: value for name, value in form.headers.items() if name not in HEADERS_OF_BODY}
            return Response(status_code=304, headers=kept)
        return Response(form.body if scope["method"] == "GET" else b"", status, form.headers)

    def _is_route(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is not Match.NONE for route in self._functions.routes)


def page_files(directory: Path, connect: tuple[str, ...]) -> dict[str, PageFile]:
    """Return the files of a folder by their paths; `/x` is `/x.html` and `/x/` is `/x/index.html`.

    Hidden files and links are left out. HTML is read at once: its policy must be that of the bytes that are sent.
    """
    found = dict(_walked(directory))
    files: dict[str, PageFile] = {}
    for path, file in found.items():
        stem, extension = os.path.splitext(path)
        if extension in SIBLINGS.values() and stem in found:
            continue
        files[path] = _file(path, file, _siblings(path, found), connect)
    for path, page in list(files.items()):
        if path.endswith(f"/{INDEX}"):
            folder = path.removesuffix(INDEX)
            files.setdefault(folder, page)
            files.setdefault(folder.rstrip("/"), page)
        elif path.endswith(".html"):
            files.setdefault(path.removesuffix(".html"), page)
    files.pop("", None)
    return files


def prefers_html(accept: str) -> bool:
    """Whether an Accept header asks for HTML by name, and for JSON no more than for it."""
    weights = _weights(accept)
    return weights.get("text/html", 0) > 0 and weights["text/html"] >= weights.get("application/json", 0)


def _walked(directory: Path) -> Iterator[tuple[str, Path]]:
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file() and not file.is_symlink():
                yield f"/{file.relative_to(directory).as_posix()}", file


def _siblings(path: str, found: Mapping[str, Path]) -> dict[str, Path]:
    """Return what the build wrote beside a file in an encoding, unless it is older than the file."""
    beside = {name: found[path + ending] for name, ending in SIBLINGS.items() if path + ending in found}
    written_ns = found[path].stat().st_mtime_ns
    return {name: file for name, file in beside.items() if file.stat().st_mtime_ns >= written_ns}


def _file(path: str, file: Path, siblings: Mapping[str, Path], connect: tuple[str, ...]) -> PageFile:
    headers = {
        "content-type": MEDIA_TYPES.get(file.suffix.lower(), "application/octet-stream"),
        "cache-control": "public, max-age=31536000, immutable" if path.startswith(UNCHANGING) else "no-cache",
    }
    if headers["content-type"] != HTML:
        return PageFile(file.read_bytes, siblings, headers)
    html = file.read_bytes()
    if path == f"/{RENDER}":
        headers |= {"content-security-policy": RENDER_POLICY, "x-dns-prefetch-control": "off"}
    else:
        headers["content-security-policy"] = content_security_policy(html, connect)
    page = PageFile(lambda: html, siblings, headers)
    page.load()
    return page


def _made_page(html: bytes) -> PageFile:
    policy = content_security_policy(html, ())
    headers = {"content-type": HTML, "cache-control": "no-cache", "content-security-policy": policy}
    return PageFile(lambda: html, {}, headers)


def _made_config(config: Mapping[str, Any]) -> PageFile:
    content = json.dumps(config).encode()
    return PageFile(lambda: content, {}, {"content-type": "application/json", "cache-control": "no-cache"})


def _chosen(forms: Mapping[str, Form], accept_encoding: str) -> Form:
    weights = _weights(accept_encoding)
    for name in SIBLINGS:
        if name in forms and weights.get(name, weights.get("*", 0)) > 0:
            return forms[name]
    return forms["identity"]


def _names(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]


def _weights(header: str) -> dict[str, float]:
    """Return what an Accept header lists, with the weight of each."""
    weights = {}
    for item in header.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        given = [parameter.removeprefix("q=") for parameter in parameters if parameter.startswith("q=")]
        try:
            weights[name] = float(given[0]) if given else 1.0
        except ValueError:
            weights[name] = 0.0
    return weights
