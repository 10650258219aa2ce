"""Versions: find by ref, list, yank, deprecate, delete, and count downloads."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.errors import AliasNotFound, Conflict, NotFound, VersionNotFound
from hub.refs import LATEST, AdapterName, AdapterRef
from hub.registry.accounts import quotas
from hub.registry.context import DELETE_WINDOW, Context
from hub.registry.db.models import AdapterRow, AliasRow, CommitRow, DownloadRow, LineageRow, NamespaceRow, VersionRow
from hub.registry.events import audit
from hub.registry.library import adapters, lanes, version_values
from hub.registry.library.lookup import find_adapter, find_version, no_version
from hub.registry.rights import permissions
from hub.registry.rights.access import Action, Actor
from hub.registry.search import facets
from hub.registry.values import DailyDownloads, Lineage, Version

# Finding ---------------------------------------------------------------------------------------------------------


def resolve(context: Context, actor: Actor, ref: AdapterRef) -> Version:
    with context.database.read() as session:
        row, version = find(session, actor, ref)
        return version_values.describe(session, row, version, with_manifest=True)


def find(session: Session, actor: Actor, ref: AdapterRef) -> tuple[AdapterRow, VersionRow]:
    """Return the rows that a ref names.  Raises AdapterNotFound, VersionNotFound, AliasNotFound."""
    row, _ = find_adapter(session, actor, ref.adapter)
    version = session.scalar(select(VersionRow).where(_matches(row, ref)).order_by(VersionRow.number.desc()).limit(1))
    if version is None or version.deleted_at is not None:
        raise _missing(session, actor, row, ref)
    return row, version


def find_or_none(session: Session, actor: Actor, ref: AdapterRef) -> tuple[AdapterRow, VersionRow] | None:
    try:
        return find(session, actor, ref)
    except NotFound:
        return None


def _matches(row: AdapterRow, ref: AdapterRef) -> ColumnElement[bool]:
    of_adapter = VersionRow.adapter_id == row.id
    if ref.version is not None:
        return of_adapter & (VersionRow.number == ref.version)
    if ref.digest is not None:
        return of_adapter & (VersionRow.digest == ref.digest) & VersionRow.deleted_at.is_(None)
    if ref.selector == LATEST:
        return of_adapter & (VersionRow.number == row.latest_number)
    target = select(AliasRow.version_id).where(AliasRow.adapter_id == row.id, AliasRow.name == ref.selector)
    return VersionRow.id == target.scalar_subquery()


def _missing(session: Session, actor: Actor, row: AdapterRow, ref: AdapterRef) -> NotFound:
    if ref.alias is None or ref.alias == LATEST:
        if ref.alias == LATEST and row.version_count:
            why = "is yanked" if _is_on_main(session, row) else "is on a branch"
            return VersionNotFound(
                f"Every version of {ref.adapter} {why}. Name one to use it all the same: lorahub show {ref.adapter}"
            )
        if ref.alias == LATEST and (problem := lanes.pending_problem(session, actor, row)):
            return VersionNotFound(f"{ref.adapter} has no version yet, only a draft. {problem}")
        return no_version(row, ref.adapter, "latest" if ref.alias else ref.selector)
    names = session.scalars(select(AliasRow.name).where(AliasRow.adapter_id == row.id).order_by(AliasRow.name).limit(5))
    known = ", ".join(f"@{name}" for name in names) or "it has none"
    return AliasNotFound(f"{ref.adapter} has no alias @{ref.alias} ({known}). See all: lorahub show {ref.adapter}")


def _is_on_main(session: Session, row: AdapterRow) -> bool:
    """Whether any version that isn't deleted is on `main`."""
    query = select(VersionRow.id).where(VersionRow.adapter_id == row.id, VersionRow.branch.is_(None))
    return session.scalar(query.where(VersionRow.deleted_at.is_(None)).limit(1)) is not None


