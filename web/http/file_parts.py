"""Pieces of an answer that aren't bytes: a part of a file, for sendfile, and a wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, BinaryIO

SENDS_FILE_PARTS = "lorahub.sends_file_parts"
"""In the WSGI environ of a server that takes FileParts and Waits among the bytes of an answer's body."""


class Lead(bytes):
    """Bytes with a FilePart right behind them: they travel in one packet."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes `[start, stop)` of an open file, which stays open until the answer's `close`."""

    file: BinaryIO
    start: int
    stop: int


def sends_file_parts(environ: Mapping[str, Any]) -> bool:
    """Whether the server takes a FilePart and a Wait; else an answer has to read the bytes, and to wait, itself."""
    return bool(environ.get(SENDS_FILE_PARTS))


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing yet: the server asks for the next piece once `until` is done, or closes the answer if the client went."""

    until: Future[Any]


class OpenParts:
    """The body of an answer: bytes, and parts of a file that is closed with it."""

    def __init__(self, file: BinaryIO, parts: Iterable[bytes | FilePart]) -> None:
        self._file = file
        self._parts = parts

    def __iter__(self) -> Iterator[bytes | FilePart]:
        return iter(self._parts)

    def close(self) -> None:
        self._file.close()
