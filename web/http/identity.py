"""Who is asking: a bearer token on any address, or the login session of a browser on the catalog."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, cast

from flask import Flask, current_app, g, request, session

from hub.errors import Unauthenticated
from hub.registry.rights.access import ANONYMOUS, Actor
from hub.registry.service import Registry
from hub.settings import ServerSettings

from .limits import MAX_CALLERS, address_key, watch_logins
from .security import SESSION_HOURS

_REGISTRY = "lorahub.registry"
_SETTINGS = "lorahub.settings"
_SESSION_KEY = "sid"
_KNOWN_SECONDS = 60.0


def remember_registry(app: Flask, opened: Registry, used: ServerSettings) -> None:
    """Let the routes of `app` find the registry that this process opened."""
    app.extensions[_REGISTRY] = opened
    app.extensions[_SETTINGS] = used


def registry() -> Registry:
    return cast("Registry", current_app.extensions[_REGISTRY])


def settings() -> ServerSettings:
    return cast("ServerSettings", current_app.extensions[_SETTINGS])


def current_actor() -> Actor:
    """Return the actor of this request.  Raises Unauthenticated for a token that is malformed, unknown or expired."""
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


class CallerKeys:
    """What the rate limits know callers by: the user of a good token, or the address.

    Who has several tokens, or writes one in several ways, has one bucket all the same.  What is no good token counts in
    the address's bucket for such, so it can't keep out who sends none, or a good one.
    find_user: asks the registry whose a token is, which costs a query; the answer is kept for a minute.
    """

    def __init__(self, find_user: Callable[[str], str | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._find_user = find_user
        self._clock = clock
        self._known: dict[bytes, tuple[str, float]] = {}

    def __call__(self, environ: Mapping[str, Any]) -> str:
        header = environ.get("HTTP_AUTHORIZATION")
        address = address_key(environ.get("REMOTE_ADDR"))
        if not header:
            return f"address:{address}"
        try:
            user = self._user(parse_bearer(header))
        except Unauthenticated:
            user = None
        return f"user:{user}" if user is not None else f"bad:{address}"

    def _user(self, token: str) -> str | None:
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        user, until = self._known.get(digest, ("", 0.0))
        now = self._clock()
        if now < until:
            return user
        found = self._find_user(token)
        if found is not None:
            if len(self._known) >= MAX_CALLERS:
                self._known.clear()
            self._known[digest] = (found, now + _KNOWN_SECONDS)
        return found


def sign_in(token: str) -> Actor:
    """Start a login session for the owner of `token`.  Raises Unauthenticated.

    The cookie gets a new random id, which prevents session fixation.
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
    """End the login session, here and in the database: a copy of the cookie is useless afterwards."""
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
        # The session ended: its token was revoked, or it expired.  Show the page as to anonymous users.
        session.pop(_SESSION_KEY, None)
        return ANONYMOUS


def _reads_cookies() -> bool:
    """Only the catalog does: what never reads a cookie can't be made to act by another site."""
    return request.blueprint == "catalog"
