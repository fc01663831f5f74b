"""What stories of the page are played on: products as users start them, a model that says what it is told, a browser.

The stories are TypeScript, in frontend/tests; `run.mjs` there plays them one after the other in Debian's Chromium. Of
a story that fails, pictures of its pages, what they hold and what the console said are kept; with STORY_TRACES=1 also
a trace (`npx playwright-core show-trace`).
"""

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caesarion.principals import key_digest
from tests.browser.told_model import ToldModel
from tests.chat.ui import node
from tests.platform.served import Home, home

ROOT = Path(__file__).parents[2]
FRONTEND = ROOT / "frontend"
RUNNER = FRONTEND / "tests" / "run.mjs"
CHROMIUM = "/usr/bin/chromium"
END_DEADLINE_S = 60.0
KEY = "cz_alice"

Addresses = dict[str, str]


class Missing(Exception):
    """Something that the stories need is not installed or built; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Story:
    """A story as it is listed: what it tells, and the product that it needs."""

    name: str
    product: str


@functools.cache
def stories(kind: str = "stories") -> tuple[Story, ...]:
    """Return the stories, or the scenes that screenshots are made of. Raises Missing."""
    check_tools()
    listed = subprocess.run([node(), RUNNER, "--list", kind], cwd=FRONTEND, capture_output=True, text=True)
    if listed.returncode:
        raise Missing(f"the stories cannot be read:\n{listed.stderr}")
    return tuple(Story(**one) for one in json.loads(listed.stdout))


def check_tools() -> None:
    """Raise Missing when Node or the page's packages are not installed."""
    if not (FRONTEND / "node_modules" / "playwright-core").exists():
        raise Missing("the page's packages are not installed: run `make setup`, or `npm ci` in frontend/")
    try:
        node()
    except FileNotFoundError as exc:
        raise Missing(str(exc)) from exc


def chromium() -> str:
    """Return the browser's path. Raises Missing."""
    path = os.environ.get("CHROME_PATH") or CHROMIUM
    if not Path(path).exists():
        raise Missing(
            "Chromium is not installed: run `make setup`, or "
            "`apt-get install chromium fonts-liberation fonts-noto-color-emoji`; CHROME_PATH names another one"
        )
    return path


def built_page() -> Path:
    """Return the folder of the built page. Raises Missing."""
    folder = Path(os.environ.get("CAESARION_PAGE_DIR") or FRONTEND / "out")
    if not (folder / "index.html").exists():
        raise Missing(f"the page is not built in {folder}: run `make setup`, or name its folder in CAESARION_PAGE_DIR")
    return folder


class Stage:
    """Products, started when a story first needs one, and one browser. Everything ends with the block."""

    def __init__(self, model: ToldModel, stack: contextlib.ExitStack) -> None:
        self._model = model
        self._stack = stack
        self._page = {"CAESARION_PAGE_DIR": str(built_page())}
        self._chromium = chromium()
        self._addresses: dict[str, Addresses] = {}
        self._runner: Runner | None = None
        self.kept = Path(tempfile.mkdtemp(prefix="caesarion-stories-"))
        stack.callback(self._forget_nothing)

    def play(self, story: Story, kind: str = "stories", **more: Any) -> None:
        """Play a story and raise AssertionError when it went otherwise than told."""
        if self._runner is None or self._runner.ended:
            self._runner = self._stack.enter_context(running(kind, self._chromium))
        job = {"story": story.name, "model": self._model.control_url, "kept": str(self.kept)}
        played = self._runner.play({**job, **self.product(story.product), **more})
        assert played["ok"], played["problem"]

    def product(self, name: str) -> Addresses:
        """Return the addresses of a product: `url` of the page, `execute` and `chat` of the functions, `key` if any."""
        if name not in self._addresses:
            self._addresses[name] = PRODUCTS[name](self)
        return self._addresses[name]

    def answering(self) -> Addresses:
        """The product with the model."""
        return self._served(**self._with_model())

    def plain(self) -> Addresses:
        """The product without a model: what is typed runs as Python."""
        return self._served(OPENAI_API_KEY="", OPENAI_BASE_URL="")

    def keyed(self) -> Addresses:
        """The product with the model, for those with a key."""
        return {**self._served(**self._with_model(), CAESARION_API_KEYS=f"alice:{key_digest(KEY)}"), "key": KEY}

    def apart(self) -> Addresses:
        """The page on one host, execute and chat on others, as on Knative."""
        port = free_port()
        page = f"http://127.0.0.1:{port}"
        at: Home = self._stack.enter_context(home())
        env = {**self._with_model(), "CAESARION_ALLOWED_ORIGINS": page, "CAESARION_LOG_LEVEL": "ERROR"}
        execute, chat = (
            str(self._stack.enter_context(at.framework(name, **env)).client.base_url) for name in ("execute", "chat")
        )
        where = {"CAESARION_PAGE_EXECUTE_URL": execute, "CAESARION_PAGE_CHAT_URL": chat}
        addresses = self._served(**self._with_model(), **where, PORT=str(port))
        return {**addresses, "execute": execute, "chat": chat}

    def _served(self, **env: str) -> Addresses:
        at: Home = self._stack.enter_context(home())
        limits = {"CAESARION_MAX_SESSIONS": "0", "CAESARION_MAX_KEPT_SESSIONS": "0"}
        served = self._stack.enter_context(at.serve(**self._page, **limits, **env))
        url = str(served.client.base_url)
        return {"url": url, "execute": url, "chat": url}

    def _with_model(self) -> dict[str, str]:
        return {"OPENAI_BASE_URL": self._model.url, "OPENAI_API_KEY": "sk-test"}

    def _forget_nothing(self) -> None:
        """Leave what failed stories kept, and no empty folder."""
        if not any(self.kept.iterdir()):
            shutil.rmtree(self.kept)


PRODUCTS: dict[str, Callable[[Stage], Addresses]] = {
    "answering": Stage.answering,
    "plain": Stage.plain,
    "keyed": Stage.keyed,
    "apart": Stage.apart,
}


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Give a stage for the block. Raises Missing."""
    check_tools()
    model = ToldModel()
    with model.serving(), contextlib.ExitStack() as stack:
        yield Stage(model, stack)


class Runner:
    """The process that plays stories: one job a line, one answer a line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def play(self, job: dict[str, Any]) -> dict[str, Any]:
        """Play one story and return how it went."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            return {"ok": False, "problem": "the browser's process ended; what it said stands in stderr"}
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer


@contextlib.contextmanager
def running(kind: str, executable: str, variables: Mapping[str, str] | None = None) -> Iterator[Runner]:
    """Run the process that plays stories until the end of the block, and its browser with it."""
    env = {**os.environ, **(variables or {}), "CHROME_PATH": executable}
    with subprocess.Popen(
        [node(), "--enable-source-maps", RUNNER, "--play", kind],
        cwd=FRONTEND,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        late = threading.Timer(END_DEADLINE_S, process.kill)
        try:
            yield Runner(process)
        finally:
            late.start()
            with contextlib.suppress(BrokenPipeError):
                assert process.stdin is not None
                process.stdin.close()
            process.wait()
            late.cancel()
            late.join()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
