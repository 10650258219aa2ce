"""Publishing: turn blobs that are already uploaded into the next version, in one transaction.

    1  may the actor publish here, and use these blobs?                          read
    2  rebuild the manifest from storage, and compare it with the one sent       no transaction: blobs don't change
    3  lock the adapter · same content? · number · version, files, manifest, commit, alias, index, event    write

Blobs first, row last: a reader never sees half a version, and a crash leaves only blobs for gc to delete.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.adapter.content import AdapterContent
from hub.adapter.facets import KEPT
from hub.adapter.files import build_manifest
from hub.adapter.publication import Publication
from hub.errors import Conflict, FileNotFound, InvalidManifest
from hub.formats.readable import Readable
from hub.manifest import FileEntry, Manifest, canonical_json
from hub.refs import AdapterName, AdapterRef
from hub.registry.accounts import quotas
from hub.registry.context import Context
from hub.registry.db.models import (
    AdapterRow,
    CommitRow,
    LineageRow,
    ManifestRow,
    VersionFileRow,
    VersionRow,
)
from hub.registry.events import audit
from hub.registry.library import adapters, aliases, bases, blobs, lanes, version_values, versions
from hub.registry.library.card import MAX_README_BYTES, Card, read_card
from hub.registry.library.files import StoredReadable
from hub.registry.library.locked import Locked
from hub.registry.library.lookup import check_may_publish, find_namespace_to_publish
from hub.registry.library.unnamed import forget_lost
from hub.registry.rights.access import Actor
from hub.registry.search import facets
from hub.registry.values import Published

README = "README.md"
MAX_OF_EQUAL_FILES = 16
"""Versions of an adapter that have the same files, and differ in what they say of their base."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A version to be, checked against storage.

    branch: the branch that it is committed to; None for `main`.  is_commit: whether content that already is a version
    becomes the branch's head, as a commit of that tree does.
    """

    manifest: Manifest
    content: AdapterContent
    card: Card
    publication: Publication
    branch: str | None = None
    is_commit: bool = False


def publish(
    context: Context,
    actor: Actor,
    name: AdapterName,
    manifest: Manifest,
    publication: Publication | None = None,
) -> Published:
    """Make the manifest the adapter's next version, or return the version with the same content.  PUBLISH.

    Config and headers are read from storage; InvalidAdapter or InvalidManifest if they are invalid or differ from the
    manifest.  One transaction writes the version and moves the alias.  `private` is for a new adapter; for an existing
    one it must be None or the adapter's value (Conflict).
    """
    publication = publication or Publication()
    files = {entry.path: entry for entry in manifest.files}
    check_blobs(context, actor, name, files)
    with lost_bytes_forgotten(context, files):
        stored = read_back(context, manifest, files)
    proposal = Proposal(
        manifest=stored,
        content=AdapterContent.from_manifest(stored),
        card=read_stored_card(context, files),
        publication=publication,
    )

    def work(session: Session) -> Published:
        namespace, made = find_namespace_to_publish(context, session, actor, name)
        require_blobs(session, actor, name, files)
        row = adapters.lock_or_add(context, session, namespace, name, publication.private)
        return write(Locked(context, session, actor, namespace, row), proposal, namespace_made=made)

    return context.database.transact(work)


@contextmanager
def lost_bytes_forgotten(context: Context, files: Mapping[str, FileEntry]) -> Iterator[None]:
    """Wrap a block that reads these files.  Raises InvalidManifest if some are lost and can be uploaded again."""
    try:
        yield
    except FileNotFound:
        _forget_lost(context, files)
        raise


def _forget_lost(context: Context, files: Mapping[str, FileEntry]) -> None:
    """Let bytes that the store has lost be uploaded again.  Raises InvalidManifest if that is all it takes."""
    lost = [entry for entry in files.values() if context.store.size(entry.sha256) is None]
    can_be_sent = [forget_lost(context, entry.sha256) for entry in lost]
    if lost and all(can_be_sent):
        raise InvalidManifest(
            f"The bytes of {lost[0].path!r} are not there any more: push again, and they are sent again.",
            missing=[entry.sha256 for entry in lost],
        )


def check_blobs(context: Context, actor: Actor, name: AdapterName, files: Mapping[str, FileEntry]) -> None:
    """Raise unless the actor may publish `name` and use every file's blob."""
    with context.database.read() as session:
        check_may_publish(session, actor, name)
        require_blobs(session, actor, name, files)


