"""`caesarion keys`: who may ask, where others than this machine's user can reach the product."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from caesarion.adapters.key_file import KeyFile
from caesarion.errors import InvalidRequest
from caesarion.settings import LocalSettings, Reader
from caesarion_cli.failures import Failure, failures_told
from caesarion_cli.listings import moment, table
from caesarion_cli.options import AsJson, command_group

group = command_group(
    "API keys of the product that this machine runs, in CAESARION_HOME. Once there is one, every request needs one; "
    "a change counts within a second."
)


@group.command()
def add(
    principal: Annotated[str, typer.Argument(metavar="PRINCIPAL", help="Whose key it is; sessions belong to it.")],
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: this is the only time that it can be seen."""
    with failures_told(as_json=as_json):
        try:
            key, record = _key_file().add(principal)
        except InvalidRequest as error:
            raise typer.BadParameter(error.message, param_hint="PRINCIPAL") from error
        except OSError as exc:
            raise _failure(exc) from exc
        if as_json:
            print(json.dumps({"id": record.id, "principal": principal, "created_at": record.created_at, "key": key}))
            return
        print(key)
        print(
            f"caesarion: this is the key {record.id} of {principal}; it is not shown again. Commands read it from "
            "CAESARION_API_KEY, programs send it as `Authorization: Bearer KEY`.",
            file=sys.stderr,
        )


@group.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the keys by their ids; the keys themselves are not kept."""
    with failures_told(as_json=as_json):
        try:
            records = _key_file().records()
        except OSError as exc:
            raise _failure(exc) from exc
        if as_json:
            told = [{"id": key.id, "principal": key.principal, "created_at": key.created_at} for key in records]
            print(json.dumps({"keys": told}))
        else:
            rows = [(key.id, key.principal, moment(key.created_at)) for key in records]
            print(table(("ID", "PRINCIPAL", "MADE"), rows))


@group.command("rm")
def rm(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as `keys ls` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Remove a key; who has it is refused from then on."""
    with failures_told(as_json=as_json):
        try:
            removed = _key_file().remove(key_id)
        except OSError as exc:
            raise _failure(exc) from exc
        if not removed:
            raise Failure(f"There is no key {key_id!r}. `caesarion keys ls` lists them.", code="key_not_found")
        print(json.dumps({"removed": key_id}) if as_json else f"removed {key_id}")


def _key_file() -> KeyFile:
    """Return the key file of CAESARION_HOME. Raises ConfigError."""
    reader = Reader(os.environ)
    home = reader.group(LocalSettings).home
    reader.check()
    return KeyFile(Path(home) / "keys.json")


def _failure(exc: OSError) -> Failure:
    return Failure(f"The key file {exc.filename!r} cannot be used: {exc.strerror}.", code="key_file")
