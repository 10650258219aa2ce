"""Answer questions about adapters wherever they are: in the registry, in the cache, in a folder on this disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hub.adapter.config import LoraConfig
from hub.adapter.files import build_manifest, read_weights_header, scan_folder
from hub.adapter.weight_scan import WeightReport, scan_weights
from hub.base.spec import BaseSpec
from hub.client.cache import Cache
from hub.client.progress import Observer
from hub.client.recorded import recorded_base
from hub.client.sources import Source
from hub.client.sync import Prepared, resolve
from hub.errors import InvalidAdapter
from hub.fit.report import CompatReport, check
from hub.formats.readable import LocalFile, Readable
from hub.manifest import CONFIG_FILE, WEIGHTS_FILE, Manifest
from hub.settings import ClientSettings


def check_source(
    source: Source, base: BaseSpec, settings: ClientSettings, observer: Observer | None = None
) -> CompatReport:
    """Check an adapter against a base.  Its weights are looked at only where they are on this disk already."""
    if isinstance(source, Path):
        scan = scan_folder(source)
        manifest = build_manifest(scan.readables(), recorded_base(source, settings.cache))
        return check(manifest, base, scan_files(scan.readables()))
    info = resolve(source, settings, observer)
    if info.manifest is None:
        raise InvalidAdapter(f"{info.ref} has no manifest, so it can't be checked.")
    folder = Cache(settings.cache).find_snapshot(info.adapter, info.manifest)
    weights = scan_files({WEIGHTS_FILE: LocalFile(folder / WEIGHTS_FILE)}) if folder else None
    return check(info.manifest, base, weights)


def check_prepared(prepared: Prepared, base: BaseSpec) -> CompatReport:
    """Check what is about to be pushed."""
    return check(prepared.manifest, base, scan_files(prepared.scan.readables()))


def scan_files(files: Mapping[str, Readable]) -> WeightReport:
    """Look for NaN, infinity and updates that are zero."""
    return scan_weights(files[WEIGHTS_FILE], read_weights_header(files))


def describe(source: Source, settings: ClientSettings, observer: Observer | None = None) -> Manifest | LoraConfig:
    """Return an adapter's manifest; of a folder or file that has a config only, the config."""
    if not isinstance(source, Path):
        manifest = resolve(source, settings, observer).manifest
        if manifest is None:
            raise InvalidAdapter(f"{source} has no manifest.")
        return manifest
    config = source if source.is_file() else source / CONFIG_FILE
    if config.is_file() and (source.is_file() or not (source / WEIGHTS_FILE).exists()):
        return LoraConfig.parse(config.read_bytes())
    return build_manifest(scan_folder(source).readables())
