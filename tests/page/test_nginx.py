"""The frontend's image without the image: nginx with its configuration, before the functions, with a small page."""

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import ProductServer
from tests.page.conftest import SCRIPT, page_at, write_export
from tests.platform.conftest import failure, gate, temporary_session
from tests.platform.served import ROOT, free_port, listens

SOURCES = ROOT / "frontend" / "nginx"
PATH = os.pathsep.join([str(ROOT / ".tools/nginx/usr/sbin"), "/usr/sbin", os.environ["PATH"]])
NGINX = shutil.which("nginx", path=PATH)
# What each server says of itself, of its copy of a file and of the connection.
OF_THE_SERVER = {"accept-ranges", "connection", "date", "etag", "last-modified", "server"}
UNREACHABLE = "127.0.0.1:1"
CONFIGURED = {
    "CAESARION_MODEL": "a-model",
    "CAESARION_UPLOAD_TYPES": "Parquet,.tsv",
    "CAESARION_MAX_UPLOAD_BYTES": "77",
}

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not there: `make setup` gets Debian's")


@dataclass(frozen=True, slots=True)
class Frontend:
    """The folder that the image has."""

    folder: Path

    def env(self, chat: str, execute: str, **more: str) -> dict[str, str]:
        """Return the environment of its start."""
        addresses = {"CAESARION_CHAT_ADDRESS": chat, "CAESARION_EXECUTE_ADDRESS": execute}
        return {"PATH": PATH, **addresses, **more}

    @contextlib.contextmanager
    def serving(self, chat: str, execute: str, **env: str) -> Iterator[httpx.Client]:
        """Run nginx until the end of the block, and give a client that takes no encoding unless asked to."""
        port = free_port()
        # started by root, nginx would read files as a user that has no right to this test's folder
        command = [str(self.folder / "start"), *(["-g", "user root;"] if os.getuid() == 0 else [])]
        scratch = tempfile.mkdtemp(prefix="cz-", dir="/tmp")
        process = subprocess.Popen(command, env=self.env(chat, execute, PORT=str(port), TMPDIR=scratch, **env))
        try:
            while not listens(port):
                assert process.poll() is None
                time.sleep(0.01)
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url, timeout=200, headers={"Accept-Encoding": "identity"}) as client:
                yield client
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(60)
            shutil.rmtree(scratch)


@pytest.fixture(scope="module")
def frontend(tmp_path_factory: pytest.TempPathFactory) -> Frontend:
    folder = tmp_path_factory.mktemp("frontend")
    page = write_export(folder / "page")
    (page / "_next/static/x.js.gz").write_bytes(gzip.compress(SCRIPT.encode()))
    for name in ("start", "nginx.conf"):
        shutil.copy(SOURCES / name, folder)
    subprocess.run([sys.executable, str(SOURCES / "page.py"), str(page), str(folder)], check=True)
    return Frontend(folder)


@pytest.fixture(scope="module")
def door(frontend: Frontend, product_server: ProductServer) -> Iterator[httpx.Client]:
    """A client of nginx; every route of the product is behind it, also those that it is to keep to itself."""
    functions = urlsplit(product_server.url).netloc
    with frontend.serving(functions, functions, **CONFIGURED) as client:
        yield client


@pytest.fixture(scope="module")
def served(frontend: Frontend, product_server: ProductServer) -> Iterator[httpx.Client]:
    """A client of `caesarion serve` with the same page and settings."""
    env = {**CONFIGURED, "CAESARION_PAGE_DIR": str(frontend.folder / "page"), "OPENAI_API_KEY": "sk-test"}
    with (
        page_at(product_server, product_server.home, **env) as url,
        httpx.Client(base_url=url, timeout=200, headers={"Accept-Encoding": "identity"}) as client,
    ):
        yield client


PAGES = [
    "/",
    "/index.html",
    "/about",
    "/guide/",
    "/guide",
    "/render.html",
    "/404.html",
    "/_next/static/x.js",
    "/_next/static/gr%C3%B6%C3%9Fe%20%5Bid%5D.css",
    "/samples/sales.csv",
    "/icon.png",
    "/nowhere",
    "/.hidden",
    "/_next/static/x.js.gz",
]


@pytest.mark.parametrize("path", PAGES)
def test_the_page_is_what_caesarion_serve_answers(door: httpx.Client, served: httpx.Client, path: str) -> None:
    for method in ("GET", "HEAD"):
        replies = [client.request(method, path, headers={"Accept": "text/html"}) for client in (door, served)]
        seen = [
            (reply.status_code, reply.content, {n: v for n, v in reply.headers.items() if n not in OF_THE_SERVER})
            for reply in replies
        ]
        assert seen[0] == seen[1]


