"""Base models as objects: a canonical name, aliases, fingerprints, and the copies derived from them.

A publish binds its version to a base.  It tries, in this order: the config's id; the weight fingerprint; the config's
path.  A path is an alias of the base created for it, unless the fingerprints show a different model there.  If
nothing matches, a new base is created.  The manifest never changes: rebinding a version only changes what the catalog
shows, and is audited.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, func, select, true
from sqlalchemy import update as sql_update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.base.spec import BaseMatch, compare_identity
from hub.errors import BaseNotFound, Conflict, InvalidRequest
from hub.manifest import BaseIdentity
from hub.refs import AdapterName
from hub.registry.context import Context
from hub.registry.db.models import (
    AdapterRow,
    BaseAliasRow,
    BaseClaimRow,
    BaseFingerprintRow,
    BaseRow,
    NamespaceRow,
    VersionRow,
)
from hub.registry.events import audit
from hub.registry.library import adapters, claims, version_values
from hub.registry.library.lookup import find_adapter, find_version
from hub.registry.rights import permissions
from hub.registry.rights.access import Action, Actor
from hub.registry.search import facets
from hub.registry.values import Base, Version

MAX_NAME_LENGTH = 300
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?\Z")
_MAX_SKETCHES = 50
MAX_FINGERPRINTS = 64
"""Of each kind that one base is known by.  Every page that judges the base reads them all."""


def bind(context: Context, session: Session, identity: BaseIdentity, adapter: AdapterRow) -> int | None:
    """Return the id of this identity's base, created if needed; None if the identity is empty.

    adapter: the one whose version claims it.  Claims of other publishers count only as claims.py allows.
    """
    if not identity.to_json():
        return None
    by_name = None if _is_path(identity.id) else _find_row(session, identity.id or "")
    row = by_name or _find_by_weights(session, identity, adapter.namespace_id) or _find_by_path(session, identity)
    if row is None:
        row = _add(context, session, identity, adapter.namespace_id)
    _remember_fingerprints(context, session, row, identity, adapter)
    return row.id


def _is_path(name: str | None) -> bool:
    """Whether a base's id is a path on somebody's disk, meaningless to everybody else."""
    return name is None or not _HUB_ID.match(name)


def _find_row(session: Session, name: str) -> BaseRow | None:
    found = session.scalar(select(BaseRow).where(BaseRow.name == name))
    if found is not None:
        return found
    return session.scalar(select(BaseRow).join(BaseAliasRow).where(BaseAliasRow.alias == name))


def _find_by_weights(session: Session, identity: BaseIdentity, namespace_id: int) -> BaseRow | None:
    if identity.weights is None:
        return None
    found = claims.base_of(session, "weights", identity.weights[:128], namespace_id)
    return None if found is None else session.get_one(BaseRow, found)


def _find_by_path(session: Session, identity: BaseIdentity) -> BaseRow | None:
    """Return the base created for this path, if it can be the same model."""
    row = _find_row(session, _path_of(identity)) if identity.id else None
    if row is None:
        return None
    for kind, value in (("shapes", identity.shapes), ("weights", identity.weights)):
        query = select(BaseFingerprintRow.value)
        query = query.where(BaseFingerprintRow.base_id == row.id, BaseFingerprintRow.kind == kind)
        known = set(session.scalars(query))
        if known and value is not None and value not in known:
            return None
    return row


def _path_of(identity: BaseIdentity) -> str:
    path = (identity.id or "").strip()
    return (path.rstrip("/\\") or path)[:MAX_NAME_LENGTH]


def _add(context: Context, session: Session, identity: BaseIdentity, namespace_id: int) -> BaseRow:
    row = BaseRow(name=_free_name(session, identity), revision=identity.revision, created_at=context.now())
    original = _find_original(session, identity, namespace_id)
    row.parent_id = original.id if original is not None else None
    session.add(row)
    session.flush()
    if identity.id is not None and _is_path(identity.id):
        insert = sqlite.insert if context.database.is_sqlite else postgresql.insert
        alias = insert(BaseAliasRow).values(alias=_path_of(identity), base_id=row.id)
        session.execute(alias.on_conflict_do_nothing())  # the first model at a path keeps it
    return row


def _free_name(session: Session, identity: BaseIdentity) -> str:
    """Return the hub id; for a path, its last folder plus the start of a fingerprint."""
    if identity.id is not None and not _is_path(identity.id):
        return identity.id[:MAX_NAME_LENGTH]
    folder = re.sub(r"[^\w.-]+", "-", re.split(r"[/\\]", (identity.id or "").rstrip("/\\"))[-1]).strip("-.") or "base"
    mark = (identity.weights or identity.shapes or "").rpartition(":")[2][:8]
    name = f"local:{folder[:100]}" + (f"-{mark}" if mark else "")
    return name if _find_row(session, name) is None else f"{name}-{_count(session, BaseRow)}"


def _find_original(session: Session, identity: BaseIdentity, namespace_id: int) -> BaseRow | None:
    """Return the base of which this one is a 16-bit cast or a 4-bit copy, judging by the sketches."""
    if identity.sketch is None or identity.shapes is None:
        return None
    family = select(BaseFingerprintRow.base_id)
    family = family.where(BaseFingerprintRow.kind == "shapes", BaseFingerprintRow.value == identity.shapes)
    query = (
        select(BaseRow, BaseFingerprintRow)
        .join(BaseFingerprintRow)
        .where(BaseFingerprintRow.kind == "weights", BaseFingerprintRow.sketch.is_not(None), BaseRow.id.in_(family))
        .order_by(BaseRow.id)
        .limit(_MAX_SKETCHES)
    )
    for row, fingerprint in session.execute(query):
        known = BaseIdentity(id=row.name, shapes=identity.shapes, weights=fingerprint.value, sketch=fingerprint.sketch)
        is_believed = claims.base_of(session, "weights", fingerprint.value, namespace_id) == row.id
        if is_believed and compare_identity(identity, known) is BaseMatch.COPY:
            return row
    return None


def _remember_fingerprints(
    context: Context, session: Session, row: BaseRow, identity: BaseIdentity, adapter: AdapterRow
) -> None:
    insert = sqlite.insert if context.database.is_sqlite else postgresql.insert
    for kind, value, sketch in (
        ("shapes", identity.shapes, None),
        ("weights", identity.weights, identity.sketch),
    ):
        if value is not None and _is_known_or_fits(session, row, kind, value[:128]):
            named = {"base_id": row.id, "kind": kind, "value": value[:128]}
            known = insert(BaseFingerprintRow).values(**named, sketch=sketch, pinned=False)
            session.execute(known.on_conflict_do_nothing())
            session.execute(insert(BaseClaimRow).values(**named, adapter_id=adapter.id).on_conflict_do_nothing())


def _is_known_or_fits(session: Session, row: BaseRow, kind: str, value: str) -> bool:
    if session.get(BaseFingerprintRow, (row.id, kind, value)) is not None:
        return True
    known = select(func.count()).where(BaseFingerprintRow.base_id == row.id, BaseFingerprintRow.kind == kind)
    return (session.scalar(known) or 0) < MAX_FINGERPRINTS


# Queries ---------------------------------------------------------------------------------------------------------


def listing(context: Context, actor: Actor) -> tuple[Base, ...]:
    """List the bases of all adapters that the actor may read, the most used first."""
    with context.database.read() as session:
        counts = _counts(session, actor)
        rows = session.scalars(select(BaseRow).where(BaseRow.id.in_(counts))).all()
        bases = _to_bases(session, actor, rows, counts)
    return tuple(sorted(bases, key=lambda base: (-base.adapter_count, base.id)))


def get(context: Context, actor: Actor, name: str) -> Base:
    """Return a base by its id or one of its aliases.  Raises BaseNotFound."""
    with context.database.read() as session:
        row = _require(session, name)
        counts = _counts(session, actor, row.id)
        # A base that only private adapters name must not be found by those who can't read them.
        if row.id not in counts and permissions.readable_ids(session, actor) is not None:
            raise _no_base(name)
        return _to_base(session, actor, row)


def _counts(session: Session, actor: Actor, base_id: int | None = None) -> dict[int, int]:
    """Return base id -> number of readable adapters whose latest version was trained for it."""
    query: Select[int | None, int] = (
        select(AdapterRow.base_id, func.count())
        .join(NamespaceRow, AdapterRow.namespace_id == NamespaceRow.id)
        .where(AdapterRow.recent_id > 0, AdapterRow.deleted_at.is_(None), AdapterRow.base_id.is_not(None))
        .group_by(AdapterRow.base_id)
    )
    readable = permissions.readable_ids(session, actor)
    if readable is not None:
        public = AdapterRow.private.is_(False) & NamespaceRow.private.is_(False)
        query = query.where(public | NamespaceRow.id.in_(readable))
    if base_id is not None:
        query = query.where(AdapterRow.base_id == base_id)
    return {number: count for number, count in session.execute(query) if number is not None}


def _to_base(session: Session, actor: Actor, row: BaseRow) -> Base:
    return _to_bases(session, actor, [row], _counts(session, actor))[0]


def _to_bases(session: Session, actor: Actor, rows: Sequence[BaseRow], counts: Mapping[int, int]) -> list[Base]:
    """Return the values of some bases, with one query per kind of related row.

    counts: of all bases that the actor may see; relatives that it may not see are left out.
    """
    ids = [row.id for row in rows]
    sees_all = permissions.readable_ids(session, actor) is None
    shown = true() if sees_all else BaseRow.id.in_(list(counts))
    aliases = select(BaseAliasRow.base_id, BaseAliasRow.alias).where(BaseAliasRow.base_id.in_(ids))
    children = select(BaseRow.parent_id, BaseRow.name).where(BaseRow.parent_id.in_(ids), shown)
    parents = select(BaseRow.id, BaseRow.name).where(BaseRow.id.in_({row.parent_id for row in rows} - {None}), shown)
    aliases_of = _grouped(session, aliases.order_by(BaseAliasRow.alias))
    children_of = _grouped(session, children.order_by(BaseRow.name))
    names: dict[int, str] = dict(session.execute(parents).all())
    marks = claims.visible(session, actor, ids)
    return [
        Base(
            id=row.name,
            revision=row.revision,
            aliases=tuple(aliases_of[row.id]),
            shapes=marks[row.id].shapes,
            weights=marks[row.id].weights,
            parent=names.get(row.parent_id or 0),
            children=tuple(children_of[row.id]),
            adapter_count=counts.get(row.id, 0),
            created_at=row.created_at,
            fingerprints=marks[row.id].said,
        )
        for row in rows
    ]


def _grouped(session: Session, query: Select[Any, Any]) -> dict[int, list[str]]:
    groups: dict[int, list[str]] = defaultdict(list)
    for number, name in session.execute(query):
        groups[number].append(name)
    return groups


# Mutations -------------------------------------------------------------------------------------------------------


def update(
    context: Context,
    actor: Actor,
    name: str,
    *,
    new_id: str | None = None,
    add_aliases: Sequence[str] = (),
    remove_aliases: Sequence[str] = (),
    parent: str | None = None,
) -> Base:
    """Rename a base (the old id stays as an alias), change its aliases, or set what it is a copy of.  SITE."""
    permissions.require_site(actor)
    for given in (new_id, *add_aliases):
        if given is not None and not 1 <= len(given.strip()) <= MAX_NAME_LENGTH:
            raise InvalidRequest(f"A base's name has 1 to {MAX_NAME_LENGTH} characters.")

    def work(session: Session) -> Base:
        row = _require(session, name)
        renamed = new_id is not None and new_id != row.name
        wanted = [*add_aliases, *([row.name] if renamed else [])]
        for alias in remove_aliases:
            _remove_alias(session, row, alias)
        if new_id is not None and renamed:
            _rename(session, row, new_id)
        for alias in wanted:
            _add_alias(session, row, alias)
        if parent is not None:
            _set_parent(session, row, parent)
        session.flush()
        bound = select(VersionRow.adapter_id).where(VersionRow.base_id == row.id)
        session.execute(
            sql_update(AdapterRow)
            .where(AdapterRow.id.in_(bound))
            .values(revision=AdapterRow.revision + 1)
            .execution_options(synchronize_session=False)
        )
        audit.record(
            context,
            session,
            actor,
            "base.update",
            row.name,
            new_id=new_id,
            add_aliases=list(add_aliases) or None,
            remove_aliases=list(remove_aliases) or None,
            parent=parent,
        )
        return _to_base(session, actor, row)

    return context.database.transact(work)


def pin(context: Context, actor: Actor, name: str, stand_for: Sequence[str], no_longer: Sequence[str] = ()) -> Base:
    """Pin or unpin some of a base's claimed fingerprints: a pinned one overrides its rivals.  SITE.  Audited."""
    permissions.require_site(actor)

    def work(session: Session) -> Base:
        row = _require(session, name)
        _set_pinned(session, row, stand_for, True)
        _set_pinned(session, row, no_longer, False)
        pinned, unpinned = list(stand_for) or None, list(no_longer) or None
        audit.record(context, session, actor, "base.pin", row.name, pin=pinned, unpin=unpinned)
        return _to_base(session, actor, row)

    return context.database.transact(work)


