"""4-bit copies of bases: the first load quantizes and leaves a copy, later loads read that.

    quantized/<key>/             a folder that transformers opens; key: sha256 of what the copy was made from, and how
        entry.json               {"files": {name: sha256}}: checked at every load
    quantized/sources/<sha256>   what was hashed of a source file, and its stat: hashed again when any of that changes

A copy is never stale: its key names the content of every source file, the recipe, and the versions of the quantizer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError

from hub.runtime.saving import bare_state, narrow, write_model

log = logging.getLogger("hub.runtime")

FORMAT = 2
ENTRY = "entry.json"
LEFTOVER_SECONDS = 86_400.0
"""What is still being written after a day is written by nobody any more."""
_MAKERS = ("bitsandbytes", "transformers", "torch")


@dataclass(frozen=True)
class CacheEntry:
    """One copy's place.  folder: it is there only when it is whole."""

    folder: Path

    @property
    def lock(self) -> Path:
        return self.folder.with_suffix(".lock")


class QuantizedBases:
    """The copies below one folder.  A disk that is full or read-only costs the copy, never the load."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def entry(self, source: Path, recipe: Mapping[str, Any]) -> CacheEntry:
        """Return the entry for the files of `source` as they are now, quantized by `recipe`."""
        files = {path.name: self._digest(path) for path in sorted(source.iterdir()) if _decides(path)}
        made_by = {name: version(name) for name in _MAKERS}
        said = {"format": FORMAT, "files": files, "recipe": recipe, "made_by": made_by}
        key = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()
        return CacheEntry(self.root / key)

    def load(self, entry: CacheEntry, open_model: Callable[[Path], Any]) -> Any | None:
        """Return the model of a copy, or None if there is none or its bytes are not those that were written."""
        self._remove_leftovers(entry)
        recorded = _recorded(entry.folder)
        if recorded is None:
            return None
        model = _open_intact(entry.folder, recorded, open_model)
        if model is not None:
            return model
        recorded = _remove_damaged(entry)
        return None if recorded is None else _open_intact(entry.folder, recorded, open_model)

    def store(self, entry: CacheEntry, model: Any) -> None:
        """Leave a copy of a model that was just quantized, and has not been run yet."""
        try:
            entry.folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(entry.lock):
                if _recorded(entry.folder) is None:
                    shutil.rmtree(entry.folder, ignore_errors=True)
                    self._write(entry, model)
        except (OSError, SafetensorError) as error:  # safetensors says a full disk in its own words
            log.warning("The 4-bit copy of the base could not be kept: %s. The next load quantizes again.", error)

    def _remove_leftovers(self, entry: CacheEntry) -> None:
        """Remove what processes that were killed while they wrote have left; it may be gigabytes."""
        with suppress(OSError):  # this copy is being written just now, or nothing may be removed: that costs nothing
            old = [path for path in self.root.glob(".new-*") if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS]
            if old:
                with FileLock(entry.lock, timeout=0):
                    for path in old:
                        shutil.rmtree(path, ignore_errors=True)

    def _write(self, entry: CacheEntry, model: Any) -> None:
        temporary = Path(tempfile.mkdtemp(dir=self.root, prefix=".new-"))
        try:
            plain = {name for name, _ in model.named_parameters()} | {name for name, _ in model.named_buffers()}
            packed = {name.rpartition(".quant_state.")[0] for name in model.state_dict() if ".quant_state." in name}
            state = {
                name: narrow(value) if name in plain - packed else value for name, value in bare_state(model).items()
            }
            write_model(model, state, temporary, is_four_bit=True)
            digests = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
            (temporary / ENTRY).write_text(json.dumps({"files": digests}, indent=1))
            _sync(temporary)
            os.replace(temporary, entry.folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _digest(self, path: Path) -> str:
        """Return the sha256 of a source file, from memory while nothing about the file has changed."""
        stat = path.stat()
        where = str(path.absolute())
        seen = [where, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]
        memory = self.root / "sources" / hashlib.sha256(where.encode()).hexdigest()
        with suppress(OSError, ValueError, KeyError):
            said = json.loads(memory.read_text())
            if said["seen"] == seen:
                return str(said["sha256"])
        digest = _sha256(path)
        with suppress(OSError):  # a cache that can't be written to is slower, nothing else
            memory.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=memory.parent)
            with os.fdopen(handle, "w") as file:
                json.dump({"seen": seen, "sha256": digest}, file)
            os.replace(name, memory)
        return digest


def _decides(path: Path) -> bool:
    """Whether a file of the source decides what the loaded model computes."""
    return path.is_file() and path.name.endswith((".json", ".safetensors")) and not path.name.startswith("tokenizer")


def _recorded(folder: Path) -> dict[str, str] | None:
    try:
        files = json.loads((folder / ENTRY).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return files if isinstance(files, dict) else None


def _open_intact(folder: Path, recorded: Mapping[str, str], open_model: Callable[[Path], Any]) -> Any | None:
    """Return the model in `folder`, or None if its files are not those that were recorded."""
    with ThreadPoolExecutor(max_workers=1) as pool:  # hashing and opening share the time; hashing leaves the GIL
        check = pool.submit(_is_intact, folder, recorded)
        try:
            model = open_model(folder)
        except Exception:
            if check.result():
                raise  # what was written can't be opened: no damage, so no second attempt would help
            return None
        return model if check.result() else None


def _remove_damaged(entry: CacheEntry) -> dict[str, str] | None:
    """Remove a copy that was found damaged, unless another process has made it again; return what that recorded."""
    try:
        with FileLock(entry.lock):
            recorded = _recorded(entry.folder)
            if recorded is not None and _is_intact(entry.folder, recorded):
                return recorded
            log.warning("The 4-bit copy %s is damaged and is made again.", entry.folder)
            shutil.rmtree(entry.folder, ignore_errors=True)
    except OSError:  # nobody may write here, so it stays
        log.warning("The 4-bit copy %s is damaged and can't be removed. Every load quantizes again.", entry.folder)
    return None


def _is_intact(folder: Path, recorded: Mapping[str, str]) -> bool:
    """Whether the files are those that were recorded; not if one vanishes meanwhile, or can't be read."""
    try:
        here = {path.name for path in folder.iterdir()} - {ENTRY}
        return here == set(recorded) and all(_sha256(folder / name) == digest for name, digest in recorded.items())
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
