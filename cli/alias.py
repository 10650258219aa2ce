"""`lorahub alias`: movable names of versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from hub.refs import UNCHECKED, AdapterRef, parse_alias

from .terminal.options import REF, registry_option
from .terminal.output import Output, date_text, note, printing

if TYPE_CHECKING:
    from hub.client.api import Client


class Wanted(TypedDict):
    """What is to happen to the alias."""

    expect: str | None
    protected: bool | None
    delete: bool
    history: bool


@click.command()
@click.argument("ref", type=REF)
@click.argument("alias", required=False)
@click.option("--expect", metavar="vN|none", help="Move it only if it points there now.")
@click.option("--protected/--unprotected", default=None, help="Whether only owners may move it.")
@click.option("--delete", is_flag=True, help="Remove the alias.")
@click.option("--history", is_flag=True, help="Show its moves, newest first.")
@registry_option
@printing
def alias(
    ref: AdapterRef,
    alias: str | None,
    registry: str | None,
    out: Output,
    **wanted: Unpack[Wanted],
) -> None:
    """Point ALIAS at the version REF; without ALIAS, list the aliases.

    \b
        lorahub alias task/qa                   every alias
        lorahub alias task/qa@v3 prod           @prod is v3 from now on
        lorahub alias task/qa@v3 prod --expect v2
        lorahub alias task/qa prod --delete
    """
    from hub.api import client_settings
    from hub.client.api import Client

    if wanted["delete"] and wanted["history"]:
        raise click.UsageError("--delete and --history exclude each other")
    if alias is None and (wanted["delete"] or wanted["history"] or wanted["expect"] or wanted["protected"] is not None):
        raise click.UsageError("name the alias, e.g.: lorahub alias task/qa@v3 prod")
    with Client(client_settings(registry)) as client:
        if alias is None:
            _list(client, ref, out)
        elif wanted["history"]:
            _history(client, ref, alias, out)
        elif wanted["delete"]:
            client.delete_alias(ref.adapter, parse_alias(alias))
            note(f"{ref.adapter}@{alias} is gone. Its version is still there.")
        else:
            _move(client, ref, alias, wanted, out)


def _move(client: Client, ref: AdapterRef, alias: str, wanted: Wanted, out: Output) -> None:
    name = parse_alias(alias)
    version = ref.version or client.resolve(ref).version
    expected = UNCHECKED if wanted["expect"] is None else _expected(wanted["expect"])
    moved = client.set_alias(ref.adapter, name, version, expected=expected, protected=wanted["protected"])
    if out.as_json:
        out.json({"adapter": str(ref.adapter), "alias": moved.alias, "version": version, "protected": moved.protected})
    else:
        out.line(f"{ref.adapter}@{moved.alias}" if out.quiet else f"{ref.adapter}@{moved.alias} -> {moved.version}")


def _expected(text: str) -> int | None:
    if text == "none":
        return None
    number = AdapterRef.parse(f"a/b@{text}").version
    if number is None:
        raise click.UsageError("--expect takes a version such as v2, or none")
    return number


def _list(client: Client, ref: AdapterRef, out: Output) -> None:
    adapter = client.adapter(ref.adapter)
    if out.as_json:
        out.json(adapter.raw.get("aliases", []))
    elif out.quiet:
        out.lines([item.alias for item in adapter.aliases])
    elif adapter.aliases:
        rows = [(item.alias, item.version, "yes" if item.protected else "") for item in adapter.aliases]
        out.rows(("alias", "version", "protected"), rows)
    else:
        note(f"{ref.adapter} has no aliases but @latest. Make one: lorahub alias {ref.adapter}@v1 prod")


def _history(client: Client, ref: AdapterRef, alias: str, out: Output) -> None:
    moves = client.alias_history(ref.adapter, alias)
    if out.as_json:
        out.json(moves)
        return
    rows = [
        (date_text(str(move.get("at"))), _number(move.get("from")), _number(move.get("to")), move.get("by"))
        for move in moves
    ]
    out.rows(("at", "from", "to", "by"), rows)


def _number(value: object) -> str:
    return "" if value is None else f"v{value}"