def listing(context: Context, actor: Actor, name: AdapterName) -> tuple[Version, ...]:
    """List all versions, newest first, without manifests."""
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        query = select(VersionRow).where(VersionRow.adapter_id == row.id, VersionRow.deleted_at.is_(None))
        found = session.scalars(query.order_by(VersionRow.number.desc())).all()
        return tuple(version_values.describe_many(session, row, found))


def children(context: Context, actor: Actor, ref: AdapterRef) -> tuple[Lineage, ...]:
    """Return the readable versions that name this one as a parent: `ref` is the child's."""
    with context.database.read() as session:
        _, version = find(session, actor, ref)
        query = (
            select(LineageRow.kind, AdapterRow.full_name, VersionRow.number)
            .join(VersionRow, LineageRow.version_id == VersionRow.id)
            .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
            .join(NamespaceRow, AdapterRow.namespace_id == NamespaceRow.id)
            .where(LineageRow.parent_id == version.id, VersionRow.deleted_at.is_(None), AdapterRow.deleted_at.is_(None))
            .order_by(VersionRow.id)
            .limit(1_000)
        )
        readable = permissions.readable_ids(session, actor)
        if readable is not None:
            public = AdapterRow.private.is_(False) & NamespaceRow.private.is_(False)
            query = query.where(public | NamespaceRow.id.in_(readable))
        found = session.execute(query).all()
    return tuple(version_values.to_lineage(kind, f"{name}@v{number}", number) for kind, name, number in found)


# Mutations -------------------------------------------------------------------------------------------------------


def yank(context: Context, actor: Actor, name: AdapterName, number: int, reason: str) -> Version:
    """Exclude a version from `latest` and from alias moves; it stays readable by exact ref.  PUBLISH."""
    adapters.check_reason(reason)

    def work(session: Session) -> Version:
        row, _ = find_adapter(session, actor, name, Action.PUBLISH, lock=True)
        version = find_version(session, row, name, number)
        with facets.reindexed(session, row):
            version.yanked_at, version.yanked_by, version.yanked_reason = context.now(), actor.user_id, reason
            session.flush()
            adapters.refresh(session, row)
        audit.record(context, session, actor, "version.yank", f"{name}@v{number}", name.namespace, reason=reason)
        return version_values.describe(session, row, version, with_manifest=True)

    return context.database.transact(work)


def unyank(context: Context, actor: Actor, name: AdapterName, number: int) -> Version:
    """PUBLISH."""

    def work(session: Session) -> Version:
        row, _ = find_adapter(session, actor, name, Action.PUBLISH, lock=True)
        version = find_version(session, row, name, number)
        with facets.reindexed(session, row):
            version.yanked_at = version.yanked_by = version.yanked_reason = None
            session.flush()
            adapters.refresh(session, row)
        audit.record(context, session, actor, "version.unyank", f"{name}@v{number}", name.namespace)
        return version_values.describe(session, row, version, with_manifest=True)

    return context.database.transact(work)


def deprecate(
    context: Context, actor: Actor, name: AdapterName, number: int, reason: str | None, successor: str | None = None
) -> Version:
    """Deprecate a version in favour of a successor (any ref); a reason of None undoes it.  PUBLISH."""
    adapters.check_deprecation(reason, successor)

    def work(session: Session) -> Version:
        row, _ = find_adapter(session, actor, name, Action.PUBLISH, lock=True)
        version = find_version(session, row, name, number)
        version.deprecated_at = None if reason is None else context.now()
        version.deprecated_reason, version.deprecated_successor = reason, successor
        action = "version.undeprecate" if reason is None else "version.deprecate"
        audit.record(
            context,
            session,
            actor,
            action,
            f"{name}@v{number}",
            name.namespace,
            reason=reason,
            successor=successor,
        )
        return version_values.describe(session, row, version, with_manifest=True)

    return context.database.transact(work)


