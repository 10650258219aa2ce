"""`lorahub namespace`: shared places for adapters, their members, quotas, and what happened in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hub.formats.sizes import size_text

from .terminal.operator import asking
from .terminal.output import Output, date_text, printing, printing_json

if TYPE_CHECKING:
    from hub.client.admin import AdminClient

ROLES = ("reader", "publisher", "owner")


@click.group("namespace")
def namespace() -> None:
    """Manage namespaces and their members.

    A reader may read private adapters, a publisher may push, an owner may do everything there.
    """


@namespace.command("list")
@asking
@printing
def list_(admin: AdminClient, out: Output) -> None:
    """List the namespaces that you may see."""
    found = admin.namespaces()
    if out.as_json:
        out.json(found)
    elif out.quiet:
        out.lines([item["name"] for item in found])
    else:
        out.rows(("name", "kind", "adapters", "used", "private"), [_row(item) for item in found])


@namespace.command("show")
@click.argument("name")
@asking
@printing_json
def show(admin: AdminClient, name: str, out: Output) -> None:
    """Show a namespace; its members and quotas only to members."""
    found = admin.namespace(name)
    if out.as_json:
        out.json(found)
        return
    out.fields(
        {
            "name": found["name"],
            "kind": found["kind"],
            "private": "yes" if found["private"] else "no",
            "description": found["description"],
            "adapters": str(found["adapters"]),
            "used": size_text(found["used_bytes"]),
            "quota": _quota(found),
            "members": [f"{member['user']} ({member['role']})" for member in found["members"]],
        }
    )


@namespace.command("create")
@click.argument("name")
@click.option("--private", is_flag=True, help="Only members may read it.")
@click.option("--description", default="", help="What it is for.")
@asking
@printing
def create(admin: AdminClient, name: str, private: bool, description: str, out: Output) -> None:
    """Create a shared namespace with yourself as its owner."""
    _say(out, admin.create_namespace(name, private=private, description=description), f"Created {name}.")


@namespace.command("set")
@click.argument("name")
@click.option("--private/--public", required=True, help="Who may read it.")
@asking
@printing
def set_(admin: AdminClient, name: str, private: bool, out: Output) -> None:
    """Make a namespace private or public."""
    state = "private" if private else "public"
    _say(out, admin.set_private(name, private), f"{name} is {state} now.")


@namespace.command("add")
@click.argument("name")
@click.argument("user")
@click.option("--role", type=click.Choice(ROLES), default="reader", show_default=True)
@asking
@printing
def add(admin: AdminClient, name: str, user: str, role: str, out: Output) -> None:
    """Give USER a role in a namespace."""
    _say(out, admin.set_member(name, user, role), f"{user} is {role} of {name} now.")


@namespace.command("remove")
@click.argument("name")
@click.argument("user")
@asking
@printing
def remove(admin: AdminClient, name: str, user: str, out: Output) -> None:
    """Take USER's role in a namespace away."""
    _say(out, admin.set_member(name, user, None), f"{user} has no role in {name} any more.")


@namespace.command("quota")
@click.argument("name")
@click.option("--bytes", "max_bytes", type=click.IntRange(0), help="Bytes it may hold.  [default: unlimited]")
@click.option("--adapters", type=click.IntRange(0), help="Adapters it may hold.  [default: unlimited]")
@asking
@printing
def quota(admin: AdminClient, name: str, max_bytes: int | None, adapters: int | None, out: Output) -> None:
    """Limit what a namespace may hold, as the server's admin."""
    changed = admin.set_quota(name, max_bytes, adapters)
    _say(out, changed, f"{name}: {_quota(changed) or 'unlimited'}.")


@namespace.command("audit")
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@asking
@printing_json
def audit(admin: AdminClient, name: str | None, limit: int, out: Output) -> None:
    """List what was changed in a namespace, newest first; without NAME everywhere, as the server's admin."""
    found = admin.audit_log(name, limit)
    if out.as_json:
        out.json(found)
        return
    rows = [(item["id"], date_text(item["at"]), item["user"], item["action"], item["target"]) for item in found]
    out.rows(("id", "when", "who", "what", "on"), rows)


def _say(out: Output, record: dict[str, Any], sentence: str) -> None:
    if out.as_json:
        out.json(record)
    else:
        out.line(record["name"] if out.quiet else sentence)


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    private = "private" if item["private"] else ""
    return item["name"], item["kind"], item["adapters"], size_text(item["used_bytes"]), private


def _quota(found: dict[str, Any]) -> str:
    parts = []
    if found["quota_bytes"] is not None:
        parts.append(size_text(found["quota_bytes"]))
    if found["quota_adapters"] is not None:
        parts.append(f"{found['quota_adapters']} adapters")
    return ", ".join(parts)
