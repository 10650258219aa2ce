"""Signed URLs and tokens, for requests that Hugging Face clients send without our token.

A client sends no token to an upload URL, and Xet has tokens of its own.  Both are signed here, for one adapter and a
short time.  They never grant more than the signer's current rights: losing a role or revoking the token takes effect
here, too.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from itsdangerous import BadSignature, URLSafeTimedSerializer

from hub.errors import HubError
from hub.refs import AdapterName
from hub.registry.accounts.tokens import PREFIX
from hub.registry.rights.access import ANONYMOUS, SCOPES, Actor
from hub.registry.service import Registry

from ..http.identity import registry

XET_WRITE, XET_READ = "xet", "xet-read"
XET_TOKEN_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Grant:
    """What a signature grants: an actor, the adapter that it is limited to, and the signer's own data."""

    actor: Actor
    repo: AdapterName
    claims: dict[str, Any]


def sign(purpose: str, actor: Actor, repo: AdapterName, **claims: Any) -> str:
    """Return a text that lets its bearer do `purpose` on `repo` as `actor`."""
    who = [actor.user, sorted(actor.scopes), actor.namespace, actor.token_id]
    return _serializer(purpose).dumps({"who": who, "repo": str(repo), **claims})


def read(purpose: str, text: str, max_age_seconds: int, refusal: HubError) -> Grant:
    """Return what `sign` wrote.  Raises `refusal` if it is forged, for another purpose, or expired."""
    try:
        claims: dict[str, Any] = _serializer(purpose).loads(text, max_age=max_age_seconds)
    except BadSignature as error:
        raise refusal from error
    actor = _actor(*claims.pop("who"))
    if actor is None:
        raise refusal
    return Grant(actor, AdapterName.parse(claims.pop("repo")), claims)


def signer_of(registry: Registry, text: str) -> str | None:
    """Return who signed this Xet token, even if the right is gone; None for any other text or an unknown signer."""
    if text.startswith(PREFIX):
        return None
    for purpose in (XET_WRITE, XET_READ):
        with suppress(BadSignature):
            claims = _serializer_of(registry, purpose).loads(text, max_age=XET_TOKEN_SECONDS)
            return cast("str | None", claims["who"][0])
    return None


def _actor(user: str | None, scopes: list[str], namespace: str | None, token_id: int | None) -> Actor | None:
    """Return the signer with its current rights; None if the token it used is no longer valid."""
    if user is None:
        return ANONYMOUS
    if token_id is None:  # named users always sign with a token: refuse
        return None
    actor = registry().users.actor_for(user, [scope for scope in SCOPES if scope in scopes], namespace)
    now = datetime.now(UTC)
    good = (
        t
        for t in registry().tokens.list(actor)
        if t.revoked_at is None and (t.expires_at is None or t.expires_at > now)
    )
    # Whatever this actor signs in turn must be revoked with the same token.
    return replace(actor, token_id=token_id) if any(token.id == token_id for token in good) else None


def _serializer(purpose: str) -> URLSafeTimedSerializer:
    return _serializer_of(registry(), purpose)


def _serializer_of(opened: Registry, purpose: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(opened.secret_key(), salt=f"lorahub.hf.{purpose}")
