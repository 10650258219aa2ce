"""What hf_xet reports of itself: taken, and dropped.

After every transfer hf_xet sends a summary to `/v1/telemetry`, whatever address it was given, with its Xet token,
and waits for the answer before it says that it is done.  So the answer comes at once, before anything that could wait
for the disk: the database writes at each count, and the disk is busy with the file that has just arrived.  Nor may the
token be looked up: it is none of ours, and would count as a failed login.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ADDRESS = "/v1/telemetry"


class DropTelemetry:
    """WSGI middleware: 204 for what is sent to that address; nothing of it is read or kept."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == ADDRESS and environ["REQUEST_METHOD"] == "POST":
            start_response("204 No Content", [])
            return ()
        return self._app(environ, start_response)
