"""The page: what its first load weighs and scores, and how long after Enter something is seen.

Times are taken in a real browser against the running product, beside the same asked over plain HTTP in the same run.
"""

import asyncio
import json
import os
import shutil
import tempfile
from typing import Any

from bench.chat import scripted_model
from bench.product import Product, Unexpected, running_product
from bench.report import Figure, Part, figure, once, several
from bench.statistics import Verdict
from tests.browser.stage import FRONTEND, built_page, chromium, running
from tests.chat.ui import node

NAME = "the page"
ALONE = "the same over plain HTTP"
FLAGS = "--headless=new --no-sandbox --disable-dev-shm-usage --disable-gpu"
ROUNDS, QUICK_ROUNDS = 20, 2


async def measure(*, quick: bool) -> Part:
    """Load the page, then use it."""
    page_dir, browser = built_page(), chromium()
    async with scripted_model() as model_url:
        settings = {"OPENAI_BASE_URL": model_url, "OPENAI_API_KEY": "bench", "CAESARION_PAGE_DIR": str(page_dir)}
        async with running_product(pool_size=1, settings=settings) as product:
            loaded = await _lighthouse(product, browser)
            used = await asyncio.to_thread(_used, product, browser, QUICK_ROUNDS if quick else ROUNDS)
    notes = (
        "Lighthouse 12 as for a slow phone, with its own throttling, on the first page",
        "from the key press to the text in the document; beside it, from asking to the first such bytes",
        f"the longest task is that of scrolling a chat of {used['outputs_shown']:,} outputs up and down, and typing",
        "a task counts as long from 50 ms; 0 says that there was none",
    )
    return Part(NAME, (*_loading(loaded), *_using(used)), notes)


def _loading(found: dict[str, Any]) -> list[Figure]:
    audits = found["audits"]
    requests = audits["network-requests"]["details"]["items"]
    script_bytes = sum(item["transferSize"] for item in requests if item.get("resourceType") == "Script")
    scores = {name: found["categories"][name]["score"] * 100 for name in ("performance", "accessibility")}
    return [
        figure("script of the first load, compressed", "KB", once(script_bytes / 1000)),
        figure("Lighthouse, performance", "points", once(scores["performance"])),
        figure(
            "Lighthouse, accessibility",
            "points",
            once(scores["accessibility"]),
            verdicts=[Verdict("100", f"{scores['accessibility']:.0f}", scores["accessibility"] == 100)],
        ),
        figure("largest contentful paint", "ms", once(audits["largest-contentful-paint"]["numericValue"])),
        figure("total blocking time", "ms", once(audits["total-blocking-time"]["numericValue"])),
    ]


def _using(found: dict[str, Any]) -> list[Figure]:
    return [
        figure("Enter to first token", "ms", several(found["tokens"]), ALONE, several(found["tokens_alone"])),
        figure("Enter to first output", "ms", several(found["outputs"]), ALONE, several(found["outputs_alone"])),
        figure("key press to next frame, in a long chat", "ms", several(found["keys"])),
        figure("longest task, in a long chat", "ms", once(found["longest_task_ms"])),
    ]


async def _lighthouse(product: Product, browser: str) -> dict[str, Any]:
    """Return what Lighthouse finds; it asks to be run again when a busy machine let it miss the page's start."""
    try:
        return await _lighthouse_once(product, browser)
    except Unexpected:
        return await _lighthouse_once(product, browser)


async def _lighthouse_once(product: Product, browser: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(node(), "node_modules/lighthouse/cli/index.js", product.url, "--quiet", "--output=json"),
        *("--output-path=stdout", f"--chrome-flags={FLAGS}", "--only-categories=performance,accessibility"),
        cwd=FRONTEND,
        env={**os.environ, "CHROME_PATH": browser},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise Unexpected("Lighthouse failed; what it said stands above")
    found = json.loads(said)
    assert isinstance(found, dict)
    if found.get("runtimeError"):
        raise Unexpected(f"Lighthouse: {found['runtimeError'].get('message')}")
    return found


def _used(product: Product, browser: str, rounds: int) -> dict[str, Any]:
    """Return what was measured in the browser. What the page looked like when that failed is kept."""
    kept = tempfile.mkdtemp(prefix="caesarion-bench-")
    with running("measures", browser, {"BENCH_ROUNDS": str(rounds)}) as runner:
        job = {"url": product.url, "execute": product.url, "kept": kept}
        speed = _told(runner.play({**job, "story": "from Enter to the first token and to the first output"}))
        length = _told(runner.play({**job, "story": "scrolls and types in a chat of a thousand outputs"}))
    shutil.rmtree(kept)
    return {**speed, **{name: length[name] for name in ("keys", "longest_task_ms")}, "outputs_shown": length["outputs"]}


def _told(answer: dict[str, Any]) -> dict[str, Any]:
    if not answer["ok"]:
        raise Unexpected(answer["problem"])
    told = answer["told"]
    assert isinstance(told, dict)
    return told
