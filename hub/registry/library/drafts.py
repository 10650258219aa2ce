"""Commits and trees, as the Hugging Face wire sees an adapter.

Every accepted commit is kept.  One whose tree is a whole, valid adapter is the next version (or the version that has
the same content already); any other is a draft: it is on `main`, says what it lacks, is never `latest`, never loaded.
Files of a version's commit are the version's files; only drafts have rows of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.adapter.content import AdapterContent
from hub.adapter.file_rules import MAGIC_BYTES, check_magic, check_name
from hub.adapter.files import build_manifest, inspect_adapter
from hub.errors import FileNotFound, InvalidAdapter, InvalidManifest, PreconditionFailed, UnsafeFile, VersionNotFound
from hub.formats.readable import Readable
from hub.manifest import FileEntry, canonical_json, check_paths
from hub.refs import AdapterName, AdapterRef, parse_selector
from hub.registry.accounts import quotas
from hub.registry.context import Context
from hub.registry.db.models import (
    AdapterRow,
    BlobRow,
    CommitFileRow,
    CommitRow,
    NamespaceRow,
    UserRow,
    VersionFileRow,
    VersionRow,
)
from hub.registry.events import audit
from hub.registry.library import adapters, blobs, publish, version_values, versions
from hub.registry.library.files import StoredReadable, to_stored
from hub.registry.library.lookup import check_may_publish, find_adapter, find_namespace_to_publish
from hub.registry.rights import permissions
from hub.registry.rights.access import Actor
from hub.registry.values import Commit, StoredFile, Tree, TreeFile

MAIN = "main"
MAX_COMMITS = 1_000


# Reading ---------------------------------------------------------------------------------------------------------


def tree(context: Context, actor: Actor, name: AdapterName, revision: str = "main") -> Tree:
    """Return all files at `main`, `latest`, `vN`, an alias, a 40-hex commit, or `sha256:…`.

    Raises VersionNotFound for a revision that isn't there.
    """
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        commit, version = _at(session, actor, row, name, revision)
        yanked = version_values.yanked_of(session, version) if version is not None else None
        return Tree(
            adapters.describe(session, actor, row),
            _to_commit(session, commit, version),
            _files(session, commit, version),
            yanked,
        )


def open_at(context: Context, actor: Actor, name: AdapterName, revision: str, path: str) -> StoredFile:
    """Open a file at any revision, drafts included.  Raises FileNotFound."""
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        permissions.check_gate(session, actor, row, path)
        commit, version = _at(session, actor, row, name, revision)
        found = next((file for file in _files(session, commit, version) if file.path == path), None)
        yanked = version_values.yanked_of(session, version) if version is not None else None
    if found is None:
        raise FileNotFound(f"{name} has no file {path[:200]!r} at {revision[:100]}.", commit=commit.commit)
    number, version_id = (version.number, version.id) if version is not None else (None, None)
    entry = FileEntry(found.path, found.size, found.sha256)
    return to_stored(context, entry, found.git_sha1, number, commit.commit, yanked, version_id)


def commits(
    context: Context,
    actor: Actor,
    name: AdapterName,
    revision: str = "main",
    limit: int = 100,
    before: str | None = None,
) -> tuple[Commit, ...]:
    """List accepted commits from `revision` back, newest first; `before` is the last commit id of a page."""
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        start, _ = _at(session, actor, row, name, revision)
        query = select(CommitRow, VersionRow).outerjoin(VersionRow, CommitRow.version_id == VersionRow.id)
        query = query.where(CommitRow.adapter_id == row.id, VersionRow.deleted_at.is_(None))
        # `main` may have gone back to an older version's commit; its history is still all that was accepted.
        if revision != MAIN:
            query = query.where(CommitRow.id <= start.id)
        if before is not None:
            query = query.where(CommitRow.id < _at(session, actor, row, name, before)[0].id)
        query = query.order_by(CommitRow.id.desc()).limit(max(1, min(limit, MAX_COMMITS)))
        return tuple(_to_commit(session, commit, version) for commit, version in session.execute(query))


def _at(
    session: Session, actor: Actor, row: AdapterRow, name: AdapterName, revision: str
) -> tuple[CommitRow, VersionRow | None]:
    """Return the commit, and its version if it is one, of any kind of revision."""
    commit_id = main_of(session, row) if revision == MAIN else revision
    if commit_id is not None:
        query = select(CommitRow, VersionRow).outerjoin(VersionRow, CommitRow.version_id == VersionRow.id)
        query = query.where(CommitRow.adapter_id == row.id, CommitRow.commit == commit_id)
        found = session.execute(query.order_by(CommitRow.id.desc()).limit(1)).first()
        if found is not None and (found[1] is None or found[1].deleted_at is None):
            return found[0], found[1]
    if revision == MAIN:
        raise VersionNotFound(f"{name} has no commit yet.")
    _, version = versions.find(session, actor, AdapterRef(name, parse_selector(revision)))
    commit = session.scalar(select(CommitRow).where(CommitRow.version_id == version.id).limit(1))
    if commit is None:
        raise VersionNotFound(f"{name} has no commit for {revision[:100]}.")
    return commit, version


def main_of(session: Session, row: AdapterRow) -> str | None:
    """Return the commit that `main` means: the last one accepted, or the newest good version if that is yanked."""
    query = select(VersionRow).join(CommitRow, CommitRow.version_id == VersionRow.id)
    query = query.where(CommitRow.adapter_id == row.id, CommitRow.commit == row.head, VersionRow.deleted_at.is_(None))
    version = session.scalar(query.limit(1))
    if version is None or version.yanked_at is None or row.latest_number is None:
        return row.head
    latest = select(VersionRow.digest).where(VersionRow.adapter_id == row.id, VersionRow.number == row.latest_number)
    return (session.scalar(latest) or "")[:40]


def _files(session: Session, commit: CommitRow, version: VersionRow | None) -> tuple[TreeFile, ...]:
    query = select(BlobRow.size, BlobRow.sha256, BlobRow.git_sha1)
    if version is not None:
        rows = query.add_columns(VersionFileRow.path).join(VersionFileRow, VersionFileRow.sha256 == BlobRow.sha256)
        rows = rows.where(VersionFileRow.version_id == version.id).order_by(VersionFileRow.path)
    else:
        rows = query.add_columns(CommitFileRow.path).join(CommitFileRow, CommitFileRow.sha256 == BlobRow.sha256)
        rows = rows.where(CommitFileRow.commit_id == commit.id).order_by(CommitFileRow.path)
    return tuple(TreeFile(path, size, sha256, git) for size, sha256, git, path in session.execute(rows))


def _to_commit(session: Session, row: CommitRow, version: VersionRow | None) -> Commit:
    author = session.scalar(select(UserRow.name).where(UserRow.id == row.user_id)) if row.user_id else None
    number = version.number if version is not None else None
    return Commit(row.commit, row.parent, row.title, row.message, author, row.created_at, number, row.problem)


# Writing ---------------------------------------------------------------------------------------------------------


def commit_tree(
    context: Context,
    actor: Actor,
    name: AdapterName,
    parent: str | None,
    tree: Mapping[str, str],
    message: str = "",
    description: str = "",
) -> Commit:
    """Make `tree` (path -> sha256 of a blob that is present for the actor) the new `main`.  PUBLISH.

    parent: the commit that the tree was made from; PreconditionFailed unless it is `main` now.
    A whole, valid adapter becomes the next version (or is the version with the same content); anything else is
    kept as a draft whose `problem` says what is missing.  Raises UnsafeFile for what is never stored.
    """
    check_paths(sorted(tree))
    with context.database.read() as session:
        check_may_publish(session, actor, name)
        files = _entries(session, actor, name, tree)
    text = f"{message}\n\n{description}".strip()[: publish.MAX_MESSAGE_LENGTH]
    with publish.lost_bytes_forgotten(context, files):
        proposal, problem = _propose(context, files, text)

    def work(session: Session) -> Commit:
        namespace, made = find_namespace_to_publish(context, session, actor, name)
        _entries(session, actor, name, tree)
        row = adapters.lock_or_add(context, session, namespace, name, None)
        if row.head is None:
            adapters.add_first_commit(context, session, actor, row)
        main = main_of(session, row)
        if parent is not None and parent not in {row.head, main}:
            raise PreconditionFailed(
                f"{name} moved on: main is {(main or '')[:12]}, not {parent[:12]}. Fetch it, then commit again.",
                head=main,
            )
        if proposal is not None:
            found = publish.write(
                context, session, actor, namespace, row, proposal, namespace_made=made, always_move_main=True
            )
            commit, version = _at(session, actor, row, name, f"v{found.version.number}")
            return _to_commit(session, commit, version)
        head, version = _at(session, actor, row, name, row.head or MAIN)
        if version is None and {file.path: file.sha256 for file in _files(session, head, None)} == dict(tree):
            return _to_commit(session, head, None)
        return _to_commit(session, _add_draft(context, session, actor, namespace, row, files, text, problem), None)

    return context.database.transact(work)


def _entries(session: Session, actor: Actor, name: AdapterName, tree: Mapping[str, str]) -> dict[str, FileEntry]:
    """Return the tree's files with their sizes.  Raises InvalidManifest for a blob that the actor may not use."""
    sizes = blobs.present_sizes(session, actor, name, sorted(set(tree.values())))
    missing = sorted(path for path, sha256 in tree.items() if sha256 not in sizes)
    if missing:
        raise InvalidManifest(f"The bytes of {missing[0]!r} were not sent. Upload them, then commit.", missing=missing)
    return {path: FileEntry(path, sizes[sha256], sha256) for path, sha256 in tree.items()}


