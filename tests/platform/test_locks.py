"""The locks of the functions' images: what their tests ran with, and no place that it came from."""

import re

import pytest

from tests.platform.served import ROOT

LOCKS = ROOT / "requirements"
FUNCTIONS = ("chat", "execute", "cleanup")


def pinned(name: str) -> dict[str, str]:
    """Return the packages of a lock with their versions."""
    text = (LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_image_has_the_versions_that_tests_run_with(function: str) -> None:
    tested, shipped = pinned("dev"), pinned(function)
    assert {name: version for name, version in shipped.items() if tested.get(name) != version} == {}
    assert {"functions-framework", "starlette", "aiohttp", "kubernetes", "obstore", "uvicorn"} <= shipped.keys()


def test_an_image_has_only_what_its_function_imports() -> None:
    having = {name: {f for f in FUNCTIONS if name in pinned(f)} for name in ("openai", "python-multipart", "gunicorn")}
    assert having == {"openai": {"chat"}, "python-multipart": {"execute"}, "gunicorn": set()}


@pytest.mark.parametrize("lock", sorted(path.stem for path in LOCKS.glob("*.txt")))
def test_every_package_is_named_by_its_hash_and_by_no_address(lock: str) -> None:
    text = (LOCKS / f"{lock}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    entries = re.split(r"\n(?=\S)", text.strip())
    assert [entry.partition(" ")[0] for entry in entries if "--hash=sha256:" not in entry] == []
