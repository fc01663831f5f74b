"""The commands of this part alone, as a user starts `caesarion`: `python -m tests.broker.command events ...`."""

from caesarion_cli import events
from caesarion_cli.manifests import manifests
from caesarion_cli.options import command_group

app = command_group("Commands of the broker.")
app.add_typer(events.group, name="events")
app.command()(manifests)

if __name__ == "__main__":
    app()
