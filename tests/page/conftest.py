"""The product with a small page before it, of the same traits as the real one."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.asgi.serving import ListeningServer
from caesarion.adapters.key_file import key_file_of
from caesarion_cli.all_in_one import Settings, build_app, with_page
from tests.conftest import ProductServer

SCRIPT = "globalThis.counted = 1;" * 100
SAMPLE = "region,units\n" + "".join(f"North,{number}\n" for number in range(300))
INLINE = 'document.documentElement.dataset.inline = "ran"; const a = "<b> & ö";'
INDEX = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>page</title>
<script src="/_next/static/x.js" async=""></script>
<script>{INLINE}</script>
<script type="application/json">{{"not": "run"}}</script>
</head><body>Hello</body></html>
"""
RENDER = '<!DOCTYPE html><html lang="en"><body><script src="/_next/static/render.js"></script></body></html>'
FILES: dict[str, str] = {
    "index.html": INDEX,
    "about.html": "<!DOCTYPE html><title>about</title>",
    "404.html": "<!DOCTYPE html><title>nothing here</title>",
    "render.html": RENDER,
    "guide/index.html": "<!DOCTYPE html><title>guide</title>",
    "sessions.html": "<!DOCTYPE html><title>in the way of a route</title>",
    "_next/static/x.js": SCRIPT,
    "_next/static/größe [id].css": "a{}",
    "samples/sales.csv": SAMPLE,
    ".hidden": "hidden",
    "config.json": '{"of": "the build"}',
}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(1000)


def write_export(folder: Path) -> Path:
    """Write what a build of the page writes, small."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "icon.png").write_bytes(PNG)
    return folder


@contextlib.contextmanager
def page_at(server: ProductServer, home: Path, **env: str) -> Iterator[str]:
    """Serve the product with a page until the end of the block, and give its address."""
    settings = Settings.from_env({"CAESARION_HOME": str(home), **env})
    url, serving, task = server.run(_begin(server, settings))
    try:
        yield url
    finally:
        serving.should_exit = True
        server.run(_end(task))


async def _begin(server: ProductServer, settings: Settings) -> tuple[str, ListeningServer, "asyncio.Task[None]"]:
    file = key_file_of(settings.local, settings.serving)
    app = with_page(build_app(server.sandboxes, settings, Keys(file)), settings)
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    serving = ListeningServer(config)
    task = asyncio.create_task(serving.serve([listening]))
    await serving.listening.wait()
    return f"http://127.0.0.1:{listening.getsockname()[1]}", serving, task


async def _end(task: "asyncio.Task[None]") -> None:
    await task


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page."""
    return write_export(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="session")
def page_url(product_server: ProductServer, export: Path) -> Iterator[str]:
    """The address of a product with that page."""
    with page_at(product_server, product_server.home, CAESARION_PAGE_DIR=str(export)) as url:
        yield url


@pytest.fixture(scope="session")
def page(page_url: str) -> Iterator[httpx.Client]:
    """A client that takes no encoding unless asked to."""
    with httpx.Client(base_url=page_url, timeout=60, headers={"Accept-Encoding": "identity"}) as client:
        yield client
