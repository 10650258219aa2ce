"""Commits from the Hugging Face wire: a changed tree becomes a version, or waits on its author's draft.

    start   read the branch's files, and apply the author's draft                      read transaction
    edit    apply the commit; is the result a whole, valid adapter?                    no transaction
    write   lock the adapter; start unchanged? -> the next version, or a draft         write transaction

What can never become a version (another method, a full model) is refused and not kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.adapter.content import AdapterContent
from hub.adapter.file_rules import MAGIC_BYTES, check_magic, check_name
from hub.adapter.files import build_manifest, inspect_adapter
from hub.adapter.foreign import refuse_foreign_files
from hub.adapter.publication import MAX_MESSAGE_LENGTH, Publication
from hub.errors import AdapterNotFound, InvalidAdapter, InvalidManifest, PreconditionFailed, UnsafeFile
from hub.formats.readable import Readable
from hub.manifest import FileEntry, canonical_json, check_paths
from hub.refs import AdapterName
from hub.registry.accounts import quotas
from hub.registry.context import DRAFT_LIFETIME, Context
from hub.registry.db.models import AdapterRow, CommitFileRow, CommitRow, LaneRow
from hub.registry.events import audit
from hub.registry.library import adapters, blobs, lanes, publish, revisions
from hub.registry.library.files import StoredReadable
from hub.registry.library.lanes import MAIN
from hub.registry.library.locked import Locked
from hub.registry.library.lookup import check_may_publish, find_adapter, find_namespace_to_publish
from hub.registry.rights.access import Actor
from hub.registry.values import Commit

MAX_TRIES = 30

Files = Mapping[str, str]
"""Path -> sha256."""


@dataclass(frozen=True, slots=True)
class Change:
    """What somebody wants to commit.

    edit: applies it to a tree.  parent: the commit it must be based on, if its author insists.
    held: why it stays a draft even if it is a whole adapter.
    """

    edit: Callable[[Files], Files]
    title: str = ""
    description: str = ""
    parent: str | None = None
    branch: str = MAIN
    held: str | None = None

    @property
    def text(self) -> str:
        return f"{self.title}\n\n{self.description}".strip()[:MAX_MESSAGE_LENGTH]


@dataclass(frozen=True, slots=True)
class Start:
    """What a commit starts from.  heads: the commits accepted as its parent.  files: with the draft applied."""

    head: str | None = None
    draft: str | None = None
    heads: frozenset[str | None] = frozenset()
    files: Files = field(default_factory=dict)


class _Moved(PreconditionFailed):
    """Another commit was written after ours had read its start."""


def commit(context: Context, actor: Actor, name: AdapterName, change: Change) -> Commit:
    """Apply a change to a branch.  PUBLISH.

    A whole, valid adapter becomes the next version, or resolves to the one with the same content, and ends the author's
    draft.  Anything else is kept on that draft, whose `problem` says what is missing.  Raises InvalidAdapter for what
    can never become a version, UnsafeFile for what is never stored, PreconditionFailed for a stale parent.
    """
    for _ in range(MAX_TRIES):
        try:
            return _try_commit(context, actor, name, change)
        except _Moved:
            continue
    raise PreconditionFailed(f"Others commit to {name} all the time: {MAX_TRIES} tries came too late. Try again.")


def start(context: Context, actor: Actor, name: AdapterName, branch: str = MAIN) -> Start:
    """Return the start of the actor's next commit to a branch.  Raises VersionNotFound for an unknown branch."""
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        return _start(context, session, actor, row, branch)


def _begin(context: Context, actor: Actor, name: AdapterName, branch: str) -> Start:
    """Return the start, which is empty for an adapter that this commit creates."""
    try:
        return start(context, actor, name, branch)
    except AdapterNotFound:
        return Start()


def _start(context: Context, session: Session, actor: Actor, row: AdapterRow, branch: str) -> Start:
    head = revisions.branch_head(session, row, branch)
    files = _tree(session, row, head)
    heads = {head, row.head if branch == MAIN else head}
    draft = _open_draft(context, session, actor, row, branch)
    if draft is not None:
        files = _with_changes(files, _tree(session, row, draft.base), _tree(session, row, draft.head))
        # Before the first version, a draft's author sees it as the branch.
        heads = {*(heads if row.version_count else ()), draft.head}
    return Start(head, draft.head if draft is not None else None, frozenset(heads), files)


