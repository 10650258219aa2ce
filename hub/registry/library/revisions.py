"""Revisions, as the Hugging Face wire names them: `main`, versions, aliases, branches, drafts, commit ids.

`main` is always a version: the last one committed to it, or, if that one is yanked, the newest that isn't.  Before the
first version `main` is empty, except that an author sees their own draft there.
A version's commit shares the version's files; only drafts have file rows of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.errors import FileNotFound, VersionNotFound
from hub.manifest import FileEntry
from hub.refs import AdapterName, AdapterRef, parse_selector
from hub.registry.context import Context
from hub.registry.db.models import (
    AdapterRow,
    BlobRow,
    CommitFileRow,
    CommitRow,
    UserRow,
    VersionFileRow,
    VersionRow,
)
from hub.registry.library import adapters, lanes, version_values, versions
from hub.registry.library.files import to_stored
from hub.registry.library.lanes import MAIN
from hub.registry.library.lookup import find_adapter
from hub.registry.library.resolving import RevisionCache, readable_state
from hub.registry.rights import permissions
from hub.registry.rights.access import Actor
from hub.registry.values import Commit, StoredFile, Tree, TreeFile

MAX_COMMITS = 1_000

Found = tuple[CommitRow, VersionRow | None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tree, and the id of its row in `versions`, if it is a version."""

    tree: Tree
    version_id: int | None


SnapshotCache = RevisionCache[Snapshot]


def tree(context: Context, cache: SnapshotCache, actor: Actor, name: AdapterName, revision: str = MAIN) -> Tree:
    """Return all files at `main`, `latest`, `vN`, an alias, a branch, a draft, a 40-hex commit, or `sha256:…`.

    Raises VersionNotFound for an unknown revision.
    """
    return _snapshot(context, cache, actor, name, revision, past_gate=True).tree


def open_at(
    context: Context, cache: SnapshotCache, actor: Actor, name: AdapterName, revision: str, path: str
) -> StoredFile:
    """Open a file at any revision, drafts included.  Raises FileNotFound."""
    found = _snapshot(context, cache, actor, name, revision, past_gate=path == permissions.CARD_FILE)
    commit, file = found.tree.commit, found.tree.file(path)
    if file is None:
        raise FileNotFound(f"{name} has no file {path[:200]!r} at {revision[:100]}.", commit=commit.id)
    entry = FileEntry(file.path, file.size, file.sha256)
    return to_stored(context, entry, file.git_sha1, commit.version, commit.id, found.tree.yanked, found.version_id)


def _snapshot(
    context: Context, cache: SnapshotCache, actor: Actor, name: AdapterName, revision: str, *, past_gate: bool
) -> Snapshot:
    """Return a tree; a version's is cached until the adapter changes.  A draft's is not: it depends on the reader."""
    state = readable_state(context, actor, name, past_gate=past_gate)
    key = (state.id, revision)
    found = cache.get(key, state.revision)
    if found is None:
        found = _read(context, actor, name, revision)
        if found.version_id is not None:
            cache.put(key, state.revision, found)
    return found


def _read(context: Context, actor: Actor, name: AdapterName, revision: str) -> Snapshot:
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        commit, version = at(session, actor, row, revision)
        yanked = version_values.yanked_of(session, version) if version is not None else None
        read = Tree(
            adapters.describe(session, actor, row),
            to_commit(session, commit, version),
            files_of(session, commit, version),
            yanked,
        )
        return Snapshot(read, version.id if version is not None else None)


def commits(
    context: Context,
    actor: Actor,
    name: AdapterName,
    revision: str = MAIN,
    limit: int = 100,
    before: str | None = None,
) -> tuple[Commit, ...]:
    """List commits from `revision` back, newest first; `before` is the last commit id of a page."""
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        start, _ = at(session, actor, row, revision)
        query = select(CommitRow, VersionRow).outerjoin(VersionRow, CommitRow.version_id == VersionRow.id)
        query = query.where(CommitRow.adapter_id == row.id, VersionRow.deleted_at.is_(None))
        if start.lane is not None:
            query = query.where((CommitRow.lane == start.lane) | _on_main_up_to(session, row, start.lane))
        else:
            query = query.where(CommitRow.lane.is_(None))
        # `main` may point back to an older version's commit; its history is still every accepted commit.
        if revision != MAIN:
            query = query.where(CommitRow.id <= start.id)
        if before is not None:
            query = query.where(CommitRow.id < at(session, actor, row, before)[0].id)
        query = query.order_by(CommitRow.id.desc()).limit(max(1, min(limit, MAX_COMMITS)))
        return tuple(to_commit(session, commit, version) for commit, version in session.execute(query))


