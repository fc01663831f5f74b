"""What the commands have in common: options, the connection they stand for, and how groups of commands are made."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from caesarion.settings import Secret
from caesarion_cli.client import Api

DEFAULT_URL = "http://127.0.0.1:8080"


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise typer.BadParameter(f"must be like {DEFAULT_URL}, got {url!r}.")
    return url


Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="CAESARION_URL",
        callback=_checked_url,
        help="Where the product answers.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for scripts; failures too, on stderr.")]
Session = Annotated[
    str | None, typer.Option("--session", metavar="ID", help="Use this session, made if it is new; it stays.")
]
KnownSession = Annotated[str, typer.Option("--session", metavar="ID", help="The session.")]
Context = Annotated[str, typer.Option("--context", metavar="NAME", help="Kernel of the session, made if it is new.")]
SaveDir = Annotated[
    Path,
    typer.Option("--save-dir", metavar="DIR", file_okay=False, help="Where pictures are saved.", show_default="here"),
]


def command_group(help_text: str, *, epilog: str | None = None) -> typer.Typer:
    """Return an empty group of commands. Its help is plain text, which is quick to make."""
    return typer.Typer(
        help=help_text,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


@contextmanager
def connected(url: str) -> Iterator[Api]:
    """Give a connection to `url`, with the key of CAESARION_API_KEY."""
    key = os.environ.get("CAESARION_API_KEY", "").strip()
    if not key.isascii() or not key.isprintable():
        raise typer.BadParameter("CAESARION_API_KEY has characters that no key has.")
    api = Api(url, Secret(key))
    try:
        yield api
    finally:
        api.close()
