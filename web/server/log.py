"""The server's log: one JSON object a line on stderr, or readable lines on a terminal.

Never logged: Authorization headers, cookies, query strings (a signed URL is a credential), bodies.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_SECRETS = re.compile(
    r"lhub_[A-Za-z0-9_-]+|(?i:bearer)\s+[^\s\"']+|(?i:X-Amz-Signature|Signature|sig|token)=[^&\s\"']+"
)
MASK = "[hidden]"


def mask_secrets(text: str) -> str:
    """Return `text` with everything that looks like a token or a signature hidden."""
    return _SECRETS.sub(MASK, text)


class MaskedFormatter(structlog.stdlib.ProcessorFormatter):
    """The last line of defence: masks tokens in every line, whichever code logged it."""

    def format(self, record: logging.LogRecord) -> str:
        return mask_secrets(super().format(record))


def configure_logging(level: int = logging.INFO) -> None:
    """Send every logger of this process to stderr, through structlog's renderer."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # In JSON an exception is text; on a terminal the renderer draws it itself.
    final: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    if sys.stderr.isatty():
        final = [structlog.dev.ConsoleRenderer()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        MaskedFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("botocore").setLevel(logging.WARNING)


def log_request(environ: Mapping[str, Any], status: int, sent: int, seconds: float) -> None:
    """Write the line of one request, without its query string.

    sent: bytes of the answer's body.  seconds: until the answer, or its head, was sent.
    """
    path = (environ.get("RAW_URI") or environ.get("REQUEST_URI") or "").partition("?")[0]
    if path in {"/healthz", "/readyz", "/metrics"}:
        return
    fields = {
        "method": environ.get("REQUEST_METHOD"),
        "path": mask_secrets(path),
        "status": status,
        "bytes": sent,
        "ms": round(seconds * 1000, 1),
        "client": environ.get("REMOTE_ADDR"),
        "request_id": environ.get("lorahub.request_id"),
    }
    if sys.stderr.isatty():
        logging.getLogger("lorahub.access").info("request", extra=fields)
        return
    # One preformatted line per request: going through the logging module can cost more than the request.
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = json.dumps({"event": "request", "level": "info"} | fields | {"timestamp": now})
    sys.stderr.write(line + "\n")


class LoggedRequests:
    """WSGI middleware that logs requests, for a server that doesn't."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        began = time.perf_counter()

        def noting(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            length = next((value for name, value in headers if name.lower() == "content-length"), "0")
            log_request(environ, int(status[:3]), int(length), time.perf_counter() - began)
            return start_response(status, headers, *error)

        return self._app(environ, noting)
