"""What was read from the upstream, kept on disk: files by their ETag, answers by their address.

    <root>/files/<etag>               verified: an ETag is the sha256 of the bytes, or their git blob id
    <root>/answers/ab/<sha256>.json   the last answer to one address, in 256 folders of at most 200 answers each

Files that were not asked for the longest time go first when there is no room.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hub.errors import DigestMismatch

MAX_ANSWERS_PER_FOLDER = 200
_ETAG = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\Z")


@dataclass(frozen=True, slots=True)
class UpstreamCache:
    root: Path
    max_bytes: int

    def find(self, etag: str) -> Path | None:
        """Return the file with this ETag, if it is here, and note that it was asked for."""
        if not _ETAG.match(etag):
            return None
        path = self.root / "files" / etag
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def keep(self, etag: str, size: int, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass `blocks` on, and keep them once they are whole and right.

        The last block is held back until then: whoever reads gets wrong bytes never as a whole file.
        Raises DigestMismatch.
        """
        if not _ETAG.match(etag):
            yield from blocks
            return
        folder = self.root / "files"
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".receiving-")
        try:
            with os.fdopen(handle, "wb") as file:
                held = yield from _copy(blocks, file, _hasher(etag, size), etag)
            os.replace(temporary, folder / etag)
            self._make_room()
            yield held
        finally:
            Path(temporary).unlink(missing_ok=True)

    def remember(self, address: str, answer: dict[str, Any]) -> None:
        """Keep the answer to an address, to be used when the upstream is down, or for good if it can't change."""
        path = self._answer(address)
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_oldest(path.parent, MAX_ANSWERS_PER_FOLDER - 1)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(answer, file)
        os.replace(temporary, path)

    def recall(self, address: str) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = json.loads(self._answer(address).read_text("utf-8"))
        except FileNotFoundError:
            return None
        return answer

    def _answer(self, address: str) -> Path:
        name = hashlib.sha256(address.encode()).hexdigest()
        return self.root / "answers" / name[:2] / f"{name}.json"

    def _make_room(self) -> None:
        """Remove the files that were not asked for the longest, until the rest fits."""
        entries = []
        for entry in os.scandir(self.root / "files"):
            with suppress(FileNotFoundError):  # another worker makes room, too
                if _ETAG.match(entry.name):
                    entries.append((entry.stat(), entry.path))
        total = sum(stat.st_size for stat, _ in entries)
        for stat, path in sorted(entries, key=lambda entry: entry[0].st_mtime):
            if total <= self.max_bytes:
                return
            Path(path).unlink(missing_ok=True)
            total -= stat.st_size


def _drop_oldest(folder: Path, keep: int) -> None:
    """Remove the answers that were written the longest ago: whoever invents addresses fills no disk."""
    names = [entry.path for entry in os.scandir(folder) if not entry.name.startswith(".")]
    if len(names) > keep:
        for path in sorted(names, key=_written_at, reverse=True)[keep:]:
            Path(path).unlink(missing_ok=True)


def _written_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        # Another worker was here first.
        return 0.0


def _copy(blocks: Iterable[bytes], file: BinaryIO, digest: Any, etag: str) -> Generator[bytes, None, bytes]:
    """Write and yield all blocks but the last, which is returned after the hash was found right."""
    held = b""
    for block in blocks:
        if held:
            yield held
        file.write(block)
        digest.update(block)
        held = block
    if digest.hexdigest() != etag:
        raise DigestMismatch(f"The upstream sent bytes of {digest.hexdigest()[:12]}…, not {etag[:12]}…. Try again.")
    return held  # the caller takes it from `yield from`


def _hasher(etag: str, size: int) -> Any:
    if len(etag) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
