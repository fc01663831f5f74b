"""The `caesarion` command: its commands put together. Heavy libraries are imported by the commands that need them."""

from typing import Annotated

import typer

from caesarion_cli import events, files, hooks, keys, sessions
from caesarion_cli.chat import chat
from caesarion_cli.failures import EXIT_CODES
from caesarion_cli.manifests import manifests
from caesarion_cli.options import command_group
from caesarion_cli.repl import repl
from caesarion_cli.run import run

app = command_group("Run Python in sandboxes of their own.", epilog=EXIT_CODES)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"caesarion {version('caesarion-cli')}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES)
def _caesarion(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run Python in sandboxes of their own."""


app.command()(run)
app.command()(repl)
app.command()(chat)
app.add_typer(files.group, name="files")
app.add_typer(sessions.group, name="sessions")
app.command()(sessions.notebook)
app.add_typer(events.group, name="events")
app.add_typer(hooks.group, name="hooks")
app.command()(manifests)
app.add_typer(keys.group, name="keys")


@app.command()
def serve() -> None:
    """Start the product on 127.0.0.1:8080 (PORT=); Ctrl-C ends it and all its sandboxes."""
    from caesarion_cli.serve import main as serve_main

    raise typer.Exit(serve_main())


def main() -> None:
    """Run the command line."""
    app()