def delete(context: Context, actor: Actor, name: AdapterName, number: int) -> None:
    """Delete a version within 72 hours of its publishing; the number is never used again.  OWN.

    Raises Conflict if it is older, or if an alias still points to it.
    """

    def work(session: Session) -> None:
        row, namespace = find_adapter(session, actor, name, Action.OWN, lock=True)
        version = find_version(session, row, name, number)
        if context.now() - version.created_at > DELETE_WINDOW:
            raise Conflict(
                f"{name}@v{number} is older than 72 hours, and others may rely on it. "
                f"Yank it instead: lorahub yank {name}@v{number}"
            )
        holding = session.scalars(select(AliasRow.name).where(AliasRow.version_id == version.id)).all()
        if holding:
            raise Conflict(f"The alias @{holding[0]} points to {name}@v{number}. Move it first.", aliases=list(holding))
        with facets.reindexed(session, row):
            version.deleted_at = context.now()
            quotas.give_back(session, namespace, version.size_bytes)
            session.flush()
            adapters.refresh(session, row)
            if row.head == version.digest[:40]:
                row.head = _newest_commit(session, row) or adapters.add_first_commit(context, session, actor, row)
        audit.record(context, session, actor, "version.delete", f"{name}@v{number}", name.namespace)

    context.database.transact(work)


def _newest_commit(session: Session, row: AdapterRow) -> str | None:
    query = (
        select(CommitRow.commit)
        .outerjoin(VersionRow, CommitRow.version_id == VersionRow.id)
        .where(CommitRow.adapter_id == row.id, VersionRow.deleted_at.is_(None), CommitRow.lane.is_(None))
    )
    return session.scalar(query.order_by(CommitRow.id.desc()).limit(1))


# Downloads -------------------------------------------------------------------------------------------------------


def count_download(context: Context, actor: Actor, version_id: int, visitor: str | None = None) -> bool:
    """Count a download once per user, version and day; `visitor` (any stable text) identifies anonymous users."""
    who = f"user:{actor.user_id}" if actor.user_id is not None else f"visitor:{visitor or ''}"
    # Store only what recognises the same visitor again, and only for a day.
    day = context.now().strftime("%Y-%m-%d")
    key = hashlib.sha256(f"{day}:{version_id}:{who}".encode()).hexdigest()
    with context.database.read() as session:
        if session.get(DownloadRow, (version_id, day, key)) is not None:
            return False

    def work(session: Session) -> bool:
        insert = sqlite.insert if context.database.is_sqlite else postgresql.insert
        row = insert(DownloadRow).values(version_id=version_id, day=day, visitor=key).on_conflict_do_nothing()
        if session.scalar(row.returning(DownloadRow.version_id)) is None:
            return False
        # Lock the adapter first, as every change of its versions does (row_locks.py).
        session.execute(
            update(AdapterRow)
            .where(AdapterRow.id == select(VersionRow.adapter_id).where(VersionRow.id == version_id).scalar_subquery())
            .values(downloads=AdapterRow.downloads + 1, revision=AdapterRow.revision + 1)
            .execution_options(synchronize_session=False)
        )
        session.execute(
            update(VersionRow)
            .where(VersionRow.id == version_id)
            .values(downloads=VersionRow.downloads + 1)
            .execution_options(synchronize_session=False)
        )
        return True

    return context.database.transact(work)


def download_history(context: Context, actor: Actor, name: AdapterName, days: int = 90) -> tuple[DailyDownloads, ...]:
    """Return downloads per day (UTC), oldest first; days without one are left out."""
    since = (context.now() - timedelta(days=max(1, min(days, 3650)))).strftime("%Y-%m-%d")
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        query = (
            select(DownloadRow.day, func.count())
            .join(VersionRow, DownloadRow.version_id == VersionRow.id)
            .where(VersionRow.adapter_id == row.id, DownloadRow.day >= since)
            .group_by(DownloadRow.day)
            .order_by(DownloadRow.day)
        )
        return tuple(DailyDownloads(day, count) for day, count in session.execute(query))
