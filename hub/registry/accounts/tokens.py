"""Tokens: `lhub_` and 256 random bits, kept as a sha256, limited in scope, place and time."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from hub.errors import Forbidden, HubError, InvalidRequest, TokenNotFound, Unauthenticated, Unavailable, UserNotFound
from hub.refs import parse_namespace
from hub.registry.context import Context
from hub.registry.db.models import TokenRow, UserRow
from hub.registry.events import audit
from hub.registry.rights import permissions
from hub.registry.rights.access import SCOPES, Actor
from hub.registry.values import NewToken, Scope, Token

PREFIX = "lhub_"
_SECRET = re.compile(r"lhub_[A-Za-z0-9_-]{43}\Z")
# Writing `last used` on every request would turn each read into a write.
_LAST_USED_STEP = timedelta(minutes=5)


_BY_SECRET = text(
    """
    SELECT tokens.id, tokens.name, tokens.scopes, tokens.namespace, tokens.expires_at, tokens.last_used_at,
           tokens.revoked_at, users.id AS user_id, users.name AS user_name, users.admin, users.disabled
    FROM tokens JOIN users ON users.id = tokens.user_id
    WHERE tokens.secret_sha256 = :secret
    """
).columns(
    TokenRow.id,
    TokenRow.name,
    TokenRow.scopes,
    TokenRow.namespace,
    TokenRow.expires_at,
    TokenRow.last_used_at,
    TokenRow.revoked_at,
    UserRow.id.label("user_id"),
    UserRow.name.label("user_name"),
    UserRow.admin,
    UserRow.disabled,
)


def authenticate(context: Context, secret: str, source: str | None = None, *, may_write: bool | None = True) -> Actor:
    """Return who holds this token.  Raises Unauthenticated for an unknown, expired or revoked one.

    Now and then a token's last use is recorded, which is a write.  If one is due, may_write=False raises Unavailable,
    and None leaves it to the next call.
    """
    if not _SECRET.match(secret):
        raise Unauthenticated("This is not a token of lorahub: those begin with lhub_. Log in: lorahub login")
    now = context.now()
    # One statement, prepared once: every request comes through here.
    found = context.database.fetch_one(_BY_SECRET, {"secret": hash_secret(secret)})
    if found is None:
        raise Unauthenticated("The token is unknown here. Log in again: lorahub login")
    check_usable(found.name, found.revoked_at, found.expires_at, now)
    if found.disabled:
        raise Unauthenticated(f"The user {found.user_name!r} is shut out.")
    if may_write is not None and (found.last_used_at is None or abs(now - found.last_used_at) > _LAST_USED_STEP):
        if not may_write:
            raise Unavailable("The token's use has to be noted first.")
        _note_use(context, found.id, now)
    return Actor(
        user=found.user_name,
        user_id=found.user_id,
        scopes=parse_scopes(found.scopes),
        namespace=found.namespace,
        admin=found.admin,
        token_id=found.id,
        token_name=found.name,
        expires_at=found.expires_at,
        source=source,
    )


def user_of(context: Context, secret: str) -> str | None:
    """Return the user whose good token this is, and None for any other text.  Writes nothing."""
    try:
        return authenticate(context, secret, may_write=None).user
    except Unauthenticated:
        return None


def check_usable(name: str, revoked_at: datetime | None, expires_at: datetime | None, now: datetime) -> None:
    """Raise Unauthenticated, which says why, for a token that no longer counts."""
    if revoked_at is not None:
        raise Unauthenticated(f"The token {name!r} was revoked. Make another: lorahub token create")
    if expires_at is not None and now >= expires_at:
        raise Unauthenticated(f"The token {name!r} expired. Make another: lorahub token create")


def _note_use(context: Context, token_id: int, now: datetime) -> None:
    try:
        context.database.transact(
            lambda session: session.execute(update(TokenRow).where(TokenRow.id == token_id).values(last_used_at=now))
        )
    except HubError:
        # Reads must work when the database can't be written (a full disk): then only the last use goes unrecorded.
        return


def create(
    context: Context,
    actor: Actor,
    name: str,
    scopes: Iterable[Scope] = ("read",),
    *,
    namespace: str | None = None,
    expires_in: timedelta | None = None,
    user: str | None = None,
) -> NewToken:
    """Make a token for oneself (or, as a server admin, for `user`) that can do no more than the actor."""
    wanted = parse_scopes(scopes)
    if user is not None and user != actor.user:
        permissions.require_site(actor)
    _check_not_wider(actor, wanted, namespace)
    if not 1 <= len(name) <= 200:
        raise InvalidRequest("A token's name has 1 to 200 characters. Name where it is used, e.g. build-server.")
    if namespace is not None:
        parse_namespace(namespace)
    expires_at = _expiry(context.now(), expires_in, actor if user in {None, actor.user} else None)

    def work(session: Session) -> NewToken:
        owner = session.scalar(select(UserRow).where(UserRow.name == (user or actor.user)))
        if owner is None:
            raise UserNotFound(f"There is no user {user!r}.")
        made = add(context, session, owner, name, wanted, namespace=namespace, expires_at=expires_at)
        audit.record(
            context,
            session,
            actor,
            "token.create",
            owner.name,
            None,
            token=made.token.id,
            name=name,
            scopes=sorted(wanted),
            limited_to=namespace,
        )
        return made

    return context.database.transact(work)


def _check_not_wider(actor: Actor, scopes: frozenset[Scope], namespace: str | None) -> None:
    if actor.is_anonymous:
        raise Unauthenticated("Making a token takes one. Log in: lorahub login")
    if not actor.has_scope("admin"):
        raise Forbidden("Making tokens takes a token of scope admin.")
    if actor.namespace is not None and namespace != actor.namespace:
        raise Forbidden(f"A token for {actor.namespace!r} alone can only make tokens for {actor.namespace!r}.")
    missing = sorted(scope for scope in scopes if not actor.has_scope(scope))
    if missing:
        raise Forbidden(f"A token can't give more than it has: {', '.join(missing)}.")


def _expiry(now: datetime, expires_in: timedelta | None, maker: Actor | None) -> datetime | None:
    if expires_in is not None and not timedelta(0) < expires_in <= timedelta(days=3650):
        raise InvalidRequest("A token's life is more than nothing and at most ten years.")
    wanted = None if expires_in is None else now + expires_in
    limit = maker.expires_at if maker is not None else None
    if limit is None:
        return wanted
    return limit if wanted is None else min(wanted, limit)


def add(
    context: Context,
    session: Session,
    owner: UserRow,
    name: str,
    scopes: frozenset[Scope],
    *,
    namespace: str | None,
    expires_at: datetime | None,
) -> NewToken:
    """Insert a token; its secret exists only in the answer."""
    secret = PREFIX + secrets.token_urlsafe(32)
    row = TokenRow(
        user_id=owner.id,
        name=name,
        secret_sha256=hash_secret(secret),
        scopes=sorted(scopes),
        namespace=namespace,
        created_at=context.now(),
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return NewToken(_to_token(row, owner.name), secret)


def listing(context: Context, actor: Actor, user: str | None = None) -> tuple[Token, ...]:
    """List one's own tokens (or, as a server admin, those of `user`), revoked ones included."""
    if actor.is_anonymous:
        raise Unauthenticated("Listing tokens takes one. Log in: lorahub login")
    if user is not None and user != actor.user:
        permissions.require_site(actor)
    with context.database.read() as session:
        query = select(TokenRow, UserRow.name).join(UserRow).where(UserRow.name == (user or actor.user))
        if actor.namespace is not None:
            query = query.where(TokenRow.namespace == actor.namespace)
        return tuple(_to_token(row, name) for row, name in session.execute(query.order_by(TokenRow.id)))