def _open_draft(context: Context, session: Session, actor: Actor, row: AdapterRow, branch: str) -> LaneRow | None:
    found = lanes.find(session, row, lanes.draft_name(actor.user or "", branch))
    return found if found is not None and found.updated_at > context.now() - DRAFT_LIFETIME else None


def _tree(session: Session, row: AdapterRow, commit_id: str | None) -> dict[str, str]:
    found = revisions.find_commit(session, row, commit_id)
    return {file.path: file.sha256 for file in revisions.files_of(session, *found)} if found is not None else {}


def _with_changes(files: Files, before: Files, after: Files) -> dict[str, str]:
    """Apply the changes from `before` to `after` to `files`: this rebases a draft whose branch has moved."""
    kept = {path: sha256 for path, sha256 in files.items() if path in after or path not in before}
    return kept | {path: sha256 for path, sha256 in after.items() if before.get(path) != sha256}


def _try_commit(context: Context, actor: Actor, name: AdapterName, change: Change) -> Commit:
    with context.database.read() as session:
        check_may_publish(session, actor, name)
    began = _begin(context, actor, name, change.branch)
    if change.parent is not None and change.parent not in began.heads:
        raise PreconditionFailed(
            "The branch was updated since you opened this page. Please refresh and try again. "
            f"{change.branch} of {name} is at {(began.head or '')[:12]}, not at {change.parent[:12]}.",
            head=began.head,
        )
    tree = change.edit(began.files)
    check_paths(sorted(tree))
    with context.database.read() as session:
        files = _entries(session, actor, name, tree)
    with publish.lost_bytes_forgotten(context, files):
        proposal, problem = _propose(context, files, change)

    def work(session: Session) -> Commit:
        namespace, made = find_namespace_to_publish(context, session, actor, name)
        _entries(session, actor, name, tree)
        row = adapters.lock_or_add(context, session, namespace, name, None)
        if row.head is None:
            adapters.add_first_commit(context, session, actor, row)
        now = _start(context, session, actor, row, change.branch)
        if began.head is not None and (now.head, now.draft) != (began.head, began.draft):
            raise _Moved(f"{name} moved on.")
        at = Locked(context, session, actor, namespace, row)
        if proposal is not None:
            return _publish(at, proposal, made)
        return _keep(at, change, files, problem or "")

    return context.database.transact(work)


def _entries(session: Session, actor: Actor, name: AdapterName, tree: Files) -> dict[str, FileEntry]:
    """Return the tree's files with their sizes.  Raises InvalidManifest for a blob that the actor may not use."""
    sizes = blobs.present_sizes(session, actor, name, sorted(set(tree.values())))
    missing = sorted(path for path, sha256 in tree.items() if sha256 not in sizes)
    if missing:
        raise InvalidManifest(f"The bytes of {missing[0]!r} were not sent. Upload them, then commit.", missing=missing)
    return {path: FileEntry(path, sizes[sha256], sha256) for path, sha256 in tree.items()}


def _propose(
    context: Context, files: Mapping[str, FileEntry], change: Change
) -> tuple[publish.Proposal | None, str | None]:
    """Return what the tree would publish, or why it is a draft.  Raises for what can be neither."""
    readables: dict[str, Readable] = {
        path: StoredReadable(context.store, entry.sha256, entry.size) for path, entry in files.items()
    }
    for path, readable in readables.items():
        check_name(path)
        check_magic(path, readable.read(0, MAGIC_BYTES))
    refuse_foreign_files(readables)
    try:
        inspect_adapter(readables)
        manifest = build_manifest(readables, known=files)
    except UnsafeFile:
        raise
    except InvalidAdapter as error:
        return None, error.message
    if change.held is not None:
        return None, change.held
    card = publish.read_stored_card(context, files)
    branch = None if change.branch == MAIN else change.branch
    content = AdapterContent.from_manifest(manifest)
    return publish.Proposal(manifest, content, card, Publication(message=change.text), branch, is_commit=True), None