def test_the_page_is_told_what_caesarion_serve_tells_it(door: httpx.Client, served: httpx.Client) -> None:
    told, expected = door.get("/config.json"), served.get("/config.json")
    assert told.json() == expected.json()
    assert told.json()["model"] == "a-model"
    own = OF_THE_SERVER | {"content-length"}
    assert {n: v for n, v in told.headers.items() if n not in own} == {
        n: v for n, v in expected.headers.items() if n not in own
    }


def test_what_a_browser_has_is_not_sent_again_and_what_the_build_compressed_is_used(door: httpx.Client) -> None:
    got = door.get("/_next/static/x.js", headers={"Accept-Encoding": "gzip"})
    assert (got.text, got.headers["content-encoding"]) == (SCRIPT, "gzip")
    index = door.get("/")
    again = door.get("/", headers={"If-None-Match": index.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == index.headers["content-security-policy"]


def test_outputs_come_through_line_by_line(door: httpx.Client) -> None:
    with temporary_session(door) as session, session.begun(f"print('begun', flush=True)\n{gate('go')}") as running:
        assert "begun" in next(output for output in running.outputs if output["type"] == "stream")["text"]
        session.open_gate("go")
        assert next(output for output in running.outputs if output["type"] == "finished")["status"] == "ok"


def test_a_file_goes_up_and_down_whole(door: httpx.Client) -> None:
    content = b"a,b\n" * 5_000_000
    with temporary_session(door) as session:
        assert door.put(f"{session.path}/files/größe.csv", content=content).status_code == 201
        got = door.get(f"{session.path}/files/größe.csv")
        assert hashlib.sha256(got.content).digest() == hashlib.sha256(content).digest()


def test_chat_is_reached_for_its_paths(door: httpx.Client) -> None:
    assert door.get("/v1/models").json()["object"] == "list"
    assert door.get("/api/chat/none/stream").status_code == 204
    question = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "print(6 * 7)"}], "stream": True}
    with door.stream("POST", "/v1/chat/completions", json=question) as reply:
        chunks = [line for line in reply.iter_lines() if line.startswith("data: ")]
    assert "42" in "".join(chunks)
    for function, path in (("chat", "/v1/models"), ("execute", "/sessions")):
        assert path in door.get(f"/{function}/openapi.json").json()["paths"]


def test_a_failure_of_a_function_comes_through_as_it_is(door: httpx.Client) -> None:
    assert failure(door.get("/sessions/none")) == (404, "session_not_found")
    assert failure(door.post("/webhooks/none", json={}))[0] == 404


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/events/execute",
        "/events/chat",
        "/events/cleanup",
        "/sweep",
        "/metrics",
        "/broker",
        "/health/ready",
        "/sessions/../metrics",
        "/sessions/%2e%2e/metrics",
        "/sessions/..%2fsweep",
        "//metrics",
        "/./events/execute",
        "/sessions/..\\events\\execute",
        "/sessions/..%5Cevents%5cexecute",
        "/sessions/#/../../events/execute",
    ],
)
def test_what_is_between_functions_cannot_be_reached(door: httpx.Client, method: str, path: str) -> None:
    reply = door.request(method, "/", extensions={"target": path.encode()})
    assert failure(reply) == (404, "route_not_found")


def test_only_pages_of_the_same_origin_may_call(door: httpx.Client) -> None:
    own = str(door.base_url).rstrip("/")
    assert door.get("/sessions", headers={"Origin": own}).status_code == 200
    for foreign in ("https://page.example", f"{own}1", f"http://{door.base_url.host}", "null"):
        assert failure(door.get("/sessions", headers={"Origin": foreign})) == (403, "forbidden_origin")


def test_a_function_that_is_away_is_said_to_be(frontend: Frontend, product_server: ProductServer) -> None:
    with frontend.serving(urlsplit(product_server.url).netloc, UNREACHABLE) as client:
        reply = client.get("/sessions")
        assert failure(reply) == (503, "function_unavailable")
        assert reply.headers["retry-after"] == "1"
        assert client.get("/v1/models").status_code == 200
        assert json.loads(client.get("/config.json").text).keys() >= {"upload_types"}
        assert "model" not in client.get("/config.json").json()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CAESARION_CHAT_ADDRESS", "chat; return 200"),
        ("CAESARION_EXECUTE_ADDRESS", "http://execute"),
        ("CAESARION_MODEL", 'a"model'),
        ("CAESARION_MAX_UPLOAD_BYTES", "100 MB"),
        ("PORT", "http"),
    ],
)
def test_a_setting_that_is_wrong_ends_the_start_named(
    frontend: Frontend, tmp_path: Path, name: str, value: str
) -> None:
    env = frontend.env("chat", "execute", TMPDIR=str(tmp_path)) | {name: value}
    done = subprocess.run([str(frontend.folder / "start")], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("start: ")
    assert name in done.stderr