def rebind(context: Context, actor: Actor, name: AdapterName, number: int, base: str) -> Version:
    """Bind a version to another base; its manifest stays as it is.  OWN.  Audited."""

    def work(session: Session) -> Version:
        row, _ = find_adapter(session, actor, name, Action.OWN, lock=True)
        version = find_version(session, row, name, number)
        target = _require(session, base)
        before = session.get_one(BaseRow, version.base_id).name if version.base_id is not None else None
        with facets.reindexed(session, row):
            version.base_id = target.id
            session.flush()
            adapters.refresh(session, row)
        audit.record(
            context,
            session,
            actor,
            "version.rebind",
            f"{name}@v{number}",
            name.namespace,
            before=before,
            after=target.name,
        )
        return version_values.describe(session, row, version, with_manifest=True)

    return context.database.transact(work)


def _require(session: Session, name: str) -> BaseRow:
    row = _find_row(session, name)
    if row is None:
        raise _no_base(name)
    return row


def _no_base(name: str) -> BaseNotFound:
    return BaseNotFound(f"No adapter here was trained for a base called {name[:120]!r}. See: lorahub base list")


def _rename(session: Session, row: BaseRow, new_id: str) -> None:
    other = _find_row(session, new_id)
    if other is not None and other.id != row.id:
        raise Conflict(f"{new_id!r} names another base. Rebind its versions instead.")
    alias = session.get(BaseAliasRow, new_id)
    if alias is not None:
        session.delete(alias)
    bound = select(AdapterRow).where(AdapterRow.base_id == row.id, AdapterRow.recent_id > 0).order_by(AdapterRow.id)
    old = row.name
    row.name = new_id
    # We hold the row lock: a concurrent bind has either finished, or will read the new name.
    session.flush()
    for adapter in session.scalars(bound).all():
        facets.rename_term(session, adapter, ("base", old), ("base", new_id))


