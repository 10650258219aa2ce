"""Which base an adapter's folder was trained on, by whatever is known of the folder on this disk."""

from __future__ import annotations

from pathlib import Path

from hub.adapter.provenance import PROVENANCE_FILE, Provenance
from hub.client.cache import Cache
from hub.manifest import BaseIdentity


def recorded_base(folder: Path, cache: Path | None) -> BaseIdentity | None:
    """Return the base that is recorded beside an adapter, or in the manifest of a version that was pulled; else None.

    cache: the client's, whose snapshots are versions, if there is one.
    Raises InvalidAdapter for a `lorahub.json` that can't be read.
    """
    written = Provenance.read(folder)
    if written is not None:
        return written.base
    return None if cache is None else _pulled_base(folder.resolve(), cache)


def record_base(folder: Path, base: BaseIdentity) -> None:
    """Write what a manifest says of the base beside a copy of its files, unless training did or nothing is known."""
    if base.shapes is not None and not (folder / PROVENANCE_FILE).exists():
        Provenance(base).write(folder)


def _pulled_base(folder: Path, cache: Path) -> BaseIdentity | None:
    if not folder.is_relative_to((cache / "snapshots").resolve()):
        return None
    manifest = Cache(cache).load_manifest(folder.name)
    return manifest.base if manifest is not None else None