def require_blobs(session: Session, actor: Actor, name: AdapterName, files: Mapping[str, FileEntry]) -> None:
    sizes = blobs.present_sizes(session, actor, name, sorted({entry.sha256 for entry in files.values()}))
    for entry in files.values():
        if entry.sha256 not in sizes:
            raise InvalidManifest(
                f"The bytes of {entry.path!r} were not sent: upload the blob {entry.sha256[:12]}… first, then publish.",
                missing=[item.sha256 for item in files.values() if item.sha256 not in sizes],
            )
        if sizes[entry.sha256] != entry.size:
            raise InvalidManifest(f"{entry.path!r} has {sizes[entry.sha256]:,} bytes, not {entry.size:,}.")


def read_back(context: Context, manifest: Manifest, files: Mapping[str, FileEntry]) -> Manifest:
    """Build the manifest from storage.  Raises InvalidAdapter, or InvalidManifest if it is not the one sent."""
    readables: dict[str, Readable] = {
        path: StoredReadable(context.store, entry.sha256, entry.size) for path, entry in files.items()
    }
    stored = build_manifest(readables, base=manifest.base, known=files)
    if stored.canonical_bytes() != manifest.canonical_bytes():
        raise InvalidManifest(
            f"The manifest is not what the files say: {_difference(manifest, stored)}. Build it again from the files."
        )
    return stored


def _difference(sent: Manifest, stored: Manifest) -> str:
    ours, theirs = stored.to_json(), sent.to_json()
    parts = [key for key in ours if canonical_json(ours[key]) != canonical_json(theirs[key])]
    return f"its {' and '.join(parts)} differ{'s' if len(parts) == 1 else ''}"


def read_stored_card(context: Context, files: Mapping[str, FileEntry]) -> Card:
    entry = files.get(README)
    if entry is None:
        return Card()
    return read_card(context.store.read(entry.sha256, 0, min(entry.size, MAX_README_BYTES)))


# In the transaction ----------------------------------------------------------------------------------------------


def write(at: Locked, proposal: Proposal, *, namespace_made: bool = False) -> Published:
    """Insert a locked adapter's next version, or find the one with the same content.  Writes one audit event."""
    session, row, alias, private = at.session, at.row, proposal.publication.alias, proposal.publication.private
    if row.version_count and private is not None and private != row.private:
        state = "private" if row.private else "public"
        raise Conflict(f"{row.full_name} is {state}; a push doesn't change that. Its owners can.")
    version = find_same(session, row, proposal.manifest)
    created = version is None
    if version is None:
        with facets.reindexed(session, row):
            version = _insert(at, proposal)
    taken_over = not created and version.branch is not None and proposal.branch is None
    if taken_over:
        with facets.reindexed(session, row):
            version.branch = None
            adapters.refresh(session, row)
    if not created:
        quotas.settle(session, row.full_name, [entry.sha256 for entry in proposal.manifest.files])
    moved = (created or proposal.is_commit) and _move_head(at, version, proposal)
    if alias is not None:
        aliases.move(at, alias, version)
    if created or moved or taken_over or alias is not None:
        audit.record(
            at.context,
            session,
            at.actor,
            "version.publish" if created else "alias.move" if alias else "main.move",
            f"{row.full_name}@v{version.number}",
            at.namespace.name,
            digest=version.digest,
            alias=alias,
            namespace_made=namespace_made or None,
        )
    return Published(version_values.describe(session, row, version, with_manifest=True), created)


def find_same(session: Session, row: AdapterRow, manifest: Manifest) -> VersionRow | None:
    """Return the version with the same files, if its base says at least as much as this manifest's.

    Raises Conflict if too many versions share these files under different bases: every further push reads them all.
    """
    query = select(VersionRow).where(
        VersionRow.adapter_id == row.id,
        VersionRow.content_key == content_key(manifest.files),
        VersionRow.deleted_at.is_(None),
    )
    said = manifest.base.to_json().items()
    versions = session.scalars(query.order_by(VersionRow.number.desc()).limit(MAX_OF_EQUAL_FILES)).all()
    for version in versions:
        known = Manifest.parse(version_values.load_manifest(session, version.id)).base.to_json().items()
        if said <= known:
            return version
    same = session.scalar(query.where(VersionRow.digest == manifest.digest).limit(1))
    if same is None and len(versions) == MAX_OF_EQUAL_FILES:
        raise Conflict(
            f"These files are {MAX_OF_EQUAL_FILES} versions of {row.full_name} already, which differ only in what is "
            "said of their base. Push them once, with --base."
        )
    return same


