"""The page as a browser gets it: files, headers, its configuration; and the functions behind it as they were."""

import base64
import gzip
import hashlib
import html
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from caesarion.adapters.asgi.page import (
    RENDER_POLICY,
    content_security_policy,
    inline_scripts,
    prefers_html,
)
from caesarion.errors import ConfigError
from caesarion.principals import key_digest
from caesarion_cli.all_in_one import Settings, page_config
from tests.conftest import ProductServer
from tests.page.conftest import FILES, INDEX, INLINE, PNG, RENDER, SAMPLE, SCRIPT, page_at, write_export
from tests.platform.conftest import failure
from tests.platform.served import SERVE, home, start

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
CHROMIUM = "/usr/bin/chromium"
ELSEWHERE = "https://page.example"


@pytest.fixture(scope="module")
def anywhere(product_server: ProductServer, export: Path) -> Iterator[httpx.Client]:
    """A client of a product that wants keys, has a model, and whose page calls functions elsewhere."""
    env = {
        "CAESARION_PAGE_DIR": str(export),
        "CAESARION_PAGE_EXECUTE_URL": "https://Execute.example:8443/run/",
        "CAESARION_PAGE_CHAT_URL": "https://chat.example",
        "CAESARION_API_KEYS": f"alice:{key_digest('cz_alice')}",
        "CAESARION_ALLOWED_ORIGINS": ELSEWHERE,
        "OPENAI_API_KEY": "sk-test",
        "CAESARION_MODEL": "a-model",
        "CAESARION_UPLOAD_TYPES": "parquet,csv",
        "CAESARION_MAX_UPLOAD_BYTES": "1000",
    }
    with page_at(product_server, product_server.home, **env) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def raw(client: httpx.Client, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """Ask for a path exactly as it is written."""
    return client.request(method, "/", headers=headers, extensions={"target": path.encode()})


def directives(reply: httpx.Response) -> dict[str, list[str]]:
    """Return the policy of an answer."""
    parts = (directive.split(" ") for directive in reply.headers["content-security-policy"].split("; "))
    return {name: sources for name, *sources in parts}


def sha256_of(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


SERVED = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/index.html": ("index.html", "text/html; charset=utf-8"),
    "/?c=chat_1": ("index.html", "text/html; charset=utf-8"),
    "/about": ("about.html", "text/html; charset=utf-8"),
    "/about.html": ("about.html", "text/html; charset=utf-8"),
    "/render.html": ("render.html", "text/html; charset=utf-8"),
    "/guide/": ("guide/index.html", "text/html; charset=utf-8"),
    "/guide": ("guide/index.html", "text/html; charset=utf-8"),
    "/_next/static/x.js": ("_next/static/x.js", "text/javascript; charset=utf-8"),
    "/_next/static/gr%C3%B6%C3%9Fe%20%5Bid%5D.css": ("_next/static/größe [id].css", "text/css; charset=utf-8"),
    "/samples/sales.csv": ("samples/sales.csv", "text/csv; charset=utf-8"),
}


@pytest.mark.parametrize("path", SERVED)
def test_a_file_of_the_page_is_answered_with_its_type_and_its_headers(page: httpx.Client, path: str) -> None:
    name, media_type = SERVED[path]
    reply = raw(page, path)
    assert (reply.status_code, reply.text) == (200, FILES[name])
    assert reply.headers["content-type"] == media_type
    assert reply.headers["content-length"] == str(len(FILES[name].encode()))
    assert "content-encoding" not in reply.headers
    assert reply.headers["vary"] == "Accept-Encoding"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "same-origin"
    assert reply.headers["cross-origin-opener-policy"] == "same-origin"
    assert "camera=()" in reply.headers["permissions-policy"].split(", ")
    unchanging = name.startswith("_next/static/")
    assert reply.headers["cache-control"] == ("public, max-age=31536000, immutable" if unchanging else "no-cache")
    assert ("content-security-policy" in reply.headers) == name.endswith(".html")


@pytest.mark.parametrize("path", [*SERVED, "/config.json"])
def test_head_tells_what_get_would_without_a_body(page: httpx.Client, path: str) -> None:
    got, head = raw(page, path), raw(page, path, "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": ""} == {**got.headers, "date": ""}


@pytest.mark.parametrize("path", ["/", "/_next/static/x.js", "/icon.png", "/config.json"])
def test_what_a_browser_has_already_is_not_sent_again(page: httpx.Client, path: str) -> None:
    for encoding in ("identity", "gzip"):
        got = raw(page, path, **{"Accept-Encoding": encoding})
        tag = got.headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            for method in ("GET", "HEAD"):
                reply = raw(page, path, method, **{"Accept-Encoding": encoding, "If-None-Match": known})
                assert (reply.status_code, reply.content) == (304, b"")
                assert reply.headers["etag"] == tag
                assert reply.headers["cache-control"] == got.headers["cache-control"]
                assert reply.headers.get("content-security-policy") == got.headers.get("content-security-policy")
                assert not {"content-length", "content-type", "content-encoding"} & set(reply.headers)
        for unknown in ('"other"', tag.strip('"'), ""):
            assert raw(page, path, **{"Accept-Encoding": encoding, "If-None-Match": unknown}).status_code == 200


ENCODINGS = {
    "gzip, deflate, br": "gzip",
    "GZIP;q=0.1": "gzip",
    "*": "gzip",
    "br": None,
    "": None,
    "identity": None,
    "gzip;q=0, *": None,
    "gzip;q=much": None,
}


@pytest.mark.parametrize("accepted", ENCODINGS)
def test_text_is_compressed_for_those_who_take_it(page: httpx.Client, accepted: str) -> None:
    plain = raw(page, "/_next/static/x.js")
    with page.stream("GET", "/_next/static/x.js", headers={"Accept-Encoding": accepted}) as reply:
        body = b"".join(reply.iter_raw())
    encoding = ENCODINGS[accepted]
    assert reply.headers.get("content-encoding") == encoding
    assert (gzip.decompress(body) if encoding else body) == SCRIPT.encode()
    assert reply.headers["content-length"] == str(len(body))
    assert (reply.headers["etag"] == plain.headers["etag"]) == (encoding is None)
    if encoding:
        assert len(body) < len(SCRIPT) / 5


def test_pictures_and_small_texts_are_sent_as_they_are(page: httpx.Client) -> None:
    picture = raw(page, "/icon.png", **{"Accept-Encoding": "gzip"})
    assert (picture.content, picture.headers["content-type"]) == (PNG, "image/png")
    assert "vary" not in picture.headers
    assert "content-encoding" not in picture.headers
    assert "content-encoding" not in raw(page, "/about", **{"Accept-Encoding": "gzip"}).headers


def test_what_the_build_compressed_is_used_unless_it_is_older_than_its_file(
    product_server: ProductServer, tmp_path: Path
) -> None:
    folder = write_export(tmp_path)
    script, sample = folder / "_next/static/x.js", folder / "samples/sales.csv"
    compressed = gzip.compress(SCRIPT.encode(), 1)
    Path(f"{script}.gz").write_bytes(compressed)
    Path(f"{script}.br").write_bytes(b"as brotli")
    stale = Path(f"{sample}.gz")
    stale.write_bytes(gzip.compress(b"stale"))
    os.utime(stale, ns=(0, sample.stat().st_mtime_ns - 1))
    with (
        page_at(product_server, product_server.home, CAESARION_PAGE_DIR=str(folder)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        for accepted, encoding, sent in (("gzip", "gzip", compressed), ("gzip, br", "br", b"as brotli")):
            with client.stream("GET", "/_next/static/x.js", headers={"Accept-Encoding": accepted}) as reply:
                assert b"".join(reply.iter_raw()) == sent
                assert reply.headers["content-encoding"] == encoding
        assert raw(client, "/samples/sales.csv", **{"Accept-Encoding": "gzip"}).text == SAMPLE
        for path in ("/_next/static/x.js.gz", "/_next/static/x.js.br"):
            assert failure(client.get(path)) == (404, "route_not_found")


OUTSIDE = [
    "/../secret.txt",
    "/%2e%2e/secret.txt",
    "/..%2fsecret.txt",
    "/_next/static/../../index.html",
    "/_next/static/..%2f..%2findex.html",
    "/samples/%2e%2e/index.html",
    "/./index.html",
    "//index.html",
    "//",
    "/samples//sales.csv",
    "/index.html%00",
    "/index.html%00.js",
    "/index.html/",
    "/index.html%0A",
    "/samples",
    "/samples/",
    "/samples%5Csales.csv",
    "/..%5csecret.txt",
    "/link.html",
    "/linked/secret.txt",
    "/.hidden",
    "/%2ehidden",
    "/ABOUT",
    "/%ff",
    "/~",
    "/etc/passwd",
]


@pytest.fixture(scope="module")
def beside_a_secret(product_server: ProductServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a page in whose folder links lead out of it, to a secret."""
    folder = tmp_path_factory.mktemp("around")
    (folder / "secret.txt").write_text("secret", encoding="utf-8")
    export = write_export(folder / "out")
    (export / "link.html").symlink_to(folder / "secret.txt")
    (export / "linked").symlink_to(folder)
    with page_at(product_server, product_server.home, CAESARION_PAGE_DIR=str(export)) as url:
        with httpx.Client(base_url=url, timeout=60) as client:
            yield client


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_out_of_the_folder_or_to_what_it_does_not_show(beside_a_secret: httpx.Client, path: str) -> None:
    assert failure(raw(beside_a_secret, path)) == (404, "route_not_found")
    shown = raw(beside_a_secret, path, **BROWSER)
    assert (shown.status_code, shown.text) == (404, FILES["404.html"])


def test_a_path_that_is_none_is_a_page_for_browsers_and_json_for_programs(page: httpx.Client) -> None:
    shown = raw(page, "/nope", **BROWSER)
    assert (shown.status_code, shown.text) == (404, FILES["404.html"])
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert shown.headers["cache-control"] == "no-cache"
    assert "content-security-policy" in shown.headers
    assert raw(page, "/nope", "HEAD", **BROWSER).headers["content-length"] == shown.headers["content-length"]
    again = raw(page, "/nope", **BROWSER, **{"If-None-Match": shown.headers["etag"]})
    assert again.status_code == 404
    assert failure(raw(page, "/nope")) == (404, "route_not_found")
    assert failure(raw(page, "/nope", Accept="application/json")) == (404, "route_not_found")
    assert failure(raw(page, "/nope", "POST", **BROWSER)) == (404, "route_not_found")


def test_a_browser_that_opens_a_route_of_the_functions_gets_their_answer(page: httpx.Client) -> None:
    assert set(raw(page, "/sessions", **BROWSER).json()) == {"sessions"}
    assert failure(raw(page, "/sessions/unknown", **BROWSER)) == (404, "session_not_found")
    assert failure(raw(page, "/api/chat", **BROWSER)) == (405, "method_not_allowed")
    assert raw(page, "/openapi.json", **BROWSER).json()["info"]["title"] == "Caesarion"
    assert raw(page, "/health/ready").json()["status"] == "ready"
    assert raw(page, "/sessions.html").text == FILES["sessions.html"]


@pytest.mark.parametrize("path", ["/", "/index.html", "/_next/static/x.js", "/config.json"])
def test_whoever_writes_to_a_path_of_the_page_is_told_as_elsewhere(page: httpx.Client, path: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert failure(raw(page, path, method)) == (404, "route_not_found")


ACCEPTED = {
    BROWSER["Accept"]: True,
    "text/html": True,
    "application/json, text/html": True,
    "application/json, text/html;q=0.9": False,
    "text/html;q=0": False,
    "text/html;q=x": False,
    "text/*": False,
    "*/*": False,
    "": False,
}


@pytest.mark.parametrize("accept", ACCEPTED)
def test_html_goes_to_those_who_name_it(accept: str) -> None:
    assert prefers_html(accept) is ACCEPTED[accept]


SCRIPTS: dict[str, list[str]] = {
    "": [],
    "<script>a()</script>": ["a()"],
    "<script>\n  a()\n</script>": ["\n  a()\n"],
    "<script>a()\r\nb()\rc()</script>": ["a()\nb()\nc()"],
    "<SCRIPT>a()</SCRIPT >": ["a()"],
    "<script nonce=x defer id='s'>a('<b> &amp; ö')</script>": ["a('<b> &amp; ö')"],
    "<script>a('<\\/script>')</script>": ["a('<\\/script>')"],
    "<script></script>": [""],
    "<script>a()</script><p>b()</p><script>c()</script><script>a()</script>": ["a()", "c()"],
    "<script type=module>a()</script><script type=' Text/JavaScript '>b()</script>": ["a()", "b()"],
    '<script type="importmap">{}</script>': ["{}"],
    '<script type="application/json">{}</script><script type="text/x-template">a</script>': [],
    '<script src="/x.js"></script><script src>a()</script>': [],
    '<script src="/x.js">ignored()</script><script>a()</script>': ["a()"],
    "<!-- <script>a()</script> --><style><script>b()</script></style>": [],
    "<button onclick='a()'>b</button>": [],
}


@pytest.mark.parametrize("markup", SCRIPTS)
def test_inline_scripts_are_allowed_by_their_hashes_and_nothing_else(markup: str) -> None:
    assert inline_scripts(markup.encode()) == SCRIPTS[markup]
    policy = content_security_policy(markup.encode(), ["https://api.example", "https://api.example"])
    hashes = "".join(f" {sha256_of(script)}" for script in SCRIPTS[markup])
    assert policy == (
        f"default-src 'none'; script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob: https://api.example; font-src 'self'; connect-src 'self' https://api.example; "
        "frame-src 'self'; worker-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; "
        "object-src 'none'; frame-ancestors 'none'"
    )


def test_each_page_is_held_to_its_own_scripts_and_the_functions(page: httpx.Client, anywhere: httpx.Client) -> None:
    for path in ("/", "/index.html"):
        assert directives(raw(page, path))["script-src"] == ["'self'", sha256_of(INLINE)]
    assert directives(raw(page, "/about"))["script-src"] == ["'self'"]
    assert directives(raw(page, "/"))["connect-src"] == ["'self'"]
    functions = ["https://execute.example:8443", "https://chat.example"]
    assert directives(raw(anywhere, "/"))["connect-src"] == ["'self'", *functions]
    assert directives(raw(anywhere, "/"))["img-src"] == ["'self'", "data:", "blob:", *functions]


def test_what_is_shown_of_code_is_in_a_sandbox_of_its_own(page: httpx.Client, anywhere: httpx.Client) -> None:
    for client in (page, anywhere):
        for path in ("/render.html", "/render"):
            headers = raw(client, path).headers
            assert headers["content-security-policy"] == RENDER_POLICY
            assert headers["x-dns-prefetch-control"] == "off"
    assert directives(raw(page, "/render.html")) == {
        "sandbox": ["allow-scripts"],
        "default-src": ["'none'"],
        "script-src": ["'self'", "'unsafe-inline'", "'unsafe-eval'"],
        "style-src": ["'unsafe-inline'"],
        "img-src": ["data:", "blob:"],
        "font-src": ["data:"],
        "frame-ancestors": ["'self'"],
        "form-action": ["'none'"],
        "base-uri": ["'none'"],
    }


PROBE = """
document.documentElement.dataset.inline = "ran";
const injected = document.createElement("script");
injected.textContent = "document.documentElement.dataset.injected = 'ran'";
document.head.append(injected);
try { document.documentElement.dataset.evaluated = String(eval("1 + 1")); } catch { }
addEventListener("message", (event) => {
  const frame = document.querySelector("iframe");
  if (event.source === frame.contentWindow) {
    document.documentElement.dataset.frame = JSON.stringify([event.origin, ...event.data]);
  }
});
"""
IN_FRAME = """
const tell = (reached) => parent.postMessage([window.inline, eval("1 + 1"), self.origin, reached], "*");
fetch("/config.json").then(() => tell("reached"), () => tell("refused"));
"""


def test_a_browser_runs_the_scripts_of_the_page_and_no_other(product_server: ProductServer, tmp_path: Path) -> None:
    folder = write_export(tmp_path / "out")
    probe = INDEX.replace(INLINE, PROBE).replace("Hello", "<p onclick='1'></p><iframe src='/render.html'></iframe>")
    (folder / "index.html").write_text(probe, encoding="utf-8")
    (folder / "render.html").write_text(RENDER.replace("<body>", "<body><script>inline = 'ran'</script>"), "utf-8")
    (folder / "_next/static/render.js").write_text(IN_FRAME, encoding="utf-8")
    with page_at(product_server, product_server.home, CAESARION_PAGE_DIR=str(folder)) as url:
        command = [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=10000",
            "--enable-logging=stderr",
            "--dump-dom",
            f"{url}/",
        ]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found = re.search(r"<html([^>]*)>", shown.stdout)
    assert found, shown.stderr
    told = dict(re.findall(r'data-(\w+)="([^"]*)"', found[1]))
    frame = json.loads(html.unescape(told.pop("frame", "null")))
    assert told == {"inline": "ran"}
    assert frame == ["null", "ran", 2, "null", "refused"]
    assert "Permissions-Policy" not in shown.stderr


def test_the_page_needs_no_key_and_the_functions_still_do(anywhere: httpx.Client) -> None:
    of_a_frame = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    for path in ("/", "/render.html", "/_next/static/x.js", "/config.json"):
        assert raw(anywhere, path, **of_a_frame).status_code == 200
    for path in ("/sessions", "/nope"):
        assert failure(raw(anywhere, path)) == (401, "unauthorized")
    assert failure(raw(anywhere, "/sessions", **of_a_frame)) == (403, "forbidden_origin")
    assert failure(raw(anywhere, "/", "POST")) == (401, "unauthorized")
    assert raw(anywhere, "/sessions", Authorization="Bearer cz_alice").status_code == 200


def test_files_of_the_page_do_not_count_as_requests_to_a_function(product_server: ProductServer, export: Path) -> None:
    with (
        page_at(product_server, product_server.home, CAESARION_PAGE_DIR=str(export)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        assert raw(client, "/").status_code == 200
        assert raw(client, "/nope", **BROWSER).status_code == 404
        assert "caesarion_requests_total{" not in client.get("/metrics").text
        assert "caesarion_requests_total{" in client.get("/metrics").text


def test_the_page_is_told_where_functions_are_and_what_they_take(page: httpx.Client, anywhere: httpx.Client) -> None:
    told = raw(page, "/config.json")
    assert told.headers["content-type"] == "application/json"
    assert told.headers["cache-control"] == "no-cache"
    assert told.json() == {
        "execute_url": "",
        "chat_url": "",
        "max_upload_bytes": 100 * 1024**2,
        "upload_types": [".csv", ".txt", ".json", ".py"],
    }
    assert raw(anywhere, "/config.json").json() == {
        "execute_url": "https://Execute.example:8443/run",
        "chat_url": "https://chat.example",
        "model": "a-model",
        "max_upload_bytes": 1000,
        "upload_types": [".csv", ".txt", ".json", ".py", ".parquet"],
    }


def test_a_model_without_a_key_is_a_model_when_its_address_is_given() -> None:
    assert page_config(Settings.from_env({"OPENAI_BASE_URL": "http://localhost:11434/v1"}))["model"] == "gpt-4.1"
    assert page_config(Settings.from_env({"OPENAI_API_KEY": "sk-test"}))["model"] == "gpt-4.1"
    assert "model" not in page_config(Settings.from_env({"CAESARION_MODEL": "a-model"}))


@pytest.mark.parametrize("name", ["CAESARION_PAGE_EXECUTE_URL", "CAESARION_PAGE_CHAT_URL"])
@pytest.mark.parametrize(
    "given",
    [
        "api.example",
        "ftp://api.example",
        "https://",
        "https:///run",
        "https://api.example:99999",
        "https://me:secret@api.example",
        "https://api.example?x=1",
        "https://api.example/#run",
        "https://api.example; script-src *",
        "https://api.example,https://b.example",
        "https://*.example",
        "https://[::1]:8080",
        "https://api.example/a b",
        "https://api.example/\nx",
    ],
)
def test_an_address_of_functions_that_a_browser_cannot_be_held_to_is_refused_by_name(name: str, given: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be an address such as"):
        Settings.from_env({name: given})


def test_a_folder_without_a_page_is_refused_by_name_when_it_was_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none", tmp_path / "index.html"):
        with pytest.raises(ConfigError, match="CAESARION_PAGE_DIR must be a folder with the page") as told:
            Settings.from_env({"CAESARION_PAGE_DIR": str(folder), "PORT": "http", "CAESARION_PAGE_CHAT_URL": "!"})
        assert "PORT must be" in told.value.message
        assert "CAESARION_PAGE_CHAT_URL must be" in told.value.message
    assert Settings.from_env({"CAESARION_PAGE_DIR": str(write_export(tmp_path))}).page.directory == str(tmp_path)


def test_where_no_page_is_built_the_root_says_how_and_the_functions_work(
    product_server: ProductServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caesarion_cli.all_in_one.CHECKOUT_PAGE", tmp_path / "none")
    with (
        page_at(product_server, product_server.home) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        shown = client.get("/")
        assert (shown.status_code, shown.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "make setup" in shown.text
        assert directives(shown)["script-src"] == ["'self'"]
        assert client.get("/sessions").status_code == 200
        assert client.get("/config.json").json()["chat_url"] == ""
        assert failure(client.get("/nope", headers=BROWSER)) == (404, "route_not_found")


def test_a_page_whose_files_were_taken_away_is_told_as_a_path_that_is_none(
    product_server: ProductServer, tmp_path: Path
) -> None:
    folder = write_export(tmp_path)
    with (
        page_at(product_server, product_server.home, CAESARION_PAGE_DIR=str(folder)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        (folder / "samples/sales.csv").unlink()
        (folder / "index.html").unlink()
        assert failure(client.get("/samples/sales.csv")) == (404, "route_not_found")
        assert client.get("/").text == INDEX


def test_serve_serves_the_page_before_the_functions(export: Path) -> None:
    with home() as place, place.serve(CAESARION_PAGE_DIR=str(export)) as served:
        assert served.client.get("/", headers=BROWSER).text == INDEX
        assert served.client.get("/sessions").json() == {"sessions": []}
        status, errors = served.end()
    assert status == 0
    assert [json.loads(line)["paths"] for line in errors.splitlines()] == [["/sessions"]], (
        "a name is told that hides one"
    )


def test_serve_does_not_start_with_a_folder_that_has_no_page(tmp_path: Path) -> None:
    with home() as place:
        process = start(SERVE, place.env(CAESARION_PAGE_DIR=str(tmp_path)))
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (3, "")
        assert "CAESARION_PAGE_DIR must be a folder" in errors
        assert place.sandboxes() == []


ASKED = {
    ("POST", "/api/chat"): "authorization, content-type",
    ("GET", "/api/chat/c_1/stream"): "authorization, last-event-id",
    ("POST", "/api/chat/c_1/stop"): "authorization, content-type",
    ("POST", "/sessions/s_1/executions"): "authorization, content-type, idempotency-key",
    ("GET", "/sessions/s_1/executions/k_1/outputs"): "authorization, last-event-id",
    ("DELETE", "/sessions/s_1/executions/k_1"): "authorization",
    ("PUT", "/sessions/s_1/files/a.csv"): "authorization, content-type",
    ("POST", "/sessions/s_1/files"): "authorization",
    ("DELETE", "/sessions/s_1/files/a.csv"): "authorization",
    ("GET", "/sessions/s_1/files/a.csv"): "authorization, range, if-none-match",
}


@pytest.mark.parametrize("asked", ASKED, ids=" ".join)
def test_a_page_on_another_host_may_do_all_that_the_page_does(anywhere: httpx.Client, asked: tuple[str, str]) -> None:
    method, path = asked
    wanted = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": ASKED[asked]}
    reply = raw(anywhere, path, "OPTIONS", Origin=ELSEWHERE, **wanted)
    assert reply.status_code == 204
    assert reply.headers["access-control-allow-origin"] == ELSEWHERE
    assert method in reply.headers["access-control-allow-methods"].split(", ")
    assert set(ASKED[asked].split(", ")) <= set(reply.headers["access-control-allow-headers"].split(", "))
    refused = raw(anywhere, path, "OPTIONS", Origin="https://evil.example", **wanted)
    assert failure(refused) == (403, "forbidden_origin")


def test_a_page_on_another_host_may_read_what_the_page_reads(anywhere: httpx.Client) -> None:
    reply = raw(anywhere, "/sessions", Origin=ELSEWHERE, Authorization="Bearer cz_alice")
    exposed = set(reply.headers["access-control-expose-headers"].split(", "))
    assert {
        "x-execution-id",
        "x-session-id",
        "x-request-id",
        "x-vercel-ai-ui-message-stream",
        "retry-after",
        "etag",
        "content-disposition",
    } <= exposed
