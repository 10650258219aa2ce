"""JSON in requests: how long it may be on which route, how deep, and what texts it may hold.

Every route that parses JSON takes it through `load`.  A body is measured before it is read, and its depth before it is
parsed; what strangers send is never longer than `STRANGERS_BYTES`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flask import request
from flask.json.provider import DefaultJSONProvider

from hub.errors import AuthError, InvalidRequest
from hub.formats.strict_json import MAX_DEPTH, StrictJsonError, check_depth
from hub.manifest import MAX_MANIFEST_BYTES

from .identity import current_actor

STRANGERS_BYTES = 64 * 1024
"""Of any body that is read whole, unless its route says more and its sender is known."""

MAX_VALUES = 60_000
"""Of a body, unless it carries a manifest: 10,000 parts have 50,000."""

_MARKS = (b",", b":", b"[", b"{")
_MORE_THAN_A_MANIFEST = 64 * 1024
LIMITS: Mapping[str, int] = {
    "versions.publish": MAX_MANIFEST_BYTES + _MORE_THAN_A_MANIFEST,
    "uploads.request_uploads": 256 * 1024,  # 1,000 blobs
    "uploads.complete": 4 * 1024 * 1024,  # 10,000 parts
    "hf.lfs_complete": 4 * 1024 * 1024,
    "hf.lfs_batch": 1024 * 1024,  # 1,000 blobs
    "hf.preupload": 4 * 1024 * 1024,  # 1,000 files with the first bytes of each, and a .gitignore
    "hf.paths_info": 1024 * 1024,
    "hf.validate_yaml": 2 * 1024 * 1024,  # a whole README
}


def set_limit() -> None:
    """Bound this request's body.  Runs before the route; one that streams its body sets a limit of its own."""
    limit = LIMITS.get(request.endpoint or "")
    if limit is not None and (request.content_length is None or request.content_length > STRANGERS_BYTES):
        request.max_content_length = limit if _is_known() else STRANGERS_BYTES


def _is_known() -> bool:
    """Whether the sender showed who they are: a token, or a ticket, which its route checks before it reads."""
    try:
        return "ticket" in request.args or not current_actor().is_anonymous
    except AuthError:
        return False


class BoundedJson(DefaultJSONProvider):
    """The application's JSON: what it reads is bounded in depth."""

    def loads(self, s: str | bytes, **options: Any) -> Any:
        return load(s, **options)


def load(data: str | bytes, *, check_texts: bool = True, most: int = MAX_VALUES, **options: Any) -> Any:
    """Return what a body says.

    Raises InvalidRequest for what is too deep or too much, ValueError for what is not JSON.
    check_texts: refuse what no database can hold; False leaves that to a schema.  most: values in all.
    """
    encoded = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if sum(map(encoded.count, _MARKS)) > most:
        raise InvalidRequest(f"The body has more than {most:,} values.")
    try:
        check_depth(encoded, MAX_DEPTH)
    except StrictJsonError as error:
        raise InvalidRequest(f"The body {error}.") from error
    value = json.loads(encoded, **options)
    if check_texts and b"\\u" in encoded:
        _check_texts(value)
    return value


def _check_texts(value: Any) -> None:
    """Refuse half of a surrogate pair, and NUL: neither can be stored, or be in any name."""
    written = json.dumps(value, ensure_ascii=False)
    try:
        written.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest("The body has a text that is not valid Unicode.") from error
    if "\\u0000" in written.replace("\\\\", ""):
        raise InvalidRequest("The body has a text with a NUL.")
