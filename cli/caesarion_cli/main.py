"""The `caesarion` command."""

import typer

app = typer.Typer(help="Run Python in sandboxes of their own.", no_args_is_help=True, add_completion=False)


@app.callback()
def _caesarion() -> None:
    """Run Python in sandboxes of their own."""


@app.command()
def serve() -> None:
    """Start the product on 127.0.0.1:8080 (PORT=); Ctrl-C ends it and all its sandboxes."""
    from caesarion_cli.serve import main as serve_main

    raise typer.Exit(serve_main())


def main() -> None:
    """Run the command line."""
    app()
