"""`caesarion files`: files to a session and back."""

import json
from pathlib import Path
from typing import Annotated

import typer

from caesarion.ids import new_id
from caesarion_cli.failures import failures_told
from caesarion_cli.listings import moment, printable, size, table
from caesarion_cli.options import DEFAULT_URL, AsJson, KnownSession, Session, Url, command_group, connected
from caesarion_cli.transfers import put as put_all
from caesarion_cli.transfers import save, target_of, uploads_of

group = command_group("Files to a session and back. Names are relative to /uploaded_files/, where the code works.")


@group.command()
def put(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files to upload; - is standard input.")],
    session: Session = None,
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Name in the session, for one file.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Upload files, in place of their namesakes. Without --session into a new one, whose id is printed."""
    uploads = uploads_of(paths, name)
    with failures_told(as_json=as_json), connected(url) as api:
        session_id = session if session is not None else new_id("s")
        api.initialize(session_id)
        if session is None and not as_json:
            print(session_id, flush=True)
        stored = put_all(api, session_id, uploads)
        if as_json:
            print(json.dumps({"session": session_id, "files": stored}))


@group.command()
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="File of the session.")],
    session: KnownSession,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="PATH|-", help="File, folder or standard output.", show_default="its name"
        ),
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Download a file: all of it, or nothing is changed here."""
    with failures_told(), connected(url) as api, api.file(session, name) as download:
        save(download, target_of(output, name))


@group.command("ls")
def ls(session: KnownSession, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """List the files of a session."""
    with failures_told(as_json=as_json), connected(url) as api:
        document = api.files(session)
        if as_json:
            print(json.dumps(document))
        else:
            rows = [
                (entry["path"], size(entry["size_bytes"]), moment(entry["modified_at"])) for entry in document["files"]
            ]
            print(table(("NAME", "SIZE", "MODIFIED"), rows))


@group.command("rm")
def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Files of the session.")],
    session: KnownSession,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Remove files; the first that is not there ends it."""
    with failures_told(as_json=as_json), connected(url) as api:
        for name in names:
            api.delete_file(session, name)
            if not as_json:
                print(f"removed {printable(name)}")
        if as_json:
            print(json.dumps({"removed": names}))