def _add_alias(session: Session, row: BaseRow, alias: str) -> None:
    other = _find_row(session, alias)
    if other is not None and other.id != row.id:
        raise Conflict(f"{alias!r} names another base.")
    if other is None:
        session.add(BaseAliasRow(alias=alias, base_id=row.id))
        session.flush()


def _remove_alias(session: Session, row: BaseRow, alias: str) -> None:
    found = session.get(BaseAliasRow, alias)
    if found is None or found.base_id != row.id:
        raise BaseNotFound(f"{row.name!r} has no alias {alias[:120]!r}.")
    session.delete(found)
    session.flush()


def _set_parent(session: Session, row: BaseRow, parent: str) -> None:
    found = _require(session, parent)
    above: int | None = found.id
    while above is not None:
        if above == row.id:
            raise Conflict(f"{row.name!r} can't be a copy of itself.")
        above = session.get_one(BaseRow, above).parent_id
    row.parent_id = found.id


def _set_pinned(session: Session, row: BaseRow, values: Sequence[str], pinned: bool) -> None:
    for value in values:
        found = session.scalars(
            select(BaseFingerprintRow).where(BaseFingerprintRow.base_id == row.id, BaseFingerprintRow.value == value)
        ).all()
        if not found:
            raise InvalidRequest(f"Nobody said of {row.name!r} that it has the fingerprint {value[:80]!r}.")
        for mark in found:
            mark.pinned = pinned


def _count(session: Session, model: type[BaseRow] | type[VersionRow]) -> int:
    return session.scalar(select(func.count()).select_from(model)) or 0
