"""`caesarion hooks`: hooks.toml looked at, and its webhooks tried as their senders would send them."""

import base64
import json
import os
import secrets
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from caesarion.config_files import found_file
from caesarion.ids import new_id
from caesarion.settings import NO_SECRET, LocalSettings, Reader
from caesarion_cli import standard
from caesarion_cli.client import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, Api
from caesarion_cli.failures import CODE_FAILED, PLATFORM_FAILED, Failure, failures_told, note
from caesarion_cli.listings import printable, table
from caesarion_cli.options import DEFAULT_URL, AsJson, SaveDir, Url, command_group
from caesarion_cli.pictures import PictureFolder
from caesarion_cli.run import OUTCOMES, this_terminal
from caesarion_cli.show import Show
from caesarion_execute.hooks import Hook, read_hooks, secret_keys
from caesarion_execute.signatures import (
    GITHUB_DELIVERY,
    GITHUB_EVENT,
    GITHUB_SIGNATURE,
    ID,
    PREFIX,
    SIGNATURE,
    TIMESTAMP,
    sign_github,
    sign_standard,
)

SECRET_BYTES = 32

group = command_group("Webhooks and hooks for events, as hooks.toml has them.")

File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        metavar="FILE",
        envvar="CAESARION_HOOKS_FILE",
        help="The file with the hooks.",
        show_default="hooks.toml in CAESARION_HOME",
    ),
]


@group.command("test")
def test(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The hook.")],
    payload: Annotated[Path, typer.Argument(metavar="FILE|-", help="The payload; - is standard input.")],
    file: File = None,
    event: Annotated[
        str | None,
        typer.Option("--event", metavar="NAME", help="X-GitHub-Event of a github hook.", show_default="its first one"),
    ] = None,
    delivery: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Id of the delivery: one that was sent is a retry.")
    ] = None,
    save_dir: SaveDir = Path(),
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Sign a payload with the hook's secret, send it, and show what is answered.

    The secret is read from the hook's own variable; of several the first one signs.
    """
    body = _payload_of(payload)
    with failures_told(as_json=as_json):
        hook = _hook_named(name, _hooks_of(file)[1])
        if event is not None and hook.kind != "github":
            raise typer.BadParameter(f"is for hooks of the kind github; {name!r} is {hook.kind}.", param_hint="--event")
        sender = Sender(url)
        try:
            status, answer = sender.deliver(hook, body, _signed(hook, body, delivery, event))
        finally:
            sender.close()
        if as_json:
            print(json.dumps({"status": status, "answer": answer}))
            raise typer.Exit(_exit_code(answer))
        failed_to_save = _show(status, answer, PictureFolder(save_dir, hook.name))
        raise typer.Exit(_exit_code(answer) or (PLATFORM_FAILED if failed_to_save else 0))


@group.command("list")
def list_hooks(file: File = None, as_json: AsJson = False) -> None:
    """List the hooks of the file, which is checked. Variables of secrets are named, secrets never shown."""
    with failures_told(as_json=as_json):
        path, hooks = _hooks_of(file)
        if as_json:
            print(json.dumps({"file": path, "hooks": [_document(hook) for hook in hooks]}))
            return
        rows = [
            (
                hook.name,
                hook.kind,
                str(hook.session),
                hook.answer if hook.kind != "event" else "-",
                os.path.relpath(hook.code_path, os.path.dirname(path) or os.curdir),
                ", ".join(name if os.environ.get(name) else f"{name} (not set)" for name in hook.secrets) or "-",
            )
            for hook in hooks
        ]
        print(table(("NAME", "KIND", "SESSION", "ANSWER", "CODE", "SECRETS"), rows))


@group.command("secret")
def secret() -> None:
    """Print a new secret for a hook of the kind standard; it is kept nowhere."""
    print(PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


class Sender(Api):
    """A sender of webhooks. It has no API key: the signature is the key."""

    def __init__(self, url: str) -> None:
        super().__init__(url, NO_SECRET)

    def deliver(self, hook: Hook, body: bytes, headers: Mapping[str, str]) -> tuple[int, Any]:
        """Send a delivery and return status and document of its answer. Raises Failure when it is refused."""
        import httpx

        timeout = httpx.Timeout(ANSWER_TIMEOUT_S + hook.wait_s, connect=CONNECT_TIMEOUT_S)
        with self._failures_named():
            response = self._http.post(self.url + hook.source, content=body, headers=headers, timeout=timeout)
            return response.status_code, self._decoded(response)


def _hooks_of(file: Path | None) -> tuple[str, tuple[Hook, ...]]:
    """Return the path of the file and its hooks without their secrets. Raises ConfigError or Failure."""
    reader = Reader(os.environ)
    home = reader.group(LocalSettings).home
    reader.check()
    path = found_file(str(file) if file is not None else "", home, "hooks.toml")
    if path is None:
        raise Failure(
            f"There is no hooks.toml in {home}. Name a file with --file or CAESARION_HOOKS_FILE.", code="no_hooks_file"
        )
    return path, read_hooks(path, None)


def _hook_named(name: str, hooks: tuple[Hook, ...]) -> Hook:
    for hook in hooks:
        if hook.name == name and hook.kind == "event":
            raise Failure(
                f"The hook {name!r} runs for events and takes no webhooks. Send it one with `caesarion events send`.",
                code="not_a_webhook",
            )
        if hook.name == name:
            return hook
    known = ", ".join(hook.name for hook in hooks if hook.kind != "event") or "none"
    raise Failure(f"There is no hook {name!r} in the file; webhooks there are: {known}.", code="hook_not_found")


def _payload_of(payload: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(payload) == "-" else payload.read_bytes()
    except OSError as exc:
        raise typer.BadParameter(f"{str(payload)!r} cannot be read: {exc.strerror}.", param_hint="FILE") from exc


def _signed(hook: Hook, body: bytes, delivery: str | None, event: str | None) -> dict[str, str]:
    """Return the headers of a delivery as the hook's sender would send them."""
    key = secret_keys(hook, os.environ)[0]
    headers = {"Content-Type": "application/json"}
    if hook.kind == "github":
        return headers | {
            GITHUB_EVENT: event or (hook.events[0] if hook.events else "push"),
            GITHUB_DELIVERY: delivery or str(uuid.uuid4()),
            GITHUB_SIGNATURE: sign_github(key, body),
        }
    known, timestamp_s = delivery or new_id("msg"), int(time.time())
    return headers | {
        ID: known,
        TIMESTAMP: str(timestamp_s),
        SIGNATURE: sign_standard(key, known, timestamp_s, body),
    }