def revoke(context: Context, actor: Actor, token_id: int) -> Token:
    """Make a token useless from now on.  Raises TokenNotFound for one that isn't the actor's."""
    if actor.is_anonymous:
        raise Unauthenticated("Revoking a token takes one. Log in: lorahub login")

    def work(session: Session) -> Token:
        found = session.execute(select(TokenRow, UserRow.name).join(UserRow).where(TokenRow.id == token_id)).first()
        if found is None or not _may_revoke(actor, found[0]):
            raise TokenNotFound(f"You have no token number {token_id}. List them: lorahub token list")
        row, owner = found
        if row.revoked_at is None:
            row.revoked_at = context.now()
            audit.record(context, session, actor, "token.revoke", owner, None, token=row.id, name=row.name)
        return _to_token(row, owner)

    return context.database.transact(work)


def _may_revoke(actor: Actor, row: TokenRow) -> bool:
    """A token may always end itself; others of its owner, with scope admin; anyone's, as an admin of the server."""
    if row.id == actor.token_id:
        return True
    if not actor.has_scope("admin") or (actor.namespace is not None and row.namespace != actor.namespace):
        return False
    return row.user_id == actor.user_id or (actor.admin and actor.namespace is None)


def hash_secret(secret: str) -> str:
    """256 random bits can't be guessed, so one round of sha256 keeps them as well as a slow hash would."""
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_scopes(scopes: Iterable[str]) -> frozenset[Scope]:
    """Raise InvalidRequest unless these are scopes."""
    given = list(scopes)
    unknown = sorted(set(given) - set(SCOPES))
    if unknown or not given:
        raise InvalidRequest(f"A token's scopes are one or more of {', '.join(SCOPES)}; not {', '.join(unknown)!r}.")
    return frozenset(scope for scope in SCOPES if scope in given)


def _to_token(row: TokenRow, owner: str) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        user=owner,
        scopes=parse_scopes(row.scopes),
        namespace=row.namespace,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
