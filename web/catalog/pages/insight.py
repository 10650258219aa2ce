"""What the weights themselves say: layer maps and version diffs, computed once per content and kept.

The numbers come from `hub.adapter.diff`, which works on r x r products and never builds an update of the base's size.
They are kept in memory and in the server's data folder, under the digests that they were computed from: they never go
stale.  One computation runs at a time in a process, and files over a limit are not read for a page at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hub.adapter.diff import diff, layer_map
from hub.errors import HubError
from hub.formats.atomic_files import write_atomically
from hub.manifest import CONFIG_FILE, WEIGHTS_FILE
from hub.registry.service import Actor, Registry
from hub.registry.values import StoredFile, Version

from .changes import ChangesView, ModuleMove, view_changes
from .formats import bytes_text
from .layers import LayerRow, LayersView, draw_layers
from .memory import Memory

MAX_WEIGHTS_BYTES = 512 * 1000 * 1000
READ_AHEAD_BYTES = 8 * 1024 * 1024
MAX_KEPT_FILES = 5_000
WAIT_SECONDS = 3.0
_FORMAT = "1"
"""Part of every file's name: numbers that another release computed otherwise are not read."""

log = logging.getLogger(__name__)


class NotComputed(Exception):
    """Why a page goes without the numbers."""


class StoredContent:
    """A stored file as the core reads files: see `hub.adapter.files.Readable`.

    Reads ahead: weights are read tensor by tensor, and each read of an object store is a request.
    """

    def __init__(self, stored: StoredFile) -> None:
        self._stored = stored
        self.size = stored.entry.size
        self._start, self._ahead = 0, b""

    def read(self, offset: int, size: int) -> bytes:
        stop = min(offset + size, self.size)
        if offset < self._start or stop > self._start + len(self._ahead):
            self._start = offset
            self._ahead = b"".join(self._stored.open(offset, min(max(stop, offset + READ_AHEAD_BYTES), self.size)))
        return self._ahead[offset - self._start : stop - self._start]


class Insights:
    """The numbers that this server has computed, below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._busy = threading.Lock()
        self._memory: Memory[str, Any] = Memory(32)

    def layers(self, registry: Registry, actor: Actor, version: Version) -> LayersView:
        """Return the layer map of a version; a note instead where it can't be had."""
        try:
            files = _files(registry, actor, version)
            found = self._recall(f"layers-{version.digest}", version, lambda: _measure(files))
        except NotComputed as reason:
            return LayersView(None, note=str(reason))
        return draw_layers([LayerRow(*row) for row in found])

    def changes(self, registry: Registry, actor: Actor, before: Version, after: Version) -> ChangesView:
        """Return what differs between two versions; where the weights can't be compared, the rest with a note."""
        pair = hashlib.sha256(f"{before.digest} {after.digest}".encode()).hexdigest()
        largest = max(before, after, key=lambda version: version.size_bytes)
        try:
            old, new = _files(registry, actor, before), _files(registry, actor, after)
            found = self._recall(f"changes-{pair}", largest, lambda: _compare(old, new))
        except NotComputed as reason:
            return view_changes(before.manifest, after.manifest, (), None, str(reason))
        moves = [ModuleMove(*row) for row in found["moves"]]
        return view_changes(before.manifest, after.manifest, moves, found["cosine"])

    def _recall(self, key: str, largest: Version, compute: Callable[[], Any]) -> Any:
        """Return the numbers, which are the same for all who may read the files: ask `_files` that first."""
        return self._memory.get(key, lambda: self._read(key) or self._compute(key, largest, compute))

    def _compute(self, key: str, largest: Version, compute: Callable[[], Any]) -> Any:
        """Compute and keep.  Raises NotComputed when the weights are too large, or others are being read already."""
        weights = largest.manifest.file(WEIGHTS_FILE)
        if weights is None or weights.size > MAX_WEIGHTS_BYTES:
            size = bytes_text(weights.size if weights else 0)
            raise NotComputed(f"The weights have {size}; maps are drawn for up to {bytes_text(MAX_WEIGHTS_BYTES)}.")
        if not self._busy.acquire(timeout=WAIT_SECONDS):
            raise NotComputed("The server is busy reading other weights. Load the page again in a moment.")
        try:
            found = self._read(key) or compute()
        except HubError as error:
            raise NotComputed(error.message) from error
        finally:
            self._busy.release()
        self._write(key, found)
        return found

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.{_FORMAT}.json"

    def _read(self, key: str) -> Any:
        try:
            return json.loads(self._path(key).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("insight %s can't be read and is computed again: %s", key, error)
            return None

    def _write(self, key: str, found: Any) -> None:
        """Keep the numbers for the other workers and the next start.  On a full disk they are computed again."""
        try:
            write_atomically(self._path(key), json.dumps(found, allow_nan=False).encode())
            self._forget_oldest()
        except (OSError, ValueError) as error:
            log.warning("insight %s can't be kept: %s", key, error)

    def _forget_oldest(self) -> None:
        kept = list(self._folder.iterdir())
        if len(kept) > MAX_KEPT_FILES:
            oldest = sorted(kept, key=lambda path: path.stat().st_mtime)[: len(kept) // 10]
            for path in oldest:
                path.unlink(missing_ok=True)


def _files(registry: Registry, actor: Actor, version: Version) -> Mapping[str, StoredContent]:
    """Open what the numbers are computed from; nothing is read yet.  Raises NotComputed where the actor may not."""
    try:
        opened = [registry.versions.open_file(actor, version.ref, path) for path in (CONFIG_FILE, WEIGHTS_FILE)]
    except HubError as error:
        raise NotComputed(error.message) from error
    return {stored.entry.path: StoredContent(stored) for stored in opened}


def _measure(files: Mapping[str, StoredContent]) -> list[list[Any]]:
    return [[cell.module, cell.norm, cell.effective_rank, cell.rank] for cell in layer_map(files).cells]


def _compare(before: Mapping[str, StoredContent], after: Mapping[str, StoredContent]) -> dict[str, Any]:
    found = diff(before, after)
    moves = [[each.module, each.norm_before, each.norm_after, each.cosine] for each in found.modules]
    return {"cosine": found.mean_cosine, "moves": moves}
