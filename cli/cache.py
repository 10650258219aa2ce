"""`lorahub cache`: what lies on this disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from hub.errors import IntegrityError, VersionNotFound
from hub.formats.sizes import size_text
from hub.refs import AdapterRef

from .terminal.output import Output, note, printing, printing_json
from .terminal.progress import CliObserver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hub.client.cache import Cache, Snapshot
    from hub.client.offline import KnownVersions
    from hub.client.records import VersionInfo


@click.group()
def cache() -> None:
    """List, verify and empty the local cache."""


@cache.command("list")
@printing
def list_(out: Output) -> None:
    """List the versions in the cache, with the names that the registry gave them."""
    from hub.client.cache_care import snapshots_by_adapter, total_bytes

    cache, known = _open()
    names = {info.digest: info for name in known.adapters() for info in known.versions(name)}
    rows = [(_ref_of(item, names), item) for item in snapshots_by_adapter(cache)]
    if out.as_json:
        out.json(
            [
                {"ref": ref, "digest": item.digest, "size_bytes": item.size_bytes, "path": str(item.path)}
                for ref, item in rows
            ]
        )
    elif out.quiet:
        out.lines([ref for ref, _ in rows])
    elif rows:
        out.rows(("ref", "size", "folder"), [(ref, size_text(item.size_bytes), item.path) for ref, item in rows])
        note(f"{size_text(total_bytes(cache))} in {cache.root}")
    else:
        note(f"The cache {cache.root} has no versions yet.")


@cache.command("verify")
@printing_json
def verify(out: Output) -> None:
    """Hash everything again.  Damaged files are removed and named; exits 6 if there were any."""
    from hub.client.cache_care import total_bytes, verify_all

    cache, _ = _open()
    damaged = verify_all(cache, CliObserver())
    if damaged:
        raise IntegrityError(
            f"{len(damaged)} damaged in the cache and removed: {', '.join(damaged[:5])}. Pull what you need again.",
            damaged=damaged,
        )
    if out.as_json:
        out.json({"damaged": [], "size_bytes": total_bytes(cache)})
    else:
        out.line(f"{size_text(total_bytes(cache))}, all as published")


@cache.command("prune")
@click.option("--all", "everything", is_flag=True, help="Remove every version, too.")
@printing_json
def prune(everything: bool, out: Output) -> None:
    """Remove what no cached version uses, and downloads that nobody has gone on with for an hour."""
    from hub.client.cache_care import clear
    from hub.client.cache_care import prune as prune_cache

    cache, _ = _open()
    removed = clear(cache) if everything else prune_cache(cache)
    if out.as_json:
        out.json({"files": removed.files, "size_bytes": removed.size_bytes})
    else:
        out.line(f"{removed.files} files removed, {size_text(removed.size_bytes)}")


@cache.command("rm")
@click.argument("ref", metavar="NAME[@VERSION]")
@printing_json
def rm(ref: str, out: Output) -> None:
    """Remove the versions of an adapter from the cache; with @v3, that one.  The registry keeps them."""
    from hub.client.cache_care import remove_version

    cache, known = _open()
    parsed = AdapterRef.parse(ref)
    info = known.recall(parsed)
    if "@" in ref and info is None:
        raise VersionNotFound(f"{ref} is not in the cache. See what is: lorahub cache list")
    removed = remove_version(cache, parsed.adapter, info.digest if "@" in ref and info else None)
    if out.as_json:
        out.json({"files": removed.files, "size_bytes": removed.size_bytes})
    else:
        out.line(f"{removed.files} files removed, {size_text(removed.size_bytes)}")


@cache.command("path")
def path() -> None:
    """Print the cache's folder."""
    click.echo(str(_open()[0].root))


def _ref_of(item: Snapshot, names: Mapping[str, VersionInfo]) -> str:
    info = names.get(item.digest)
    is_known = info is not None and info.adapter == item.adapter
    return str(info.ref) if info and is_known else f"{item.adapter}@sha256:{item.digest}"


def _open() -> tuple[Cache, KnownVersions]:
    from hub.client.cache import Cache
    from hub.client.offline import KnownVersions
    from hub.settings import ClientSettings

    settings = ClientSettings.from_env(os.environ)
    cache = Cache(settings.cache)
    return cache, KnownVersions(cache, settings.endpoint)
