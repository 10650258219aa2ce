"""Files, wherever they are: what can be read in ranges, and the sha256 of it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

SHA256_HEX = re.compile(r"[0-9a-f]{64}\Z")
"""How a sha256 is written everywhere: 64 lower-case hex digits."""

Progress = Callable[[int], None]
"""Told the number of further bytes that were hashed, after each part."""

_CHUNK_BYTES = 1024 * 1024


class Readable(Protocol):
    """A file somewhere: on this disk, in a registry's store, or behind a URL."""

    @property
    def size(self) -> int:
        """Its length in bytes."""

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on, or fewer at the end."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A Readable on this disk."""

    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def read(self, offset: int, size: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(size)


def read_at(file: int, size: int, offset: int) -> bytes:
    """Return up to `size` bytes from `offset`.  No other thread may use `file` meanwhile."""
    if hasattr(os, "pread"):
        return os.pread(file, size, offset)
    os.lseek(file, offset, os.SEEK_SET)
    return os.read(file, size)


def hash_file(path: Path | str, progress: Progress | None = None) -> tuple[str, int]:
    """Return the sha256 (64 hex digits) and the size in bytes of a local file, read once."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as stream:
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
            size += count
            if progress:
                progress(count)
    return digest.hexdigest(), size


def hash_readable(file: Readable, progress: Progress | None = None) -> tuple[str, int]:
    """Return the same of a file wherever it is."""
    if isinstance(file, LocalFile):
        return hash_file(file.path, progress)
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(size, _CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
        if progress:
            progress(len(chunk))
    return digest.hexdigest(), size