def _propose(context: Context, files: Mapping[str, FileEntry], text: str) -> tuple[publish.Proposal | None, str | None]:
    """Return what the tree would publish, or why it is a draft.  Raises UnsafeFile for what is never stored."""
    readables: dict[str, Readable] = {
        path: StoredReadable(context.store, entry.sha256, entry.size) for path, entry in files.items()
    }
    for path, readable in readables.items():
        check_name(path)
        check_magic(path, readable.read(0, MAGIC_BYTES))
    try:
        inspect_adapter(readables)
        manifest = build_manifest(readables, known=files)
    except UnsafeFile:
        raise
    except InvalidAdapter as error:
        return None, error.message
    card = publish.read_stored_card(context, files)
    return publish.Proposal(manifest, AdapterContent.from_manifest(manifest), card, text, None), None


def _add_draft(
    context: Context,
    session: Session,
    actor: Actor,
    namespace: NamespaceRow,
    row: AdapterRow,
    files: Mapping[str, FileEntry],
    text: str,
    problem: str | None,
) -> CommitRow:
    title, _, rest = text.partition("\n")
    listed = [[entry.path, entry.size, entry.sha256] for entry in sorted(files.values())]
    number = session.scalar(select(CommitRow.id).order_by(CommitRow.id.desc()).limit(1)) or 0
    named = canonical_json(["draft", row.id, number, row.head, listed, text])
    commit = CommitRow(
        adapter_id=row.id,
        commit=hashlib.sha256(named).hexdigest()[:40],
        parent=row.head,
        title=title.strip() or "draft",
        message=rest.strip(),
        problem=problem,
        user_id=actor.user_id,
        created_at=context.now(),
    )
    quotas.take(session, namespace, _new_bytes(session, row, files))
    session.add(commit)
    session.flush()
    session.add_all(CommitFileRow(commit_id=commit.id, path=path, sha256=item.sha256) for path, item in files.items())
    row.head = commit.commit
    row.updated_at = commit.created_at
    audit.record(
        context, session, actor, "draft.commit", row.full_name, namespace.name, commit=commit.commit, problem=problem
    )
    return commit


def _new_bytes(session: Session, row: AdapterRow, files: Mapping[str, FileEntry]) -> int:
    """Return the size of what this draft adds to what `main` has."""
    query = select(CommitRow, VersionRow).outerjoin(VersionRow, CommitRow.version_id == VersionRow.id)
    head = session.execute(query.where(CommitRow.adapter_id == row.id, CommitRow.commit == row.head)).first()
    known = {file.sha256 for file in _files(session, head[0], head[1])} if head is not None else set()
    return sum(entry.size for entry in files.values() if entry.sha256 not in known)
