"""Adapters: create, show, update, deprecate, delete, and keep their latest version's facts current."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy import delete as delete_rows
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.adapter.facets import KEPT
from hub.errors import Conflict, InvalidRequest
from hub.manifest import CONFIG_FILE
from hub.refs import AdapterName, AdapterRef
from hub.registry.accounts import quotas
from hub.registry.context import DELETE_WINDOW, Context
from hub.registry.db.models import (
    AdapterRow,
    AliasRow,
    BaseRow,
    BlobGrantRow,
    CommitRow,
    NamespaceRow,
    UserRow,
    VersionRow,
)
from hub.registry.events import audit
from hub.registry.library import lanes
from hub.registry.library.lookup import find_adapter, find_namespace_to_publish
from hub.registry.rights import permissions
from hub.registry.rights.access import Action, Actor
from hub.registry.search import facets
from hub.registry.values import Adapter, Alias, Deprecated

MAX_REASON_LENGTH = 2_000


def get(context: Context, actor: Actor, name: AdapterName) -> Adapter:
    """Raises AdapterNotFound."""
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        return describe(session, actor, row)


def check_gate(context: Context, actor: Actor, name: AdapterName) -> None:
    """Raise Gated if the actor may see the adapter's card and not its other files.  Raises AdapterNotFound."""
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        permissions.check_gate(session, actor, row, CONFIG_FILE)


def create(context: Context, actor: Actor, name: AdapterName, *, private: bool = False) -> Adapter:
    """Create an empty adapter, hidden from the catalog until it has a version.  PUBLISH.  Conflict if it exists."""

    def work(session: Session) -> Adapter:
        namespace, _ = find_namespace_to_publish(context, session, actor, name)
        row = lock_or_add(context, session, namespace, name, private)
        if row.head is not None:
            raise Conflict(f"The adapter {name} exists.")
        add_first_commit(context, session, actor, row)
        audit.record(context, session, actor, "adapter.create", str(name), name.namespace, private=private)
        return describe(session, actor, row)

    return context.database.transact(work)


