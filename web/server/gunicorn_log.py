"""gunicorn's logger, writing to ours."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger

from .log import log_request


class ServerLogger(Logger):
    """Sends warnings and errors to our log, and logs requests in our format."""

    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = True
        self.error_log.handlers[:] = []
        self.error_log.setLevel(logging.WARNING if cfg.loglevel == "info" else cfg.loglevel.upper())

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        log_request(environ, resp.status_code, resp.sent or resp.response_length or 0, request_time.total_seconds())

    def reopen_files(self) -> None:
        """stderr is never reopened."""
