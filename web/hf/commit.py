"""Commits on the Hugging Face wire: lines of JSON, applied to the parent's tree.

{"key": "header",        "value": {"summary", "description", "parentCommit"?}}
{"key": "file",          "value": {"path", "content", "encoding": "base64"}}
{"key": "lfsFile",       "value": {"path", "algo": "sha256", "oid", "size"?}}
{"key": "deletedFile",   "value": {"path"}}
{"key": "deletedFolder", "value": {"path"}}
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hub.errors import FileNotFound, InvalidRequest, TooLarge
from hub.formats.readable import SHA256_HEX

from ..http.json_bodies import load

MAX_LINE_BYTES = 24 * 1024 * 1024
MAX_BODY_BYTES = 256 * 1024 * 1024
_BLOCK_BYTES = 256 * 1024


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Header:
    """A commit's first line.  parent: the commit that it must be based on, if the client insists."""

    title: str
    description: str
    parent: str | None


@dataclass(frozen=True, slots=True)
class PutBytes:
    """A small file that came inside the commit."""

    path: str
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class PutBlob:
    """A file whose bytes are already uploaded.  size: None if it copies a file of the tree."""

    path: str
    sha256: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Delete:
    """A file, or with `folder` everything below a path."""

    path: str
    folder: bool


Operation = Header | PutBytes | PutBlob | Delete


def read_operations(stream: Stream) -> Iterator[Operation]:
    """Yield a commit's operations one by one, with only one line in memory.  Raises InvalidRequest or TooLarge."""
    for number, line in enumerate(_lines(stream), start=1):
        try:
            entry = load(line)
            operation = _parse(entry["key"], _object(entry["value"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidRequest(f"Line {number} of the commit is not an operation: {error!r}.") from error
        yield operation


def apply(operations: Iterable[PutBytes | PutBlob | Delete], tree: Mapping[str, str]) -> dict[str, str]:
    """Return `tree` (path -> sha256) after the operations.  Raises FileNotFound if a deletion matches nothing."""
    changed = dict(tree)
    for operation in operations:
        if isinstance(operation, Delete):
            for path in _below(operation, changed):
                del changed[path]
        else:
            changed[operation.path] = operation.sha256
    return changed


def as_stream(file: PutBytes) -> io.BytesIO:
    return io.BytesIO(file.data)


def _below(operation: Delete, tree: Mapping[str, str]) -> list[str]:
    """Return the paths that a deletion covers.  A client can't always tell a folder from a file."""
    prefix = operation.path.rstrip("/") + "/"
    found = [path for path in tree if path == operation.path] if not operation.folder else []
    found = found or [path for path in tree if path.startswith(prefix)]
    if not found:
        kind = "folder" if operation.folder else "file"
        raise FileNotFound(f"A {kind} with this name doesn't exist: {operation.path!r} can't be deleted.")
    return found


def _lines(stream: Stream) -> Iterator[bytes]:
    """Split a body at its line ends, within bounds."""
    rest = bytearray()
    total = 0
    while block := stream.read(_BLOCK_BYTES):
        total += len(block)
        start = len(rest)
        rest += block
        while (end := rest.find(b"\n", start)) >= 0:
            line = bytes(rest[:end])
            del rest[: end + 1]
            start = 0
            if line.strip():
                yield line
        if len(rest) > MAX_LINE_BYTES or total > MAX_BODY_BYTES:
            raise TooLarge(
                f"A commit may carry {MAX_BODY_BYTES:,} bytes, {MAX_LINE_BYTES:,} in one file; "
                "send larger files through LFS, as the server's preupload answer says."
            )
    if rest.strip():
        yield bytes(rest)


def _parse(key: str, value: dict[str, Any]) -> Operation:
    if key == "header":
        parent = value.get("parentCommit")
        return Header(_text(value.get("summary", "")), _text(value.get("description") or ""), parent and _text(parent))
    if key == "file":
        return PutBytes(_text(value["path"]), _decode(value))
    if key == "lfsFile":
        return _parse_blob(value)
    if key in {"deletedFile", "deletedFolder"}:
        return Delete(_text(value["path"]), folder=key == "deletedFolder")
    raise ValueError(f"unknown key {key!r}")


def _parse_blob(value: dict[str, Any]) -> PutBlob:
    oid, size = _text(value["oid"]), value.get("size")
    if value.get("algo") != "sha256" or not SHA256_HEX.match(oid):
        raise ValueError("an LFS file is named by its sha256")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise ValueError("a size is a whole number")
    return PutBlob(_text(value["path"]), oid, size)


def _decode(value: dict[str, Any]) -> bytes:
    content = _text(value["content"])
    if value.get("encoding", "utf-8") != "base64":
        return content.encode("utf-8")
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise ValueError(f"the content is not base64 ({error})") from error


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{str(value)[:80]!r} is not an object")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value