def lock_or_add(
    context: Context, session: Session, namespace: NamespaceRow, name: AdapterName, private: bool | None
) -> AdapterRow:
    """Return the adapter's row, locked; insert it if there is none.

    A deleted adapter keeps its row.  Creating the name again inserts a new row, which inherits only the version
    counter.
    """
    same_name = (AdapterRow.namespace_id == namespace.id, AdapterRow.name == name.name)
    query = select(AdapterRow).where(*same_name, AdapterRow.deleted_at.is_(None))
    row = session.scalar(query.with_for_update().execution_options(populate_existing=True))
    if row is not None:
        return row
    quotas.check_adapters(session, namespace)
    now = context.now()
    row = AdapterRow(
        namespace_id=namespace.id,
        name=name.name,
        full_name=str(name),
        private=bool(private),
        last_number=session.scalar(select(func.max(AdapterRow.last_number)).where(*same_name)) or 0,
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    session.flush()
    return row


def add_first_commit(context: Context, session: Session, actor: Actor, row: AdapterRow) -> str:
    """Add an empty first commit, so that `main` is always a commit."""
    commit = hashlib.sha256(f"lorahub:empty:{row.full_name}:{row.last_number}".encode()).hexdigest()[:40]
    session.add(
        CommitRow(
            adapter_id=row.id, commit=commit, title="initial commit", user_id=actor.user_id, created_at=context.now()
        )
    )
    row.head = commit
    session.flush()
    return commit


def update(
    context: Context, actor: Actor, name: AdapterName, *, private: bool | None = None, gated: bool | None = None
) -> Adapter:
    """Change who may read it.  `gated` restricts the files, but not the card, to namespace members.  OWN."""

    def work(session: Session) -> Adapter:
        row, _ = find_adapter(session, actor, name, Action.OWN, lock=True)
        with facets.reindexed(session, row):
            row.private = row.private if private is None else private
            row.gated = row.gated if gated is None else gated
            row.updated_at = context.now()
        changes = {"private": private, "gated": gated}
        audit.record(context, session, actor, "adapter.update", str(name), name.namespace, **changes)
        return describe(session, actor, row)

    return context.database.transact(work)


def deprecate(
    context: Context, actor: Actor, name: AdapterName, reason: str | None, successor: str | None = None
) -> Adapter:
    """Deprecate a whole adapter in favour of a successor; a reason of None undoes it.  PUBLISH."""
    check_deprecation(reason, successor)

    def work(session: Session) -> Adapter:
        row, _ = find_adapter(session, actor, name, Action.PUBLISH, lock=True)
        row.deprecated_reason, row.deprecated_successor = reason, successor
        row.deprecated_at = None if reason is None else context.now()
        action = "adapter.undeprecate" if reason is None else "adapter.deprecate"
        audit.record(context, session, actor, action, str(name), name.namespace, reason=reason, successor=successor)
        return describe(session, actor, row)

    return context.database.transact(work)


def check_deprecation(reason: str | None, successor: str | None) -> None:
    """Raise InvalidRequest or InvalidRef unless the reason's length is allowed and the successor is a ref."""
    if reason is None and successor is not None:
        raise InvalidRequest("A successor goes with a reason: say why to move on.")
    if reason is not None:
        check_reason(reason)
    if successor is not None:
        AdapterRef.parse(successor)


def check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > MAX_REASON_LENGTH:
        raise InvalidRequest(f"Say why, in at most {MAX_REASON_LENGTH:,} characters: every user will read it.")


def delete(context: Context, actor: Actor, name: AdapterName) -> None:
    """Delete an adapter whose versions are all younger than 72 hours (or that has none).  OWN.

    The namespace keeps the name, and version numbers continue from the last one.
    """

    def work(session: Session) -> None:
        row, namespace = find_adapter(session, actor, name, Action.OWN, lock=True)
        alive = (VersionRow.adapter_id == row.id, VersionRow.deleted_at.is_(None))
        now = context.now()
        oldest = session.scalar(select(func.min(VersionRow.created_at)).where(*alive))
        if oldest is not None and now - oldest > DELETE_WINDOW:
            raise Conflict(
                f"{name} has versions older than 72 hours, which others may rely on: it can't be deleted. "
                f"Yank them, or deprecate it: lorahub deprecate {name}"
            )
        with facets.reindexed(session, row):
            for version in session.scalars(select(VersionRow).where(*alive)):
                version.deleted_at = now
                quotas.give_back(session, namespace, version.size_bytes)
            for alias in session.scalars(select(AliasRow).where(AliasRow.adapter_id == row.id)):
                session.delete(alias)
            session.flush()
            refresh(session, row)
            lanes.drop_all(session, row)
            row.deleted_at, row.head = now, None
        session.execute(delete_rows(BlobGrantRow).where(BlobGrantRow.adapter == str(name)))
        audit.record(context, session, actor, "adapter.delete", str(name), name.namespace)

    context.database.transact(work)


def refresh(session: Session, row: AdapterRow) -> None:
    """Update the columns that an adapter copies from its versions: the latest one's facts, and the count.

    A branch's version is never the latest.  When every version is yanked, the catalog still shows the newest.
    """
    alive = select(VersionRow).where(VersionRow.adapter_id == row.id, VersionRow.deleted_at.is_(None))
    newest_first = alive.order_by(VersionRow.number.desc())
    on_main = newest_first.where(VersionRow.branch.is_(None))
    latest = session.scalar(on_main.where(VersionRow.yanked_at.is_(None)).limit(1))
    newest = session.scalar(newest_first.limit(1))
    count = select(func.count()).select_from(VersionRow)
    row.version_count = (
        session.scalar(count.where(VersionRow.adapter_id == row.id, VersionRow.deleted_at.is_(None))) or 0
    )
    row.latest_number = latest.number if latest is not None else None
    row.recent_id = newest.id if newest is not None else 0
    shown = latest or session.scalar(on_main.limit(1)) or newest
    if shown is not None:
        _show(row, shown)
    session.flush()


def _show(row: AdapterRow, version: VersionRow) -> None:
    row.description, row.base_id, row.size_bytes = version.description, version.base_id, version.size_bytes
    for facet in KEPT:
        kept = getattr(version, facet.column)
        setattr(row, facet.column, list(kept) if isinstance(kept, list) else kept)


# Values ----------------------------------------------------------------------------------------------------------


def describe(session: Session, actor: Actor, row: AdapterRow) -> Adapter:
    return describe_many(session, actor, [row])[0]


def describe_many(session: Session, actor: Actor, rows: Sequence[AdapterRow]) -> list[Adapter]:
    """Return the values of adapters; the caller has checked that the actor may read them."""
    base_ids = {row.base_id for row in rows if row.base_id is not None}
    bases = dict(session.execute(select(BaseRow.id, BaseRow.name).where(BaseRow.id.in_(base_ids))).all())
    aliases = aliases_of(session, [row.id for row in rows])
    return [_to_adapter(row, bases.get(row.base_id or 0), aliases.get(row.id, [])) for row in rows]


def aliases_of(session: Session, adapter_ids: Sequence[int]) -> dict[int, list[Alias]]:
    query = (
        select(AliasRow, VersionRow.number, UserRow.name)
        .join(VersionRow, AliasRow.version_id == VersionRow.id)
        .outerjoin(UserRow, AliasRow.updated_by == UserRow.id)
        .where(AliasRow.adapter_id.in_(adapter_ids))
        .order_by(AliasRow.name)
    )
    found: dict[int, list[Alias]] = {}
    for row, number, user in session.execute(query):
        found.setdefault(row.adapter_id, []).append(Alias(row.name, number, row.protected, row.updated_at, user))
    return found


def _to_adapter(row: AdapterRow, base: str | None, aliases: Sequence[Alias]) -> Adapter:
    deprecated = None
    if row.deprecated_reason is not None and row.deprecated_at is not None:
        deprecated = Deprecated(row.deprecated_reason, row.deprecated_successor, row.deprecated_at)
    return Adapter(
        name=AdapterName.parse(row.full_name),
        id=row.id,
        private=row.private,
        description=row.description,
        task=row.task,
        license=row.license,
        tags=tuple(row.tags),
        base=base,
        latest=row.latest_number,
        version_count=row.version_count,
        downloads=row.downloads,
        created_at=row.created_at,
        updated_at=row.updated_at,
        rank=row.rank,
        alpha=row.alpha,
        method=row.method,
        dtype=row.dtype,
        size_bytes=row.size_bytes,
        target_modules=tuple(row.target_modules),
        deprecated=deprecated,
        aliases=tuple(aliases),
        gated=row.gated,
    )
