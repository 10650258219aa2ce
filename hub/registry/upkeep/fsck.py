"""Checking what is stored: rows against blobs, blobs against their names, manifests and index against rows.

`repair` removes files that no row names and unfinished uploads without a row, and nothing else: a row whose blob is
missing is somebody's adapter, and only a backup can mend it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import select

from hub.errors import HubError
from hub.manifest import Manifest
from hub.registry.accounts import quotas
from hub.registry.context import Context
from hub.registry.db.models import (
    AdapterRow,
    BlobRow,
    CommitFileRow,
    CommitRow,
    NamespaceRow,
    VersionFileRow,
    VersionRow,
)
from hub.registry.library import version_values
from hub.registry.library.unnamed import remove_orphan
from hub.registry.search import facets

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """kind: missing, size, corrupt, orphan, manifest, files, index, quota.  used_by: refs that are hurt."""

    kind: str
    what: str
    message: str
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FsckReport:
    """`problems` are what is wrong (orphans included, unless they were removed); `repaired` counts orphans."""

    blobs: int
    versions: int
    problems: tuple[Problem, ...] = field(default=())
    repaired: int = 0

    @property
    def ok(self) -> bool:
        return not self.problems

    def lines(self) -> list[str]:
        shown = [
            f"{p.kind}: {p.message}" + (f" Used by {', '.join(p.used_by[:5])}." if p.used_by else "")
            for p in self.problems
        ]
        return [*shown, f"{self.blobs:,} blobs and {self.versions:,} versions checked: {len(self.problems):,} problems"]


def check(
    context: Context, *, rehash: bool = True, repair: bool = False, progress: Callable[[int], None] | None = None
) -> FsckReport:
    """Compare rows and blobs, and with `rehash` every byte.  `repair` removes orphans, nothing else.

    Return what is wrong.  progress: told the number of blobs and versions checked so far.
    """
    problems: list[Problem] = []
    blobs = versions_seen = repaired = 0
    for row in _blob_rows(context):
        blobs += 1
        problem = _check_blob(context, row, rehash)
        if problem is not None:
            problems.append(problem)
        if progress is not None:
            progress(blobs)
    orphans = [stored for stored in context.store.blobs() if not _has_row(context, stored.sha256)]
    for version in _version_rows(context):
        versions_seen += 1
        problems.extend(_check_version(context, version))
        if progress is not None:
            progress(blobs + versions_seen)
    problems.extend(_check_index(context))
    problems.extend(_check_quotas(context))
    for stored in orphans:
        # Look again: a blob that was just being moved into place has its row by now.
        if repair:
            repaired += remove_orphan(context, stored.sha256)
        elif not _has_row(context, stored.sha256):
            message = f"{stored.sha256} ({stored.size:,} bytes) is stored, but no row names it."
            problems.append(Problem("orphan", stored.sha256, message))
    return FsckReport(blobs, versions_seen, tuple(problems), repaired)


def _blob_rows(context: Context) -> Iterator[BlobRow]:
    last = ""
    while True:
        query = select(BlobRow).where(BlobRow.sha256 > last).order_by(BlobRow.sha256).limit(_PAGE)
        with context.database.read() as session:
            rows = session.scalars(query).all()
        yield from rows
        if len(rows) < _PAGE:
            return
        last = rows[-1].sha256


def _check_blob(context: Context, row: BlobRow, rehash: bool) -> Problem | None:
    size = context.store.size(row.sha256)
    if size is None:
        if not _still_has_row(context, row):
            return None  # garbage collection deleted both concurrently
        return _problem(context, "missing", row.sha256, f"the blob {row.sha256} has a row, but its bytes are gone.")
    if size != row.size:
        return _problem(context, "size", row.sha256, f"the blob {row.sha256} has {size:,} bytes, not {row.size:,}.")
    if rehash:
        return _check_bytes(context, row)
    return None


def _check_bytes(context: Context, row: BlobRow) -> Problem | None:
    digest = hashlib.sha256()
    try:
        for piece in context.store.stream(row.sha256, 0, row.size):
            digest.update(piece)
    except HubError as error:
        if context.store.size(row.sha256) is None and not _still_has_row(context, row):
            return None
        return _problem(context, "missing", row.sha256, f"the blob {row.sha256} can't be read: {error.message}")
    if digest.hexdigest() == row.sha256:
        return None
    message = f"the blob {row.sha256} has other bytes than its name says. Restore it from a backup."
    return _problem(context, "corrupt", row.sha256, message)


def _problem(context: Context, kind: str, sha256: str, message: str) -> Problem:
    return Problem(kind, sha256, message, _users_of(context, sha256))


def _users_of(context: Context, sha256: str) -> tuple[str, ...]:
    """Return the refs of versions and drafts that have a file with these bytes."""
    of_versions = (
        select(AdapterRow.full_name, VersionRow.number, VersionFileRow.path)
        .join(VersionRow, VersionRow.adapter_id == AdapterRow.id)
        .join(VersionFileRow, VersionFileRow.version_id == VersionRow.id)
        .where(VersionFileRow.sha256 == sha256, VersionRow.deleted_at.is_(None))
        .order_by(AdapterRow.full_name, VersionRow.number)
    )
    of_drafts = (
        select(AdapterRow.full_name, CommitRow.commit, CommitFileRow.path)
        .join(CommitRow, CommitRow.adapter_id == AdapterRow.id)
        .join(CommitFileRow, CommitFileRow.commit_id == CommitRow.id)
        .where(CommitFileRow.sha256 == sha256)
    )
    with context.database.read() as session:
        refs = [f"{name}@v{number}:{path}" for name, number, path in session.execute(of_versions)]
        refs += [f"{name}@{commit[:12]}:{path}" for name, commit, path in session.execute(of_drafts)]
    return tuple(refs[:100])


def _has_row(context: Context, sha256: str) -> bool:
    with context.database.read() as session:
        return session.get(BlobRow, sha256) is not None


def _still_has_row(context: Context, row: BlobRow) -> bool:
    return _has_row(context, row.sha256) and context.store.size(row.sha256) is None


def _version_rows(context: Context) -> Iterator[tuple[VersionRow, str]]:
    last = 0
    while True:
        query = (
            select(VersionRow, AdapterRow.full_name)
            .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
            .where(VersionRow.id > last, VersionRow.deleted_at.is_(None))
            .order_by(VersionRow.id)
            .limit(_PAGE)
        )
        with context.database.read() as session:
            rows = session.execute(query).all()
        yield from ((row, name) for row, name in rows)
        if len(rows) < _PAGE:
            return
        last = rows[-1][0].id


def _check_version(context: Context, found: tuple[VersionRow, str]) -> Iterator[Problem]:
    version, name = found
    ref = f"{name}@v{version.number}"
    with context.database.read() as session:
        body = version_values.load_manifest(session, version.id)
        stored = dict(
            session.execute(
                select(VersionFileRow.path, VersionFileRow.sha256).where(VersionFileRow.version_id == version.id)
            ).all()
        )
    if hashlib.sha256(body).hexdigest() != version.digest:
        yield Problem("manifest", ref, f"the manifest of {ref} does not have the version's digest.", (ref,))
        return
    if {file.path: file.sha256 for file in Manifest.parse(body).files} != stored:
        yield Problem("files", ref, f"the files of {ref} are not those of its manifest.", (ref,))


def _check_quotas(context: Context) -> Iterator[Problem]:
    """Add up what each namespace holds."""
    with context.database.read_one_state() as session:
        for row in session.scalars(select(NamespaceRow).order_by(NamespaceRow.id)):
            held = quotas.held(session, row)
            if held != row.used_bytes:
                message = f"the namespace {row.name} counts {row.used_bytes:,} bytes and holds {held:,}."
                yield Problem("quota", row.name, message, (row.name,))


def _check_index(context: Context) -> Iterator[Problem]:
    """Compare the search index with the adapters' rows."""
    last = 0
    while True:
        query = select(AdapterRow).where(AdapterRow.id > last).order_by(AdapterRow.id).limit(_PAGE)
        with context.database.read_one_state() as session:
            rows = session.scalars(query).all()
            should = {row.id: facets.terms_of(session, row) for row in rows}
            sets = facets.load(session, {term for terms in should.values() for term in terms})
        for row in rows:
            lacking = sorted(term for term in should[row.id] if not sets.get(term, 0) >> row.id & 1)
            if lacking:
                shown = ", ".join("=".join(term) for term in lacking[:3])
                message = f"{row.full_name} is not found by {shown}. Run: lorahub db reindex"
                yield Problem("index", row.full_name, message, (row.full_name,))
        if len(rows) < _PAGE:
            return
        last = rows[-1].id