def content_key(files: Iterable[FileEntry]) -> str:
    """Return the sha256 of a set of files, whatever the manifest says about the base."""
    listed = [[entry.path, entry.size, entry.sha256] for entry in sorted(files)]
    return hashlib.sha256(canonical_json(listed)).hexdigest()


def _insert(at: Locked, proposal: Proposal) -> VersionRow:
    session, row = at.session, at.row
    manifest, card, publication = proposal.manifest, proposal.card, proposal.publication
    named = [entry.sha256 for entry in manifest.files]
    quotas.take(session, at.namespace, manifest.size_bytes, at.context.now(), row.full_name, named)
    row.last_number += 1
    version = VersionRow(
        adapter_id=row.id,
        number=row.last_number,
        content_key=content_key(manifest.files),
        branch=proposal.branch,
        message=publication.message,
        task=publication.task or card.task or row.task,
        license=card.license,
        tags=list(card.tags),
        description=card.description,
        base_id=bases.bind(at.context, session, manifest.base, row),
        created_by=at.actor.user_id,
        created_at=at.context.now(),
        **facts_of(manifest, proposal.content),
    )
    session.add(version)
    session.flush()
    session.add(ManifestRow(version_id=version.id, body=zlib.compress(manifest.canonical_bytes(), 6)))
    session.add_all(
        VersionFileRow(version_id=version.id, path=entry.path, sha256=entry.sha256) for entry in manifest.files
    )
    _add_lineage(session, at.actor, version, publication.lineage)
    session.flush()
    adapters.refresh(session, row)
    row.updated_at = version.created_at
    return version


def facts_of(manifest: Manifest, content: AdapterContent) -> dict[str, object]:
    """Return the columns of a version that depend on its content alone."""
    facts: dict[str, object] = {
        "digest": manifest.digest,
        "size_bytes": manifest.size_bytes,
        "file_count": len(manifest.files),
        "parameters": content.parameters,
    }
    return facts | {facet.column: facet.read(content) for facet in KEPT if facet.read is not None}


def _add_lineage(
    session: Session, actor: Actor, version: VersionRow, lineage: Sequence[tuple[str, AdapterRef]]
) -> None:
    for kind, ref in lineage:
        # A parent may be elsewhere.  If it is here, and the actor may read it, link the two and pin the ref.
        parent = versions.find_or_none(session, actor, ref)
        pinned = str(ref) if parent is None else f"{parent[0].full_name}@v{parent[1].number}"
        session.add(
            LineageRow(version_id=version.id, kind=kind, ref=pinned, parent_id=None if parent is None else parent[1].id)
        )


def _move_head(at: Locked, version: VersionRow, proposal: Proposal) -> bool:
    """Move the branch's head on the Hugging Face wire to the version; return whether it moved.

    A version has one commit, written when it was first committed.
    """
    context, session, row = at.context, at.session, at.row
    lane = lanes.find(session, row, proposal.branch) if proposal.branch is not None else None
    head = row.head or adapters.add_first_commit(context, session, at.actor, row)
    if lane is not None:
        head = lane.head
    known = session.scalar(select(CommitRow).where(CommitRow.version_id == version.id))
    if known is None:
        known = _add_commit(at, version, proposal)
        known.parent = head
    elif head == known.commit:
        return False
    if lane is not None:
        lane.head, lane.updated_at = known.commit, context.now()
    else:
        row.head, known.lane = known.commit, None
    session.flush()
    return True


def _add_commit(at: Locked, version: VersionRow, proposal: Proposal) -> CommitRow:
    title, _, rest = proposal.publication.message.partition("\n")
    made = CommitRow(
        adapter_id=version.adapter_id,
        commit=version.digest[:40],
        version_id=version.id,
        title=title.strip() or f"v{version.number}",
        message=rest.strip(),
        lane=proposal.branch,
        user_id=at.actor.user_id,
        created_at=at.context.now(),
    )
    at.session.add(made)
    return made
