"""hf_xet's telemetry: accepted, and dropped.

After every transfer hf_xet sends a summary to `/v1/telemetry`, whatever URL it was given, with its Xet token, and waits
for the answer before it reports success.  So the answer must come before anything that could wait for the disk:
counting the request is a database write, and the disk is busy with the file that has just arrived.  The token must not
be looked up either: it isn't one of ours, and would count as a failed login.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ADDRESS = "/v1/telemetry"


class DropTelemetry:
    """WSGI middleware: answers that path with 204, and neither reads nor keeps the body."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == ADDRESS and environ["REQUEST_METHOD"] == "POST":
            start_response("204 No Content", [])
            return ()
        return self._app(environ, start_response)
