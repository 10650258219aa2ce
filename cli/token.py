"""`lorahub token`: make, list and revoke tokens; make one on the server when all are lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .terminal.operator import asking, open_registry, server_options
from .terminal.output import Output, date_text, note, printing

if TYPE_CHECKING:
    from hub.client.admin import AdminClient

SCOPES = ("read", "publish", "admin")


@click.group("token")
def token() -> None:
    """Make, list and revoke tokens.

    A token says who you are and what may be done with it: read, publish, admin.  It can be limited to one namespace
    and to a number of days.  The server keeps only its hash.
    """


@token.command("create")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), default=("read",), show_default=True)
@click.option("--namespace", help="The only namespace that the token may act in.")
@click.option("--days", type=click.IntRange(1, 36_500), help="Days until it expires.  [default: never]")
@click.option("--user", help="Make it for this user, as the server's admin.")
@asking
@printing
def create(
    admin: AdminClient,
    name: str,
    scopes: tuple[str, ...],
    namespace: str | None,
    days: int | None,
    user: str | None,
    out: Output,
) -> None:
    """Make a token called NAME and print its secret, this once."""
    made = admin.create_token(name, scopes, namespace=namespace, expires_in_days=days, user=user)
    if out.as_json:
        out.json(made)
        return
    note(f"Token {made['id']} of {made['user']} ({', '.join(made['scopes'])}). Its secret is shown this once:")
    out.line(made["secret"])


@token.command("list")
@click.option("--user", help="Whose, as the server's admin.")
@asking
@printing
def list_(admin: AdminClient, user: str | None, out: Output) -> None:
    """List your tokens."""
    found = admin.tokens(user)
    if out.as_json:
        out.json(found)
    elif out.quiet:
        out.lines([str(item["id"]) for item in found])
    else:
        out.rows(("id", "name", "scopes", "namespace", "expires", "last used", "state"), [_row(item) for item in found])


@token.command("revoke")
@click.argument("token_id", type=click.IntRange(1))
@asking
@printing
def revoke(admin: AdminClient, token_id: int, out: Output) -> None:
    """Make a token useless from now on."""
    revoked = admin.revoke_token(token_id)
    if out.as_json:
        out.json(revoked)
    else:
        out.line(str(token_id) if out.quiet else f"Revoked token {token_id}, {revoked['name']!r} of {revoked['user']}.")


@token.command("recover")
@click.option("--user", default="admin", show_default=True, help="Whose token to make.")
@server_options
def recover(user: str, data: Path | None, database: str | None, store: str | None) -> None:
    """Make an admin token in the database itself: for the operator, when every token is lost.

    Runs on the server's machine, with the same --data or --database as `lorahub serve`.
    """
    with open_registry(data, database, store) as registry:
        actor = registry.users.actor_for(user, ("read", "publish", "admin"))
        made = registry.tokens.create(actor, "recovered", ("read", "publish", "admin"))
    note(f"Token {made.token.id} of {user}. Its secret is shown this once:")
    click.echo(made.secret)


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    state = "revoked" if item["revoked_at"] else "active"
    expires, used = (date_text(item[name] or "") for name in ("expires_at", "last_used_at"))
    return item["id"], item["name"], item["scopes"], item["namespace"], expires or "never", used or "never", state
