"""`caesarion sessions` and `caesarion notebook`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from caesarion.ids import DEFAULT_CONTEXT
from caesarion_cli.failures import failures_told
from caesarion_cli.listings import moment, size, table
from caesarion_cli.options import DEFAULT_URL, AsJson, Url, command_group, connected
from caesarion_cli.transfers import save, target_of

group = command_group("Own sessions.")


@group.command("ls")
def ls(as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """List own sessions, oldest first."""
    with failures_told(as_json=as_json), connected(url) as api:
        document = api.sessions()
        if as_json:
            print(json.dumps(document))
            return
        rows = [
            (
                session["id"],
                session["state"],
                size(session.get("memory_bytes")),
                size(session.get("disk_bytes")),
                moment(session.get("last_activity_at")),
            )
            for session in document["sessions"]
        ]
        print(table(("ID", "STATE", "MEMORY", "DISK", "LAST USED"), rows))


@group.command("new")
def new(
    idle_timeout: Annotated[
        float | None,
        typer.Option("--idle-timeout", metavar="SECONDS", min=1, help="Time without use after which it is suspended."),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Make a session and print its id."""
    with failures_told(as_json=as_json), connected(url) as api:
        document = api.new_session(idle_timeout_s=idle_timeout)
        print(json.dumps(document) if as_json else document["id"])


@group.command("rm")
def rm(
    sessions: Annotated[list[str], typer.Argument(metavar="ID...", help="Sessions to close.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Close sessions: variables and files are gone. One that is not there is as good."""
    with failures_told(as_json=as_json), connected(url) as api:
        for session in sessions:
            api.close_session(session)
            if not as_json:
                print(f"closed {session}")
        if as_json:
            print(json.dumps({"closed": sessions}))


def notebook(
    session: Annotated[str, typer.Argument(metavar="SESSION", help="The session.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE|-", help="Where to.", show_default="SESSION.ipynb"),
    ] = None,
    context: Annotated[str, typer.Option("--context", metavar="NAME", help="Kernel of the session.")] = DEFAULT_CONTEXT,
    url: Url = DEFAULT_URL,
) -> None:
    """Save what ran in a session as a Jupyter notebook, outputs included."""
    with failures_told(), connected(url) as api, api.notebook(session, context) as download:
        save(download, target_of(output, f"{session}.ipynb"))
