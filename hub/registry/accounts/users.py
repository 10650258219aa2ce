"""Users: the first one, the others, their passwords, and who is shut out."""

from __future__ import annotations

from collections.abc import Iterable

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hub.errors import Conflict, InvalidRequest, Unauthenticated, UserNotFound
from hub.refs import parse_namespace
from hub.registry.accounts import namespaces, tokens
from hub.registry.context import Context
from hub.registry.db.models import UserRow, WebSessionRow
from hub.registry.events import audit
from hub.registry.rights import permissions
from hub.registry.rights.access import ALL_SCOPES, SCOPES, Actor
from hub.registry.values import NewToken, Scope, User

FIRST_USER = "admin"
MIN_PASSWORD_LENGTH = 12
MAX_PASSWORD_LENGTH = 1_000


def first_start(context: Context) -> NewToken | None:
    def work(session: Session) -> NewToken | None:
        if session.scalar(select(func.count()).select_from(UserRow)):
            return None
        user = _add_user(context, session, FIRST_USER, admin=True, password=None)
        actor = Actor(user.name, user.id, ALL_SCOPES, admin=True)
        token = tokens.add(context, session, user, "first start", ALL_SCOPES, namespace=None, expires_at=None)
        audit.record(context, session, actor, "server.start", FIRST_USER, token=token.token.id)
        return token

    return context.database.transact(work)


def create(context: Context, actor: Actor, name: str, *, admin: bool, password: str | None) -> User:
    permissions.require_site(actor)

    def work(session: Session) -> User:
        row = _add_user(context, session, name, admin=admin, password=password)
        audit.record(context, session, actor, "user.create", name, admin=admin)
        return _to_user(row)

    return context.database.transact(work)


def _add_user(context: Context, session: Session, name: str, *, admin: bool, password: str | None) -> UserRow:
    parse_namespace(name)
    if session.scalar(select(UserRow.id).where(UserRow.name == name)) is not None:
        raise Conflict(f"The user {name!r} exists. Choose another name.")
    hashed = None if password is None else hash_password(password)
    row = UserRow(name=name, admin=admin, password_hash=hashed, created_at=context.now())
    session.add(row)
    session.flush()
    namespaces.add(context, session, name, "personal", row.id)
    return row


def listing(context: Context, actor: Actor) -> tuple[User, ...]:
    permissions.require_site(actor)
    with context.database.read() as session:
        return tuple(_to_user(row) for row in session.scalars(select(UserRow).order_by(UserRow.name)))


def set_password(context: Context, actor: Actor, name: str, password: str) -> None:
    if actor.user != name or not actor.has_scope("admin") or actor.namespace is not None:
        permissions.require_site(actor)
    hashed = hash_password(password)

    def work(session: Session) -> None:
        row = _find(session, name)
        row.password_hash = hashed
        # Whoever knew the old password must not stay logged in with it.
        session.execute(update(WebSessionRow).where(WebSessionRow.user_id == row.id).values(expires_at=context.now()))
        audit.record(context, session, actor, "user.password", name)

    context.database.transact(work)


def disable(context: Context, actor: Actor, name: str, *, disabled: bool) -> User:
    permissions.require_site(actor)

    def work(session: Session) -> User:
        row = _find(session, name)
        if disabled and row.id == actor.user_id:
            raise Conflict("You can't shut yourself out. Let another admin do it.")
        row.disabled = disabled
        audit.record(context, session, actor, "user.disable" if disabled else "user.enable", name)
        return _to_user(row)

    return context.database.transact(work)


def actor_for(context: Context, user: str, scopes: Iterable[Scope], namespace: str | None) -> Actor:
    with context.database.read() as session:
        row = _find(session, user)
        if row.disabled:
            raise Unauthenticated(f"The user {user!r} is shut out.")
        return Actor(row.name, row.id, frozenset(scopes), namespace, row.admin)


def login(context: Context, user: str, password: str) -> Actor:
    with context.database.read() as session:
        row = session.scalar(select(UserRow).where(UserRow.name == user))
    # A user who isn't there costs as much time as a wrong password, so that names can't be found out by the clock.
    stored = row.password_hash if row is not None and row.password_hash else _NOBODY
    try:
        PasswordHasher().verify(stored, password[:MAX_PASSWORD_LENGTH])
    except (VerificationError, InvalidHashError) as error:
        raise Unauthenticated("User or password is wrong.") from error
    if row is None or row.disabled or row.password_hash is None:
        raise Unauthenticated("User or password is wrong.")
    return Actor(row.name, row.id, frozenset(SCOPES), None, row.admin)


def hash_password(password: str) -> str:
    """Return the argon2id hash.  Raises InvalidRequest for a password that is too short or too long."""
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise InvalidRequest(f"A password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters.")
    return str(PasswordHasher().hash(password))


# argon2id of a random password that nobody kept.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$dXx0BQuEL0RW2TYxlYTODA$m3sPS54WcSGf/AmpFjDOF7MZs7cDtZ7eS5qi0nrj2iM"


def _find(session: Session, name: str) -> UserRow:
    row = session.scalar(select(UserRow).where(UserRow.name == name))
    if row is None:
        raise UserNotFound(f"There is no user {name!r}.")
    return row


def _to_user(row: UserRow) -> User:
    return User(row.name, row.admin, row.created_at, row.disabled)
