"""Errors in the Hugging Face wire's terms, so that each client raises the right exception of its own.

| here                          | on the wire                                                      |
|-------------------------------|------------------------------------------------------------------|
| no such adapter, or no right  | 401 without a token, 404 with one, X-Error-Code: RepoNotFound    |
| no such version or alias      | 404, X-Error-Code: RevisionNotFound                              |
| no such file                  | 404, X-Error-Code: EntryNotFound, X-Repo-Commit                  |
| gated                         | 403, X-Error-Code: GatedRepo                                     |
| a bad token                   | 401, X-Error-Message: Invalid credentials in Authorization header |
| anything else                 | its own status, X-Error-Message                                  |

Without X-Error-Code a 404 makes `file_exists` raise; a 401 that doesn't say that the *token* is bad reads as "no such
repository".  The message is in the header, which clients show verbatim, and in the body.
"""

from __future__ import annotations

import unicodedata

from flask import Response, g, jsonify, request
from werkzeug.wrappers import Response as BaseResponse

from hub import errors
from hub.errors import HubError

from ..http.errors import as_hub_error, with_error_headers

_BAD_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105 - what clients compare with
_MAX_HEADER_CHARACTERS = 900

_CODES: tuple[tuple[type[HubError], str], ...] = (
    (errors.AdapterNotFound, "RepoNotFound"),
    (errors.NamespaceNotFound, "RepoNotFound"),
    (errors.VersionNotFound, "RevisionNotFound"),
    (errors.AliasNotFound, "RevisionNotFound"),
    (errors.FileNotFound, "EntryNotFound"),
    (errors.Gated, "GatedRepo"),
)

_ASCII = str.maketrans({"…": "...", "’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "·": "-"})


def answer(error: Exception) -> BaseResponse:
    """Return the wire's response for `error`."""
    hub_error = as_hub_error(error)
    response = jsonify({"error": hub_error.message})
    response.status_code = _status(hub_error)
    code = next((code for kind, code in _CODES if isinstance(hub_error, kind)), None)
    if code:
        response.headers["X-Error-Code"] = code
    response.headers["X-Error-Message"] = _message(hub_error)
    if "hf_commit" in g:
        response.headers["X-Repo-Commit"] = g.hf_commit
    return with_error_headers(response, hub_error)


def warn(response: Response, topic: str, text: str) -> Response:
    """Make stock clients print a warning, once per topic and process."""
    response.headers.add("X-HF-Warning", f"{_header_text(topic.replace(';', ','))}; {_header_text(text)}")
    return response


def _status(error: HubError) -> int:
    if isinstance(error, errors.AdapterNotFound | errors.NamespaceNotFound):
        # The Hub does the same: clients use it to tell "log in first" from "there is none".
        return 404 if request.headers.get("Authorization") else 401
    return error.status


def _message(error: HubError) -> str:
    if isinstance(error, errors.Unauthenticated) and request.headers.get("Authorization"):
        return _BAD_TOKEN
    if isinstance(error, errors.Gated):
        return _header_text(
            f"Access to model {_asked_repo()} is restricted and you are not in the authorized list. {error.message}"
        )
    return _header_text(error.message)


def _asked_repo() -> str:
    args = request.view_args or {}
    return f"{args.get('namespace', '')}/{args.get('name', '')}"


def _header_text(text: str) -> str:
    """Return `text` in a form valid in a header: ASCII, on one line."""
    flat = " ".join(text.translate(_ASCII).split())
    plain = unicodedata.normalize("NFKD", flat).encode("ascii", "ignore").decode()
    return plain if len(plain) <= _MAX_HEADER_CHARACTERS else plain[: _MAX_HEADER_CHARACTERS - 3] + "..."
