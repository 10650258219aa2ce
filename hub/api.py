"""The public functions around adapters: `hub.pull`, `push`, `search`, `info`, `check`, `summary`, `diff`.

Here, and in the command line, the environment and the config file are read; everything below gets frozen settings.
Wherever a ref is taken, the folder of an adapter on this disk may stand: a `Path`, or a text that looks like a path.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from hub.adapter.provenance import Provenance
from hub.adapter.publication import Publication, Said
from hub.client.api import Client, Search
from hub.client.placing import place
from hub.client.progress import Observer
from hub.client.recorded import recorded_base
from hub.client.records import AdapterInfo, VersionInfo
from hub.client.sources import RefLike, parse_source
from hub.client.sync import Prepared, Pushed, copy_out, fetch, prepare, resolve, send
from hub.client.sync import pull as pull_version
from hub.refs import AdapterName, AdapterRef
from hub.settings import ClientSettings

if TYPE_CHECKING:
    from hub.adapter.config import LoraConfig
    from hub.adapter.diff import AdapterDiff
    from hub.base.spec import BaseSpec
    from hub.fit.parameters import ParameterSummary
    from hub.fit.report import CompatReport


def client_settings(registry: str | None = None) -> ClientSettings:
    """Return the settings of the environment and the config file; `registry` names another address."""
    settings = ClientSettings.from_env(os.environ)
    return settings.with_endpoint(registry) if registry else settings


def pull(
    ref: RefLike,
    *,
    to: str | os.PathLike[str] | None = None,
    registry: str | None = None,
    observer: Observer | None = None,
) -> Path:
    """Return a folder with the files of the version that `ref` names: one that PEFT can open.

    The folder is in the cache and read-only.  With `to`, that folder gets the files: it is new, empty, or from an
    earlier pull, and is replaced whole where `ref` means another version by now.
    Bytes are verified against the version's manifest.  A pull that was interrupted goes on where it stopped.
    With `LORAHUB_OFFLINE=1` the cache answers alone.  A yanked version is pulled with a warning that says why.
    Raises VersionNotFound, AdapterNotFound, DigestMismatch, NetworkError, Offline, StorageFull; InvalidRequest and
    Conflict for a folder that has other files in it.
    """
    source, settings = parse_source(ref), client_settings(registry)
    target = None if to is None else Path(to).expanduser()
    if isinstance(source, Path):
        return source if target is None else copy_out(source, target, recorded_base(source, settings.cache))
    if target is None:
        return pull_version(source, settings, observer)
    version = resolve(source, settings, observer)
    return place(version, fetch(version, settings, observer), target)


def push(
    folder: str | os.PathLike[str],
    name: str | AdapterName,
    *,
    base: str | os.PathLike[str] | None = None,
    registry: str | None = None,
    observer: Observer | None = None,
    **said: Unpack[Said],
) -> VersionInfo:
    """Publish a PEFT folder as the next version of `name`; return that version (`.ref` prints as `task/qa@v3`).

    base: the model it was trained on, a folder or a Hugging Face id.  The adapter is checked against it, and its
        fingerprint is recorded, so that a load on another model can be refused.
    task: what the adapter does.  message: what changed.  alias: is moved to the new version.
    private: who may read an adapter that is new; by default, as its namespace does.
    trained_from, merged_from: refs of the versions that it was made of.
    Base and trained_from are taken from the folder where `hub.train` wrote them down and they aren't given.
    Content that the registry has already is the same version again.
    Raises InvalidAdapter, UnsafeFile, Incompatible, Unauthenticated, Forbidden, NetworkError.
    """
    publication = Publication.parse(**said)
    return push_folder(
        Path(folder), _as_name(name), publication, base=base, registry=registry, observer=observer
    ).version


def push_folder(
    folder: Path,
    name: AdapterName,
    publication: Publication,
    *,
    base: str | os.PathLike[str] | None = None,
    registry: str | None = None,
    observer: Observer | None = None,
) -> Pushed:
    """Like `push`, and say what was sent, what was left out, and whether the version is new."""
    settings, observer = client_settings(registry), observer or Observer()
    prepared = prepare_push(folder, base=base, observer=observer)
    recorded = Provenance.read(folder)
    if recorded is not None and not publication.trained_from:
        publication = replace(publication, trained_from=recorded.trained_from)
    with Client(settings) as client:
        return send(prepared, name, publication, client, observer)


def prepare_push(folder: Path, *, base: str | os.PathLike[str] | None, observer: Observer) -> Prepared:
    """Read, check and hash what a push would send, without sending it.  Raises what `push` raises of the folder."""
    if base is None:
        return prepare(folder, None, observer)
    from hub.client.bases import open_base
    from hub.client.checking import check_prepared

    spec = _as_loaded(open_base(base, offline=ClientSettings.from_env(os.environ).offline))
    prepared = prepare(folder, spec.identity(), observer)
    report = check_prepared(prepared, spec)
    for finding in report.findings:
        if finding.level == "warning":
            observer.warn(finding.line())
    report.raise_if_bad()
    return prepared


def search(text: str = "", *, limit: int = 100, registry: str | None = None, **filters: object) -> list[AdapterInfo]:
    """Return up to `limit` adapters that match.

    filters: task, base, method, rank_min, rank_max, size_max (bytes), license, tag, target, dtype, namespace, metric
        (a tuple of conditions such as `accuracy>=0.9`); sort is new, downloads, recent or name.
    """
    with Client(client_settings(registry)) as client:
        return client.search_counted(Search.of(text, **filters), limit)[0]


def info(ref: str | AdapterRef, *, registry: str | None = None, observer: Observer | None = None) -> VersionInfo:
    """Return what the registry knows of the version that `ref` names, its manifest included."""
    return resolve(_as_ref(ref), client_settings(registry), observer)


def check(
    base: str | os.PathLike[str], ref: RefLike, *, registry: str | None = None, observer: Observer | None = None
) -> CompatReport:
    """Say whether an adapter fits a base, before any weights move.

    base: a model folder or a Hugging Face id, of which only the config and the headers are read.
    The adapter's own weights are looked at (NaN, all zero) where they are on this disk.
    """
    from hub.client.bases import open_base
    from hub.client.checking import check_source

    settings = client_settings(registry)
    spec = _as_loaded(open_base(base, offline=settings.offline))
    return check_source(parse_source(ref), spec, settings, observer)


def _as_loaded(spec: BaseSpec) -> BaseSpec:
    """Name the modules of a base as the loaded model does, where only the runtime can tell, and it is installed."""
    if not spec.names_from_files:
        return spec
    try:
        skeleton = import_module("hub.runtime.skeleton")  # of an extra that may not be installed
    except ImportError:
        return spec
    named: BaseSpec = skeleton.with_loaded_names(spec)
    return named


def summary(
    ref: RefLike | LoraConfig,
    base: str | os.PathLike[str] | None = None,
    *,
    registry: str | None = None,
    observer: Observer | None = None,
) -> ParameterSummary:
    """Count the parameters of an adapter, and of its base where one is given: `.line()` is PEFT's line.

    ref: may also be a config alone, the file adapter_config.json or a LoraConfig; it needs the base.
    base: a model folder, its config.json, or a Hugging Face id.
    """
    from hub.adapter.config import LoraConfig
    from hub.client.bases import open_base
    from hub.client.checking import describe
    from hub.fit.parameters import summarize

    settings = client_settings(registry)
    adapter = ref if isinstance(ref, LoraConfig) else describe(parse_source(ref), settings, observer)
    spec = None if base is None else _as_loaded(open_base(base, offline=settings.offline))
    return summarize(adapter, spec and (spec.loaded or spec))


def diff(a: RefLike, b: RefLike, *, registry: str | None = None, observer: Observer | None = None) -> AdapterDiff:
    """Compare two adapters: config, tensors, and per module how far the two updates point the same way."""
    from hub.adapter.diff import diff as compare

    return compare(pull(a, registry=registry, observer=observer), pull(b, registry=registry, observer=observer))


def _as_ref(ref: str | AdapterRef) -> AdapterRef:
    return AdapterRef.parse(ref) if isinstance(ref, str) else ref


def _as_name(name: str | AdapterName) -> AdapterName:
    return AdapterName.parse(name) if isinstance(name, str) else name
