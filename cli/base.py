"""`lorahub base`: the models that adapters were trained for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .terminal.operator import asking
from .terminal.output import Output, printing, printing_json

if TYPE_CHECKING:
    from hub.client.admin import AdminClient


@click.group("base")
def base() -> None:
    """See which base models adapters were trained for."""


@base.command("list")
@asking
@printing
def list_(admin: AdminClient, out: Output) -> None:
    """List the bases of the adapters that you may read, the most used first."""
    found = admin.bases()
    if out.as_json:
        out.json(found)
    elif out.quiet:
        out.lines([item["id"] for item in found])
    else:
        out.rows(("base", "adapters", "also called"), [_row(item) for item in found])


@base.command("show")
@click.argument("name")
@asking
@printing_json
def show(admin: AdminClient, name: str, out: Output) -> None:
    """Show a base by its id or another of its names."""
    _print(admin.base(name), out)


@base.command("rename")
@click.argument("name")
@click.argument("new_id")
@asking
@printing_json
def rename(admin: AdminClient, name: str, new_id: str, out: Output) -> None:
    """Give a base another id, as the server's admin; the old one stays as a name of it."""
    _print(admin.update_base(name, new_id=new_id), out)


@base.command("pin")
@click.argument("name")
@click.argument("fingerprint")
@click.option("--undo", is_flag=True, help="Stand for it no longer.")
@asking
@printing_json
def pin(admin: AdminClient, name: str, fingerprint: str, undo: bool, out: Output) -> None:
    """Say, as the server's admin, that a base has this fingerprint: of its kind it alone judges from now on."""
    _print(admin.update_base(name, **{"unpin" if undo else "pin": [fingerprint]}), out)


def _print(found: dict[str, Any], out: Output) -> None:
    if out.as_json:
        out.json(found)
        return
    out.fields(
        {
            "base": found["id"],
            "revision": found["revision"],
            "also called": found["aliases"],
            "copy of": found["parent"],
            "copies": found["children"],
            "adapters": str(found["adapters"]),
            "weights": [fingerprint[:19] for fingerprint in found["weights"]],
            "disputed": [fingerprint[:19] for fingerprint in found.get("disputed", [])],
        }
    )


def _row(item: dict[str, Any]) -> tuple[str, str, str]:
    return item["id"], str(item["adapters"]), ", ".join(item["aliases"])
