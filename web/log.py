"""The server's log: one JSON object a line on stderr, or readable lines on a terminal.

What never gets in: Authorization headers, cookies, query strings (a signed URL is a right in itself), bodies.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from gunicorn.glogging import Logger

_SECRETS = re.compile(
    r"lhub_[A-Za-z0-9_-]+|(?i:bearer)\s+[^\s\"']+|(?i:X-Amz-Signature|Signature|sig|token)=[^&\s\"']+"
)
MASK = "[hidden]"


def mask_secrets(text: str) -> str:
    """Return `text` with everything that looks like a token or a signature hidden."""
    return _SECRETS.sub(MASK, text)


class MaskedFormatter(structlog.stdlib.ProcessorFormatter):
    """The last line of defence: no line leaves with a token in it, whoever wrote it and wherever it stands."""

    def format(self, record: logging.LogRecord) -> str:
        return mask_secrets(super().format(record))


def configure_logging(level: int = logging.INFO) -> None:
    """Send every logger of this process to stderr, through structlog's renderer."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: Any = structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        final = structlog.dev.ConsoleRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        MaskedFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("botocore").setLevel(logging.WARNING)


class ServerLogger(Logger):
    """gunicorn's logger, speaking through the one above."""

    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = self.access_log.propagate = True
        self.error_log.handlers[:] = []
        self.access_log.handlers[:] = []
        self.error_log.setLevel(logging.WARNING if cfg.loglevel == "info" else cfg.loglevel.upper())
        self.access_log.setLevel(logging.INFO)

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log one request, without its query string."""
        path = environ.get("RAW_URI", "").partition("?")[0]
        if path in {"/healthz", "/readyz", "/metrics"}:
            return
        fields = {
            "method": environ.get("REQUEST_METHOD"),
            "path": mask_secrets(path),
            "status": resp.status_code,
            "bytes": resp.sent or resp.response_length or 0,
            "ms": round(request_time.total_seconds() * 1000, 1),
            "client": environ.get("REMOTE_ADDR"),
            "request_id": environ.get("lorahub.request_id"),
        }
        if sys.stderr.isatty():
            self.access_log.info("request", extra=fields)
            return
        # One line per request, written as it is: the way through all of logging costs more than many a request.
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        line = json.dumps({"event": "request", "level": "info"} | fields | {"timestamp": now})
        sys.stderr.write(line + "\n")

    def reopen_files(self) -> None:
        """stderr is never reopened."""
