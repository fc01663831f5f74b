"""`caesarion hooks`: what it signs is what senders sign, and what it shows is what came of it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import standardwebhooks

from tests.webhooks.conftest import NEW_SECRET, SECRETS, Hooked, Serve

COMMAND = (sys.executable, "-c", "from caesarion_cli.hooks import group; group()")
DEADLINE_S = 200
HOOKS = """\
[[hooks]]
name = "orders"
kind = "standard"
secrets = ["HOOK_SECRET", "NEW_SECRET"]
code = "main.py"
session = { fixed = "orders" }
answer = "result"
wait_s = 200
principal = "{principal}"

[[hooks]]
name = "push"
kind = "github"
secrets = ["GITHUB_SECRET"]
events = ["push", "release"]
code = "main.py"
session = { key = "repository.full_name" }
principal = "{principal}"

[[hooks]]
name = "made"
kind = "event"
filter = { exact = { type = "com.example.made" } }
code = "main.py"
"""
CODE = """\
runs = globals().get('runs', 0) + 1
print('run', runs, 'of', delivery['hook'])
if payload.get('fail'):
    raise ValueError('as wanted')
payload
"""


@dataclass(frozen=True, slots=True)
class Finished:
    code: int
    out: str
    err: str


Command = Callable[..., Finished]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `caesarion hooks` in the folder of hooks.toml, with its secrets in the environment."""

    def run(*arguments: str, given: str = "", env: dict[str, str] | None = None) -> Finished:
        environment = {"PATH": os.environ["PATH"], "CAESARION_HOME": str(tmp_path), **SECRETS, **(env or {})}
        done = subprocess.run(
            [*COMMAND, *arguments], input=given, env=environment, cwd=tmp_path, capture_output=True, text=True,
            timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


def url(app: Hooked) -> tuple[str, str]:
    return "--url", str(app.client.base_url)


def test_a_payload_is_signed_and_sent_and_the_outputs_are_shown(hooked: Serve, command: Command) -> None:
    app = hooked(HOOKS, shared=True, main=CODE)
    done = command("test", "orders", "-", *url(app), given='{"a": 1}')
    assert done.out == "run 1 of orders\n{'a': 1}\n"
    assert "answered with 200; the code finished with 'ok' in the session orders" in done.err
    assert done.code == 0


def test_the_same_id_is_a_retry_and_runs_nothing_again(hooked: Serve, command: Command) -> None:
    app = hooked(HOOKS, shared=True, main=CODE)
    given = '{"repository": {"full_name": "octo"}}'
    sent = [command("test", "push", "-", "--id", app.event_id, "--json", *url(app), given=given) for _ in range(2)]
    answers = [json.loads(done.out) for done in sent]
    assert answers[0]["status"] == 202
    assert answers[0] == answers[1]
    assert len(app.executions("octo")) == 1


def test_code_that_fails_ends_the_command_with_1(hooked: Serve, command: Command) -> None:
    app = hooked(HOOKS, shared=True, main=CODE)
    done = command("test", "orders", "-", *url(app), given='{"fail": true}')
    assert done.code == 1
    assert "ValueError: as wanted" in done.err


def test_github_is_signed_as_github_does(hooked: Serve, command: Command) -> None:
    app = hooked(HOOKS, shared=True, main=CODE)
    given = '{"repository": {"full_name": "octo"}}'
    done = command("test", "push", "-", *url(app), "--id", app.event_id, given=given)
    assert done.out.startswith(f"202 accepted: delivery {app.event_id}, its result will be the event ")
    assert (done.code, done.err) == (0, "")
    (execution,) = app.executions("octo")
    assert "run 1 of push\n" in [output.get("text") for output in app.outputs("octo", execution["id"])]
    done = command("test", "push", "-", "--event", "ping", *url(app), given=given)
    assert done.out == "200 nothing was run: a ping runs nothing\n"
    done = command("test", "push", "-", "--event", "issues", *url(app), given=given)
    assert done.out == "202 nothing was run: this hook runs for push, release only\n"


def test_a_refusal_ends_the_command_with_3_and_its_reason(hooked: Serve, command: Command) -> None:
    app = hooked(HOOKS, main=CODE)
    done = command("test", "orders", "-", *url(app), given="{}", env={"HOOK_SECRET": NEW_SECRET[:-8] + "AAAAAAA="})
    assert done.code == 3
    assert "Check that the hook's secret here is the sender's" in done.err
    assert "invalid_signature" in done.err
    done = command("test", "push", "-", "--json", *url(app), given="{}")
    assert (done.code, json.loads(done.err)["error"]["code"]) == (3, "no_session_key")
    assert app.sessions() == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("test", "nope", "-"), 3, "There is no hook 'nope' in the file; webhooks there are: orders, push."),
        (("test", "made", "-"), 3, "caesarion events send"),
        (("test", "orders", "none.json"), 2, "'none.json' cannot be read"),
        (("test", "orders", "-", "--event", "push"), 2, "is for hooks of the kind github"),
        (("test", "orders", "-", "--url", "http://127.0.0.1:9"), 3, "Nothing answers at http://127.0.0.1:9"),
        (("test", "orders", "-", "--file", "none.toml"), 3, "none.toml"),
    ],
)
def test_what_cannot_be_done_is_told(
    hooked: Serve, command: Command, arguments: tuple[str, ...], code: int, said: str
) -> None:
    hooked(HOOKS, main=CODE)
    done = command(*arguments)
    assert done.code == code
    assert said in " ".join(done.err.replace("│", " ").split())


def test_hooks_are_listed_without_their_secrets(hooked: Serve, command: Command) -> None:
    hooked(HOOKS, main=CODE)
    done = command("list", env={"NEW_SECRET": ""})
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["NAME", "KIND", "SESSION", "ANSWER", "CODE", "SECRETS"]
    assert lines[1][:6] == ["orders", "standard", "fixed", "orders", "result", "main.py"]
    assert " ".join(lines[1][6:]) == "HOOK_SECRET, NEW_SECRET (not set)"
    assert [line[0] for line in lines[1:]] == ["orders", "push", "made"]
    listed = json.loads(command("list", "--json").out)["hooks"]
    assert listed[1]["path"] == "/webhooks/push"
    assert all(secret not in done.out + json.dumps(listed) for secret in SECRETS.values())


def test_a_new_secret_is_good_for_a_hook(command: Command) -> None:
    made = [command("secret").out.strip() for _ in range(2)]
    assert made[0] != made[1]
    assert all(standardwebhooks.Webhook(secret) and secret.startswith("whsec_") for secret in made)


def test_a_broken_file_is_told_with_its_line(tmp_path: Path, command: Command) -> None:
    (tmp_path / "hooks.toml").write_text("[[hooks]]\nname = 'a b'\nkind = 'github'\n", encoding="utf-8")
    done = command("list")
    assert done.code == 3
    assert "hooks.toml:2: " in done.err
