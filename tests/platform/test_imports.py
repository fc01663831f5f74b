"""What a function's process imports before its first answer, by names: each module is time when it starts from zero."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"caesarion", "caesarion_execute", "caesarion_chat", "caesarion_cleanup", "main"}
LATER = {
    "execute": {"caesarion_execute.notebook", "caesarion_execute.openapi", "caesarion_execute.schemas"},
    "chat": {"caesarion_chat.openapi"},
    "cleanup": {"caesarion_cleanup.openapi"},
}
# What functions-framework and Starlette import themselves.
THEIRS = set(
    "anyio blinker click cloudevents deprecation flask functions_framework google idna itsdangerous jinja2 markupsafe "
    "packaging python_multipart sniffio starlette typing_extensions watchdog werkzeug".split()
)
LISTED = """
import json, sys
sys.path.insert(0, {folder!r})
before = set(sys.modules)
import main
print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)
"""


def imported_by_the(function: str) -> set[str]:
    code = LISTED.format(folder=str(ROOT / "functions" / function))
    with tempfile.TemporaryDirectory(dir="/tmp") as home:  # a socket's path has to be short
        env = {"PATH": os.environ["PATH"], "HOST": "127.0.0.1", "CAESARION_HOME": home}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("function", LATER)
def test_a_function_imports_nothing_before_it_is_needed(function: str) -> None:
    modules = imported_by_the(function)
    heavy = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) - OURS - THEIRS
    assert heavy == set()
    assert f"caesarion_{function}.app" in modules
    assert not LATER[function] & modules


def test_the_library_is_standard_library_only(tmp_path: Path) -> None:
    names = sorted(path.stem for path in (ROOT / "functions/caesarion/caesarion").glob("[a-z]*.py"))
    imports = "\n".join(f"import caesarion.{name}" for name in names)
    code = f"import json, sys\n{imports}\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    tops = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "settings" in names
    assert not {"starlette", "aiohttp", "httpx", "anyio", "uvicorn", "prometheus_client"} & tops
