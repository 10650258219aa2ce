"""Security headers of every answer, and CSRF tokens of every form.

The API takes `Authorization: Bearer` only and never a cookie, so another site can't make a browser use it.  The
catalog's forms need a CSRF token that is bound to the browser's session.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from flask import Flask, Response, request
from flask_wtf.csrf import CSRFError, CSRFProtect

from hub.settings import ServerSettings

SESSION_HOURS = 12
_API_PATHS = ("/api/", "/healthz", "/readyz", "/metrics")

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
"""No inline script, no inline style, nothing from another site.  `data:` is for images that the server itself draws."""

# An API's answer is never a page: were a browser led to show one, nothing in it may run or load.
API_CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"

# Answers depend on the user, so no shared cache may serve one user's answer to another.
PRIVATE = "private, no-cache"

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def protect(app: Flask, settings: ServerSettings) -> CSRFProtect:
    """Set the cookies' flags, add the headers to every answer, and demand a CSRF token of every form."""
    secure = is_https(settings)
    app.config.update(
        SESSION_COOKIE_NAME="__Host-lorahub" if secure else "lorahub",
        SESSION_COOKIE_SECURE=secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=SESSION_HOURS * 3600,
        WTF_CSRF_TIME_LIMIT=SESSION_HOURS * 3600,
    )
    always = headers_for(settings)

    @app.after_request
    def add_headers(response: Response) -> Response:
        return with_security_headers(response, always)

    return CSRFProtect(app)


def headers_for(settings: ServerSettings) -> list[tuple[str, str]]:
    """Return the headers that every answer carries."""
    https = {"Strict-Transport-Security": "max-age=31536000"} if is_https(settings) else {}
    return list((_HEADERS | https).items())


def api_headers(settings: ServerSettings) -> list[tuple[str, str]]:
    """Return all that `with_security_headers` adds to an answer of the API that sets none of them itself."""
    return [
        *headers_for(settings),
        ("Content-Security-Policy", API_CONTENT_SECURITY_POLICY),
        ("Cache-Control", PRIVATE),
    ]


def with_security_headers(response: Response, always: Sequence[tuple[str, str]] = tuple(_HEADERS.items())) -> Response:
    """Add the headers that `response` doesn't set by itself."""
    headers = response.headers
    # Every request comes through here: one look at the names is a tenth of what looking up each of them costs.
    given = {name.lower() for name, _ in headers}
    missing = [(name, value) for name, value in always if name.lower() not in given]
    if "content-security-policy" not in given:
        is_page = response.mimetype == "text/html" and not request.path.startswith(_API_PATHS)
        policy = CONTENT_SECURITY_POLICY if is_page else API_CONTENT_SECURITY_POLICY
        missing.append(("Content-Security-Policy", policy))
    if "cache-control" not in given:
        missing.append(("Cache-Control", PRIVATE))
    headers.extend(missing)
    return response


def is_https(settings: ServerSettings) -> bool:
    return bool(settings.public_url and settings.public_url.startswith("https://"))


def safe_next(target: str | None, fallback: str = "/") -> str:
    """Return `target` if it is a path on this server, else `fallback`: a login must not be an open redirect."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")) or "\\" in target:
        return fallback
    if any(ord(char) < 0x21 or ord(char) == 0x7F for char in target):
        return fallback
    parts = urlsplit(target)
    return fallback if parts.scheme or parts.netloc else target


__all__ = ["CSRFError", "is_https", "protect", "safe_next", "with_security_headers"]