def _publish(at: Locked, proposal: publish.Proposal, namespace_made: bool) -> Commit:
    session, actor, row = at.session, at.actor, at.row
    draft = lanes.find(session, row, lanes.draft_name(actor.user or "", proposal.branch or MAIN))
    if draft is not None:
        lanes.drop(session, row, draft)
    found = publish.write(at, proposal, namespace_made=namespace_made)
    commit, version = revisions.at(session, actor, row, f"v{found.version.number}")
    return revisions.to_commit(session, commit, version)


# Drafts ----------------------------------------------------------------------------------------------------------


def _keep(at: Locked, change: Change, files: Mapping[str, FileEntry], problem: str) -> Commit:
    """Save these files as the author's draft; if they equal the branch's, end the draft."""
    session, row = at.session, at.row
    began = _start(at.context, session, at.actor, row, change.branch)
    lane = lanes.draft_name(at.actor.user or "", change.branch)
    open_draft = lanes.find(session, row, lane)
    tree = {path: entry.sha256 for path, entry in files.items()}
    if tree == _tree(session, row, began.head):
        if open_draft is not None:
            lanes.drop(session, row, open_draft)
        return _commit_of(session, row, began.head)
    if began.draft is not None and tree == _tree(session, row, began.draft):
        return _commit_of(session, row, began.draft)
    if open_draft is not None and began.draft is None:
        lanes.drop(session, row, open_draft)  # the draft had expired
    made = _add_commit(at, change, files, began, problem, lane)
    user, when = at.actor.user_id, made.created_at
    values = {"kind": lanes.DRAFT, "head": made.commit, "base": began.head, "user_id": user, "updated_at": when}
    session.merge(LaneRow(adapter_id=row.id, name=lane, **values))
    audit.record(
        at.context,
        session,
        at.actor,
        "draft.commit",
        row.full_name,
        at.namespace.name,
        commit=made.commit,
        problem=problem,
    )
    return revisions.to_commit(session, made, None)


def _commit_of(session: Session, row: AdapterRow, commit_id: str | None) -> Commit:
    found = revisions.find_commit(session, row, commit_id)
    assert found is not None, "the head of a locked lane is there"  # noqa: S101
    return revisions.to_commit(session, *found)


def _add_commit(
    at: Locked, change: Change, files: Mapping[str, FileEntry], began: Start, problem: str, lane: str
) -> CommitRow:
    title, _, rest = change.text.partition("\n")
    listed = [[entry.path, entry.size, entry.sha256] for entry in sorted(files.values())]
    number = at.session.scalar(select(CommitRow.id).order_by(CommitRow.id.desc()).limit(1)) or 0
    named = canonical_json(["draft", at.row.id, number, lane, listed, change.text])
    counted = _new_bytes(at, files, began)
    blobs_named = [entry.sha256 for entry in files.values()]
    quotas.take(at.session, at.namespace, counted, at.context.now(), at.row.full_name, blobs_named)
    made = CommitRow(
        adapter_id=at.row.id,
        commit=hashlib.sha256(named).hexdigest()[:40],
        parent=began.draft or began.head,
        title=title.strip() or "draft",
        message=rest.strip(),
        problem=problem,
        lane=lane,
        counted_bytes=counted,
        user_id=at.actor.user_id,
        created_at=at.context.now(),
    )
    at.session.add(made)
    at.session.flush()
    at.session.add_all(CommitFileRow(commit_id=made.id, path=path, sha256=item.sha256) for path, item in files.items())
    at.session.flush()
    return made


def _new_bytes(at: Locked, files: Mapping[str, FileEntry], began: Start) -> int:
    """Return the size of the blobs that neither the branch nor the previous draft has."""
    known = {*_tree(at.session, at.row, began.head).values(), *_tree(at.session, at.row, began.draft).values()}
    return sum(entry.size for entry in files.values() if entry.sha256 not in known)
