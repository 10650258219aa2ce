"""One shape for every error that leaves the server: `{"error": {"code", "message", "details"}}`.

The registry raises `HubError`; werkzeug raises its HTTP exceptions; the operating system runs out of things.  All pass
through `as_hub_error`, so that a client never has to read prose or HTML to know what happened.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import ClassVar, cast

from flask import Flask, Response, current_app, g, jsonify, request
from werkzeug.exceptions import HTTPException, RequestedRangeNotSatisfiable
from werkzeug.wrappers import Response as BaseResponse

from hub import errors
from hub.errors import HubError

log = logging.getLogger(__name__)

ERROR_PAGE = "ERROR_PAGE"
"""app.config key: how the catalog draws an error, `Callable[[HubError], Response]`.  Absent, all errors are JSON."""

_OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT}
_OUT_OF_HANDLES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class HttpError(HubError):
    """What went wrong in the protocol itself, before any of lorahub's own rules."""

    code: ClassVar[str] = "http"

    def __init__(self, status: int, message: str, headers: list[tuple[str, str]] | None = None) -> None:
        super().__init__(message)
        self.status = status  # type: ignore[misc]  # one class stands for every status that HTTP has
        self.headers = headers or []


def register_error_handlers(app: Flask) -> None:
    """Answer every exception of `app` in one shape."""
    app.register_error_handler(HubError, answer)
    app.register_error_handler(HTTPException, answer)
    app.register_error_handler(Exception, answer)


def answer(error: Exception) -> BaseResponse:
    """Return the response for `error`: a page for a browser on the catalog, JSON for everything else."""
    hub_error = as_hub_error(error)
    page = cast("Callable[[HubError], BaseResponse] | None", current_app.config.get(ERROR_PAGE))
    response = page(hub_error) if page and wants_page() else json_answer(hub_error)
    return with_error_headers(response, hub_error)


def json_answer(error: HubError) -> Response:
    response = jsonify(error.to_json())
    response.status_code = error.status
    return response


def with_error_headers(response: BaseResponse, error: HubError) -> BaseResponse:
    """Add what HTTP itself wants beside the body: Retry-After, WWW-Authenticate, Upload-Offset, Allow."""
    retry_after = error.details.get("retry_after_seconds")
    if error.status in {429, 503} or retry_after is not None:
        response.headers["Retry-After"] = str(max(1, int(retry_after or 1)))
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="lorahub"'
    if isinstance(error, errors.UploadOffsetMismatch):
        response.headers["Upload-Offset"] = str(error.details.get("offset", 0))
    if isinstance(error, HttpError):
        for name, value in error.headers:
            response.headers.setdefault(name, value)
    return response


def wants_page() -> bool:
    """Whether the request is from a browser on the catalog, not from a program on an API."""
    if request.path.startswith(("/api/", "/healthz", "/readyz", "/metrics")):
        return False
    return request.accept_mimetypes.best_match(["text/html", "application/json"], "application/json") == "text/html"


def as_hub_error(error: Exception) -> HubError:
    """Return `error` as a HubError; log an unexpected one with its traceback."""
    if isinstance(error, HubError):
        if error.status >= 500:
            log.warning("%s: %s", error.code, error.message)
        return error
    if isinstance(error, HTTPException):
        return _from_http(error)
    if isinstance(error, RecursionError):
        return errors.InvalidRequest("The request is nested too deeply.")
    if isinstance(error, TimeoutError):
        return HttpError(408, "The request's body stopped arriving. Send the rest again: an upload resumes.")
    if isinstance(error, ConnectionError):
        return HttpError(400, "The request's body ended early or is malformed.")
    if isinstance(error, OSError) and (known := from_os_error(error)):
        return known
    log.error("unhandled error on %s %s", request.method, request.path, exc_info=error)
    return HubError(
        f"The server failed on this request. Its log says why, under the request id {g.get('request_id', '-')}."
    )


def from_os_error(error: OSError) -> HubError | None:
    """Return what an operating-system error means to a client, or None where it means a bug."""
    if error.errno in _OUT_OF_SPACE:
        return errors.StorageFull("The server's disk is full; nothing was stored. Tell its operator, then try again.")
    if error.errno in _OUT_OF_HANDLES:
        return errors.Unavailable("The server is out of file handles or memory. Try again in a moment.")
    return None


_SENTENCES = {
    400: "The request is malformed.",
    404: "There is nothing at this address. The API is described at /api/v1/openapi.json.",
    405: "This address doesn't take that method.",
    408: "The request's body stopped arriving.",
    411: "Say how long the body is: a Content-Length is needed here.",
    413: "The request's body is larger than this address takes.",
    415: "This address doesn't take that content type.",
    416: "The file has no such range of bytes.",
}


def _from_http(error: HTTPException) -> HubError:
    status = error.code or 500
    if status == 422 or (status == 400 and hasattr(error, "data")):
        return errors.InvalidRequest(_validation_sentence(error), fields=_validation_fields(error))
    if status == 404:
        return errors.NotFound(_SENTENCES[404])
    if status == 413:
        return errors.TooLarge(_SENTENCES[413])
    kept = [(name, value) for name, value in error.get_headers() if name in {"Allow", "Content-Range"}]
    if isinstance(error, RequestedRangeNotSatisfiable) and error.length is not None:
        kept.append(("Content-Range", f"bytes */{error.length}"))
    return HttpError(status, _SENTENCES.get(status) or error.description or error.name, kept)


def _validation_fields(error: HTTPException) -> dict[str, object]:
    data = getattr(error, "data", None) or {}
    messages = data.get("messages", {})
    return dict(messages) if isinstance(messages, dict) else {}


def _validation_sentence(error: HTTPException) -> str:
    """Say which fields are wrong, in the words of the schema: `limit: Must be at most 100.`"""
    found = list(_leaves(_validation_fields(error)))
    if not found:
        return _SENTENCES[400]
    shown = "; ".join(f"{name}: {text}" for name, text in found[:5])
    return f"The request has fields that don't fit: {shown}"


def _leaves(value: object, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        pairs = [(str(key), item) for key, item in value.items()]
        # The outermost keys say where webargs looked ("json", "query"); they are not fields.
        inner = [
            (f"{name}.{key}".lstrip(".") if key not in {"json", "query", "_schema"} else name, v) for key, v in pairs
        ]
        return [leaf for inner_name, item in inner for leaf in _leaves(item, inner_name)]
    if isinstance(value, list):
        return [(name or "body", str(text)) for text in value]
    return [(name or "body", str(value))]
