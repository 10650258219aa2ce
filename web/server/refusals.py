"""Answers that the server gives without calling the application, in the usual shape of errors."""

from __future__ import annotations

import json

from gunicorn.http import errors as http


def refusal(status: str, code: str, message: str, *headers: str) -> bytes:
    """Return a whole answer, after which the connection closes."""
    body = json.dumps({"error": {"code": code, "message": message, "details": {}}}).encode()
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*head, *headers, "", ""]).encode() + body


_UNAVAILABLE = "503 Service Unavailable"
OUT_OF_PLACES = refusal(_UNAVAILABLE, "unavailable", "The server is out of connections. Try again.", "Retry-After: 1")
OUT_OF_THREADS = refusal(
    _UNAVAILABLE, "unavailable", "Too many transfers at once. Try again in a moment.", "Retry-After: 1"
)
TOO_SLOW = refusal("408 Request Timeout", "http", "The request took too long to arrive.")
CUT_OFF = refusal("400 Bad Request", "http", "The request ended before it was whole.")
HEAD_TOO_LARGE = refusal("431 Request Header Fields Too Large", "http", "The request's head is too large.")
FAILED = refusal("500 Internal Server Error", "http", "The server failed.")

_STATUSES: dict[type[Exception], str] = {
    http.LimitRequestLine: "414 URI Too Long",
    http.LimitRequestHeaders: "431 Request Header Fields Too Large",
    http.UnsupportedTransferCoding: "501 Not Implemented",
    http.ExpectationFailed: "417 Expectation Failed",
    http.ParseException: "400 Bad Request",
}
"""What the parser raises, the special ones first."""


def of_malformed(error: Exception) -> bytes:
    """Return the answer to a malformed request, without echoing it."""
    status = next(status for kind, status in _STATUSES.items() if isinstance(error, kind))
    return refusal(status, "http", "The request is not HTTP as this server takes it.")
