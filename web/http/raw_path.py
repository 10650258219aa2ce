"""Keep an encoded slash apart from a real one: an alias may be called `rel/1.0`, and its URL says `rel%2F1.0`.

WSGI hands over a path that is decoded already, in which both look the same.  Where the raw URI has a `%2F`, the path is
decoded here once more, with a placeholder in its place; the URL converters below turn the placeholder into a slash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

from flask import request
from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter, IntegerConverter, Map

from hub.errors import InvalidRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# A code point that Unicode reserves for a program's own use: no name has it.
PLACEHOLDER = "\ufdd0"
LARGEST_NUMBER = 2**63 - 1
_ENCODED_SLASH = re.compile(rb"%2[fF]")


class KeepEncodedSlashes:
    """WSGI middleware: an encoded slash reaches the routes as one character, not as a separator."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raw = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
        if "%2f" in raw.lower():
            environ["PATH_INFO"] = _decode(raw).removeprefix(environ.get("SCRIPT_NAME", ""))
        return self._app(environ, start_response)


def _decode(raw_uri: str) -> str:
    """Return the path of `raw_uri` as WSGI writes paths: bytes shown as latin-1."""
    path = raw_uri.partition("?")[0]
    if not path.startswith("/"):
        path = urlsplit(path).path
    marked = _ENCODED_SLASH.sub(PLACEHOLDER.encode(), path.encode("latin-1", "replace"))
    return unquote_to_bytes(marked).decode("latin-1")


def refuse_nul() -> None:
    """Answer for an address with a NUL: nothing here has one in its name, and no database takes it for a text."""
    if "\0" in request.path:
        raise NotFound
    if b"%00" in request.query_string or b"\0" in request.query_string:
        raise InvalidRequest("A query can't have a NUL (%00).")


class SelectorConverter(BaseConverter):
    """One path segment that may stand for a text with slashes: `vN`, an alias, `sha256:…`, a revision."""

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        return value.replace(PLACEHOLDER, "/")

    def to_url(self, value: Any) -> str:
        return quote(str(value), safe=":")


class FilePathConverter(BaseConverter):
    """The rest of the path: a file's name inside a version, however its slashes were written."""

    part_isolating = False
    regex = ".+"

    def to_python(self, value: str) -> str:
        return value.replace(PLACEHOLDER, "/")

    def to_url(self, value: Any) -> str:
        return quote(str(value), safe="/")


class NumberConverter(IntegerConverter):
    """A row's number.  One beyond the database's integers is a 404."""

    def __init__(self, url_map: Map, **limits: Any) -> None:
        super().__init__(url_map, **{"max": LARGEST_NUMBER, **limits})


CONVERTERS: dict[str, type[BaseConverter]] = {
    "selector": SelectorConverter,
    "filepath": FilePathConverter,
    "int": NumberConverter,
}
