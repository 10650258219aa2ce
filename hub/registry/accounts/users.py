"""Users: the first one, the others, and who is shut out."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.errors import Conflict, Unauthenticated, UserNotFound
from hub.refs import parse_namespace
from hub.registry.accounts import namespaces, tokens
from hub.registry.context import Context
from hub.registry.db.models import UserRow
from hub.registry.events import audit
from hub.registry.rights import permissions
from hub.registry.rights.access import ALL_SCOPES, Actor
from hub.registry.values import NewToken, Scope, User

FIRST_USER = "admin"


def first_start(context: Context) -> NewToken | None:
    """Create the user `admin` with an admin token if there is no user yet; None ever after."""

    def work(session: Session) -> NewToken | None:
        if session.scalar(select(func.count()).select_from(UserRow)):
            return None
        try:
            user = _add_user(context, session, FIRST_USER, admin=True)
        except Conflict:  # another server's first start finished between the two queries
            return None
        actor = Actor(user.name, user.id, ALL_SCOPES, admin=True)
        token = tokens.add(context, session, user, "first start", ALL_SCOPES, namespace=None, expires_at=None)
        audit.record(context, session, actor, "server.start", FIRST_USER, token=token.token.id)
        return token

    return context.database.transact(work)


def create(context: Context, actor: Actor, name: str, *, admin: bool = False) -> User:
    """Create a user with a personal namespace of the same name.  SITE.  Raises Conflict if taken."""
    permissions.require_site(actor)

    def work(session: Session) -> User:
        row = _add_user(context, session, name, admin=admin)
        audit.record(context, session, actor, "user.create", name, admin=admin)
        return _to_user(row)

    return context.database.transact(work)


def _add_user(context: Context, session: Session, name: str, *, admin: bool) -> UserRow:
    parse_namespace(name)
    if session.scalar(select(UserRow.id).where(UserRow.name == name)) is not None:
        raise Conflict(f"The user {name!r} exists. Choose another name.")
    row = UserRow(name=name, admin=admin, created_at=context.now())
    session.add(row)
    session.flush()
    namespaces.add(context, session, name, "personal", row.id)
    return row


def listing(context: Context, actor: Actor) -> tuple[User, ...]:
    """SITE."""
    permissions.require_site(actor)
    with context.database.read() as session:
        return tuple(_to_user(row) for row in session.scalars(select(UserRow).order_by(UserRow.name)))


def disable(context: Context, actor: Actor, name: str, *, disabled: bool = True) -> User:
    """Shut a user out (tokens and sessions stop working at once), or let them in again.  SITE."""
    permissions.require_site(actor)

    def work(session: Session) -> User:
        row = _find(session, name)
        if disabled and row.id == actor.user_id:
            raise Conflict("You can't shut yourself out. Let another admin do it.")
        row.disabled = disabled
        audit.record(context, session, actor, "user.disable" if disabled else "user.enable", name)
        return _to_user(row)

    return context.database.transact(work)


def actor_for(
    context: Context, user: str, scopes: Iterable[Scope] = ("read", "publish"), namespace: str | None = None
) -> Actor:
    """Return an actor for a user whom the caller has authenticated in another way, e.g. by a signed URL."""
    with context.database.read() as session:
        row = _find(session, user)
        if row.disabled:
            raise Unauthenticated(f"The user {user!r} is shut out.")
        return Actor(row.name, row.id, frozenset(scopes), namespace, row.admin)


def _find(session: Session, name: str) -> UserRow:
    row = session.scalar(select(UserRow).where(UserRow.name == name))
    if row is None:
        raise UserNotFound(f"There is no user {name!r}.")
    return row


def _to_user(row: UserRow) -> User:
    return User(row.name, row.admin, row.created_at, row.disabled)
