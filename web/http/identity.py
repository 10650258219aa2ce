"""Who is asking: a bearer token on any address, or the login session of a browser on the catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from flask import Flask, current_app, g, request, session

from hub.errors import Unauthenticated
from hub.registry.rights.access import ANONYMOUS, Actor
from hub.registry.service import Registry
from hub.settings import ServerSettings

from .limits import watch_logins
from .security import SESSION_HOURS

_REGISTRY = "lorahub.registry"
_SETTINGS = "lorahub.settings"
_SESSION_KEY = "sid"


def remember_registry(app: Flask, opened: Registry, used: ServerSettings) -> None:
    """Let the routes of `app` find the registry that this process opened."""
    app.extensions[_REGISTRY] = opened
    app.extensions[_SETTINGS] = used


def registry() -> Registry:
    return cast("Registry", current_app.extensions[_REGISTRY])


def settings() -> ServerSettings:
    return cast("ServerSettings", current_app.extensions[_SETTINGS])


def current_actor() -> Actor:
    """Return who sent this request.  Raises Unauthenticated for a token that is malformed, unknown or expired."""
    if "actor" not in g:
        g.actor = _find_actor()
    return cast("Actor", g.actor)


def bearer_token() -> str | None:
    """Return the token of the Authorization header; None without one.  Raises Unauthenticated for other schemes."""
    header = request.headers.get("Authorization")
    return None if header is None else parse_bearer(header)


def parse_bearer(header: str) -> str:
    """Return the token of an Authorization header.  Raises Unauthenticated for other schemes."""
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Send the token as `Authorization: Bearer lhub_…`; no other scheme is read.")
    return token.strip()


def caller_key(environ: Mapping[str, Any]) -> str:
    """Return what the rate limits know a caller by: a digest of the token, or the address."""
    header = environ.get("HTTP_AUTHORIZATION")
    if header:
        return "token:" + hashlib.sha256(header.encode("utf-8", "replace")).hexdigest()[:32]
    return f"address:{environ.get('REMOTE_ADDR')}"


def sign_in(token: str) -> Actor:
    """Start a login session for the owner of `token`.  Raises Unauthenticated.

    The cookie gets a new random id, so an id that somebody planted before the login is worth nothing after it.
    """
    with watch_logins():
        actor = registry().tokens.authenticate(token, request.remote_addr)
    started = registry().sessions.create(actor, timedelta(hours=SESSION_HOURS))
    session.clear()
    session[_SESSION_KEY] = started.secret
    session.permanent = True
    g.actor = actor
    return actor


def sign_out() -> None:
    """End the login session, here and in the database: a copy of the cookie is worth nothing afterwards."""
    secret = session.pop(_SESSION_KEY, None)
    session.clear()
    if secret:
        registry().sessions.end(secret)
    g.actor = ANONYMOUS


def _find_actor() -> Actor:
    token = bearer_token()
    if token is not None:
        with watch_logins():
            return registry().tokens.authenticate(token, request.remote_addr)
    if _reads_cookies():
        secret = session.get(_SESSION_KEY)
        if secret:
            return _session_actor(secret)
    return ANONYMOUS


def _session_actor(secret: str) -> Actor:
    try:
        return registry().sessions.actor(secret)
    except Unauthenticated:
        # The session ended: its token was revoked, or its time is over.  The page is shown as to anyone.
        session.pop(_SESSION_KEY, None)
        return ANONYMOUS


def _reads_cookies() -> bool:
    """Only the catalog does: what never reads a cookie can't be made to act by another site."""
    return request.blueprint == "catalog"
