"""What a registry said last, kept for when it can't be asked.

    <cache>/refs/<registry>/<ns>/<name>/versions/v3.json      the answer, without its manifest
                                        aliases/<alias>       `v3`
                                        digests/<digest>      `v3`

One small file per fact, each replaced atomically, so that processes need no lock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote

from hub.client.cache import Cache
from hub.client.records import VersionInfo
from hub.errors import HubError, Offline
from hub.formats.atomic_files import write_atomically
from hub.refs import AdapterName, AdapterRef


class KnownVersions:
    """The versions of one registry that this cache knows."""

    def __init__(self, cache: Cache, endpoint: str) -> None:
        self._cache = cache
        self._root = cache.root / "refs" / quote(endpoint, safe="")

    def remember(self, info: VersionInfo, asked: AdapterRef) -> None:
        """Keep what `asked` meant.  Needs the manifest."""
        if info.manifest is None:
            raise ValueError(f"{info.ref} comes without its manifest, so there is nothing to keep")
        self._cache.save_manifest(info.manifest)
        folder = self._folder(info.adapter)
        answer = {key: value for key, value in info.raw.items() if key != "manifest"}
        _keep(folder / "versions" / f"v{info.version}.json", json.dumps(answer).encode())
        version = f"v{info.version}".encode()
        _keep(folder / "digests" / info.digest, version)
        for alias in {*info.aliases, *([asked.alias] if asked.alias else [])}:
            _keep(folder / "aliases" / quote(alias, safe=""), version)

    def recall(self, ref: AdapterRef) -> VersionInfo | None:
        """Return the version that `ref` meant when last asked, with its manifest; None if it isn't known."""
        number = self._number(ref)
        if number is None:
            return None
        info = self._read(ref.adapter, number)
        if info is None or (manifest := self._cache.load_manifest(info.digest)) is None:
            return None
        return replace(info, manifest=manifest)

    def require(self, ref: AdapterRef) -> VersionInfo:
        """Like `recall`, but raises Offline, which says what the cache has instead."""
        info = self.recall(ref)
        if info is not None:
            return info
        known = ", ".join(str(item.ref) for item in self.versions(ref.adapter)) or "no version of it"
        raise Offline(
            f"{ref} is not in the cache, and LORAHUB_OFFLINE is set. The cache has {known}. "
            f"Pull it once while the registry can be reached: LORAHUB_OFFLINE=0 lorahub pull {ref}"
        )

    def versions(self, name: AdapterName) -> Iterator[VersionInfo]:
        """Yield what is known of each version, oldest first, without manifests."""
        found = (self._folder(name) / "versions").glob("v*.json")
        for number in sorted(int(path.stem[1:]) for path in found):
            info = self._read(name, number)
            if info is not None:
                yield info

    def adapters(self) -> Iterator[AdapterName]:
        for folder in sorted(self._root.glob("*/*")):
            yield AdapterName(folder.parent.name, folder.name)

    def aliases(self, name: AdapterName) -> dict[str, str]:
        folder = self._folder(name) / "aliases"
        # Names that begin with a dot are being written.
        return {unquote(path.name): path.read_text().strip() for path in sorted(folder.glob("[!.]*"))}

    def _folder(self, name: AdapterName) -> Path:
        return self._root / name.namespace / name.name

    def _number(self, ref: AdapterRef) -> int | None:
        if ref.version is not None:
            return ref.version
        kind, key = ("digests", ref.digest) if ref.digest else ("aliases", quote(ref.selector, safe=""))
        try:
            text = (self._folder(ref.adapter) / kind / str(key)).read_text().strip()
        except FileNotFoundError:
            return None
        return int(text[1:]) if text[1:].isdigit() else None

    def _read(self, name: AdapterName, number: int) -> VersionInfo | None:
        try:
            payload = json.loads((self._folder(name) / "versions" / f"v{number}.json").read_bytes())
            return VersionInfo.from_json(payload)
        except (FileNotFoundError, ValueError, HubError):
            # Treat a malformed fact as missing: the registry can be asked again.
            return None


def _keep(path: Path, data: bytes) -> None:
    """Write a fact only if it changed, which is rare."""
    try:
        if path.read_bytes() == data:
            return
    except FileNotFoundError:
        pass  # it is new
    write_atomically(path, data)
