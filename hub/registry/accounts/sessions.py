"""Web logins: a random secret in a cookie, its hash in the database, the rights of who logged in."""

from __future__ import annotations

import secrets
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session as DatabaseSession

from hub.errors import Unauthenticated
from hub.registry.accounts import tokens
from hub.registry.context import Context
from hub.registry.db.models import TokenRow, UserRow, WebSessionRow
from hub.registry.events import audit
from hub.registry.rights.access import Actor
from hub.registry.values import Session


def create(context: Context, actor: Actor, lifetime: timedelta = timedelta(days=7)) -> Session:
    """Start a web login with the actor's user, scopes and namespace limit."""
    if actor.user_id is None or actor.user is None:
        raise Unauthenticated("Nobody is logged in.")
    user, user_id = actor.user, actor.user_id
    secret = secrets.token_urlsafe(32)
    now = context.now()
    expires_at = now + lifetime if actor.expires_at is None else min(now + lifetime, actor.expires_at)

    def work(session: DatabaseSession) -> Session:
        session.execute(delete(WebSessionRow).where(WebSessionRow.expires_at <= now))
        row = WebSessionRow(
            secret_sha256=tokens.hash_secret(secret),
            user_id=user_id,
            token_id=actor.token_id,
            scopes=sorted(actor.scopes),
            namespace=actor.namespace,
            created_at=now,
            expires_at=expires_at,
        )
        session.add(row)
        audit.record(context, session, actor, "session.create", user)
        return Session(secret, user, expires_at)

    return context.database.transact(work)


def actor(context: Context, secret: str) -> Actor:
    """Return who is logged in.  Raises Unauthenticated when the session ended or its token was revoked."""
    query = (
        select(WebSessionRow, UserRow, TokenRow)
        .join(UserRow, WebSessionRow.user_id == UserRow.id)
        .outerjoin(TokenRow, WebSessionRow.token_id == TokenRow.id)
        .where(WebSessionRow.secret_sha256 == tokens.hash_secret(secret))
    )
    with context.database.read() as session:
        found = session.execute(query).first()
    if found is None or context.now() >= found[0].expires_at or found[1].disabled:
        raise Unauthenticated("The login ended. Log in again.")
    row, user, token = found
    if token is not None:
        tokens.check_usable(token.name, token.revoked_at, token.expires_at, context.now())
    return Actor(
        user=user.name,
        user_id=user.id,
        scopes=tokens.parse_scopes(row.scopes),
        namespace=row.namespace,
        admin=user.admin,
        token_id=row.token_id,
        token_name=token.name if token is not None else None,
        expires_at=row.expires_at,
        source="web",
    )


def end(context: Context, secret: str) -> None:
    """Log out; an unknown session is no error."""

    def work(session: DatabaseSession) -> None:
        found = session.execute(
            select(WebSessionRow, UserRow)
            .join(UserRow, WebSessionRow.user_id == UserRow.id)
            .where(WebSessionRow.secret_sha256 == tokens.hash_secret(secret))
        ).first()
        if found is None:
            return
        row, user = found
        who = Actor(user.name, user.id, frozenset(), token_id=row.token_id, source="web")
        session.delete(row)
        audit.record(context, session, who, "session.end", user.name)

    context.database.transact(work)
