"""Addresses and tokens that carry a right by themselves: for requests that Hugging Face clients send without ours.

A client sends no token to an upload address, and Xet has tokens of its own.  Both are signed here, for one adapter and
a short time, with the rights of the one who asked and never more: a role that was taken away since is gone here, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from itsdangerous import BadSignature, URLSafeTimedSerializer

from hub.errors import HubError
from hub.refs import AdapterName
from hub.registry.access import ANONYMOUS, SCOPES, Actor

from .identity import registry


@dataclass(frozen=True, slots=True)
class Grant:
    """What a signature stands for: an actor, the adapter that it is limited to, and what the signer noted."""

    actor: Actor
    repo: AdapterName
    claims: dict[str, Any]


def sign(purpose: str, actor: Actor, repo: AdapterName, **claims: Any) -> str:
    """Return a text that lets its bearer do `purpose` on `repo` as `actor`."""
    who = [actor.user, sorted(actor.scopes), actor.namespace]
    return _serializer(purpose).dumps({"who": who, "repo": str(repo), **claims})


def read(purpose: str, text: str, max_age_seconds: int, refusal: HubError) -> Grant:
    """Return what `sign` wrote.  Raises `refusal` if it is forged, for another purpose, or too old."""
    try:
        claims: dict[str, Any] = _serializer(purpose).loads(text, max_age=max_age_seconds)
    except BadSignature as error:
        raise refusal from error
    return Grant(_actor(*claims.pop("who")), AdapterName.parse(claims.pop("repo")), claims)


def _actor(user: str | None, scopes: list[str], namespace: str | None) -> Actor:
    if user is None:
        return ANONYMOUS
    return registry().actor_for_user(user, [scope for scope in SCOPES if scope in scopes], namespace)


def _serializer(purpose: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(registry().secret_key(), salt=f"lorahub.hf.{purpose}")