def _show(status: int, answer: Any, pictures: PictureFolder) -> bool:
    """Show an answer to people; returns whether a picture could not be saved."""
    match answer:
        case {"status": str(outcome), "session": str(session), "outputs": list(outputs)}:
            show = Show(standard.output(), standard.errors(), this_terminal(), pictures)
            for output in outputs:
                show.output(output)
            note(f"answered with {status}; the code finished with {outcome!r} in the session {session}")
            return show.failed_to_save
        case {"status": str(outcome), "text": str(text), "outputs_at": str(where)}:
            standard.output().write(text)
            note(f"answered with {status}; the code finished with {outcome!r}, all its outputs are at {where}")
        case {"accepted": True, "id": str(delivery), "result_event_id": str(result)}:
            print(f"{status} accepted: delivery {printable(delivery)}, its result will be the event {result}")
        case {"accepted": False, "reason": str(reason)}:
            print(f"{status} nothing was run: {printable(reason)}")
        case _:
            print(f"{status} {json.dumps(answer)}")
    return False


def _exit_code(answer: Any) -> int:
    outcome = answer.get("status", "ok") if isinstance(answer, dict) else "ok"
    return OUTCOMES.get(outcome, CODE_FAILED)


def _document(hook: Hook) -> dict[str, Any]:
    known: dict[str, Any] = {"name": hook.name, "kind": hook.kind, "session": str(hook.session)}
    known |= {"code": hook.code_path, "context": hook.context}
    if hook.kind != "event":
        known |= {"path": hook.source, "answer": hook.answer, "principal": hook.principal}
        known |= {"max_bytes": hook.max_bytes, "secrets": {name: bool(os.environ.get(name)) for name in hook.secrets}}
    return known
