"""`lorahub user`: the server's admin makes users, shuts them out, lets them in again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .terminal.operator import asking
from .terminal.output import Output, date_text, printing

if TYPE_CHECKING:
    from hub.client.admin import AdminClient


@click.group("user")
def user() -> None:
    """Manage users, as the server's admin.

    A new user gets a namespace of the same name.  Make them a token with: lorahub token create NAME --user USER
    """


@user.command("list")
@asking
@printing
def list_(admin: AdminClient, out: Output) -> None:
    """List all users."""
    found = admin.users()
    if out.as_json:
        out.json(found)
    elif out.quiet:
        out.lines([item["name"] for item in found])
    else:
        out.rows(("name", "role", "since", "state"), [_row(item) for item in found])


@user.command("create")
@click.argument("name")
@click.option("--admin", "is_admin", is_flag=True, help="May do everything on this server.")
@asking
@printing
def create(admin: AdminClient, name: str, is_admin: bool, out: Output) -> None:
    """Create a user with a namespace of the same name."""
    made = admin.create_user(name, admin=is_admin)
    _say(out, made, f"Created {name}. Next: lorahub token create laptop --user {name} --scope publish")


@user.command("disable")
@click.argument("name")
@asking
@printing
def disable(admin: AdminClient, name: str, out: Output) -> None:
    """Shut a user out: tokens and logins stop working at once.  What they published stays."""
    _say(out, admin.set_disabled(name, True), f"{name} is shut out. Back in: lorahub user enable {name}")


@user.command("enable")
@click.argument("name")
@asking
@printing
def enable(admin: AdminClient, name: str, out: Output) -> None:
    """Let a user in again."""
    _say(out, admin.set_disabled(name, False), f"{name} may log in again.")


def _say(out: Output, record: dict[str, Any], sentence: str) -> None:
    if out.as_json:
        out.json(record)
    else:
        out.line(record["name"] if out.quiet else sentence)


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    state = "shut out" if item["disabled"] else ""
    return item["name"], "admin" if item["admin"] else "user", date_text(item["created_at"]), state