def _on_main_up_to(session: Session, row: AdapterRow, lane: str):  # type: ignore[no-untyped-def]
    found = lanes.find(session, row, lane)
    base = select(CommitRow.id).where(CommitRow.adapter_id == row.id, CommitRow.commit == (found.base if found else ""))
    return CommitRow.lane.is_(None) & (CommitRow.id <= base.scalar_subquery())


def at(session: Session, actor: Actor, row: AdapterRow, revision: str) -> Found:
    """Return the commit of any kind of revision, and its version if it has one."""
    if revision == MAIN:
        return _at_main(session, actor, row)
    lane = lanes.find(session, row, revision.removeprefix("refs/"))
    found = find_commit(session, row, lane.head if lane is not None else revision)
    if found is not None and _may_see(session, actor, row, *found):
        return found
    name = AdapterName.parse(row.full_name)
    _, version = versions.find(session, actor, AdapterRef(name, parse_selector(revision)))
    commit = session.scalar(select(CommitRow).where(CommitRow.version_id == version.id).limit(1))
    if commit is None:
        raise VersionNotFound(f"{name} has no commit for {revision[:100]}.")
    return commit, version


def _at_main(session: Session, actor: Actor, row: AdapterRow) -> Found:
    found = find_commit(session, row, main_of(session, row))
    if found is None:
        raise VersionNotFound(f"{row.full_name} has no commit yet.")
    own = lanes.find(session, row, lanes.draft_name(actor.user)) if found[1] is None and actor.user else None
    draft = find_commit(session, row, own.head) if own is not None else None
    return draft if draft is not None and _may_see(session, actor, row, *draft) else found


def find_commit(session: Session, row: AdapterRow, commit_id: str | None) -> Found | None:
    query = select(CommitRow, VersionRow).outerjoin(VersionRow, CommitRow.version_id == VersionRow.id)
    query = query.where(CommitRow.adapter_id == row.id, CommitRow.commit == commit_id)
    found = session.execute(query.order_by(CommitRow.id.desc()).limit(1)).first()
    return None if found is None or (found[1] is not None and found[1].deleted_at is not None) else (found[0], found[1])


def _may_see(session: Session, actor: Actor, row: AdapterRow, commit: CommitRow, version: VersionRow | None) -> bool:
    return version is not None or commit.problem is None or lanes.may_see_drafts(session, actor, row)


def main_of(session: Session, row: AdapterRow) -> str | None:
    """Return `main`'s commit: the version last committed to it or, if that one is yanked, the newest that isn't."""
    query = select(VersionRow).join(CommitRow, CommitRow.version_id == VersionRow.id)
    query = query.where(CommitRow.adapter_id == row.id, CommitRow.commit == row.head, VersionRow.deleted_at.is_(None))
    version = session.scalar(query.limit(1))
    if version is None or version.yanked_at is None or row.latest_number is None:
        return row.head
    latest = select(VersionRow.digest).where(VersionRow.adapter_id == row.id, VersionRow.number == row.latest_number)
    return (session.scalar(latest) or "")[:40]


def branch_head(session: Session, row: AdapterRow, branch: str) -> str | None:
    """Return a branch's head, as the parent of the next commit.  Raises VersionNotFound."""
    if branch == MAIN:
        return main_of(session, row)
    lane = lanes.find(session, row, branch)
    if lane is None or lane.kind != lanes.BRANCH:
        raise VersionNotFound(f"{row.full_name} has no branch {branch[:100]!r}.")
    return lane.head


def files_of(session: Session, commit: CommitRow, version: VersionRow | None) -> tuple[TreeFile, ...]:
    query = select(BlobRow.size, BlobRow.sha256, BlobRow.git_sha1)
    if version is not None:
        rows = query.add_columns(VersionFileRow.path).join(VersionFileRow, VersionFileRow.sha256 == BlobRow.sha256)
        rows = rows.where(VersionFileRow.version_id == version.id).order_by(VersionFileRow.path)
    else:
        rows = query.add_columns(CommitFileRow.path).join(CommitFileRow, CommitFileRow.sha256 == BlobRow.sha256)
        rows = rows.where(CommitFileRow.commit_id == commit.id).order_by(CommitFileRow.path)
    return tuple(TreeFile(path, size, sha256, git) for size, sha256, git, path in session.execute(rows))


def to_commit(session: Session, row: CommitRow, version: VersionRow | None) -> Commit:
    author = session.scalar(select(UserRow.name).where(UserRow.id == row.user_id)) if row.user_id else None
    number = version.number if version is not None else None
    return Commit(row.commit, row.parent, row.title, row.message, author, row.created_at, number, row.problem, row.lane)
