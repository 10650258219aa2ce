"""Base models as objects: one canonical name, other names, fingerprints, and the copies that were made of them.

A publish binds its version to a base by, in this order: the id that the config names; the weight fingerprint; the path
that the config names, which is another name of the base that was made for it, unless the fingerprints say that it was
another model; and where none is known, a new base is made.  The manifest never changes:
rebinding a version only changes what the catalog shows, and is audited.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy import update as sql_update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.base.spec import BaseMatch, compare_identity
from hub.errors import BaseNotFound, Conflict, InvalidRequest
from hub.manifest import BaseIdentity
from hub.refs import AdapterName
from hub.registry.context import Context
from hub.registry.db.models import AdapterRow, BaseAliasRow, BaseFingerprintRow, BaseRow, NamespaceRow, VersionRow
from hub.registry.events import audit
from hub.registry.library import adapters, version_values
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


def bind(context: Context, session: Session, identity: BaseIdentity) -> int | None:
    """Return the id of the base object that this identity means, made if need be; None if it says nothing."""
    if not identity.to_json():
        return None
    by_name = None if _is_path(identity.id) else _find_row(session, identity.id or "")
    row = by_name or _find_by_weights(session, identity) or _find_by_path(session, identity)
    if row is None:
        row = _add(context, session, identity)
    _remember_fingerprints(context, session, row, identity)
    return row.id


def _is_path(name: str | None) -> bool:
    """Whether a base's id is a place on somebody's disk, which names nothing for anybody else."""
    return name is None or not _HUB_ID.match(name)


def _find_row(session: Session, name: str) -> BaseRow | None:
    found = session.scalar(select(BaseRow).where(BaseRow.name == name))
    if found is not None:
        return found
    return session.scalar(select(BaseRow).join(BaseAliasRow).where(BaseAliasRow.alias == name))


def _find_by_weights(session: Session, identity: BaseIdentity) -> BaseRow | None:
    if identity.weights is None:
        return None
    query = select(BaseRow).join(BaseFingerprintRow)
    query = query.where(BaseFingerprintRow.kind == "weights", BaseFingerprintRow.value == identity.weights)
    return session.scalar(query.order_by(BaseRow.id).limit(1))


def _find_by_path(session: Session, identity: BaseIdentity) -> BaseRow | None:
    """Return the base that was made for this path, if it can be the same model."""
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


def _add(context: Context, session: Session, identity: BaseIdentity) -> BaseRow:
    row = BaseRow(name=_free_name(session, identity), revision=identity.revision, created_at=context.now())
    original = _find_original(session, identity)
    row.parent_id = original.id if original is not None else None
    session.add(row)
    session.flush()
    if identity.id is not None and _is_path(identity.id):
        insert = sqlite.insert if context.database.is_sqlite else postgresql.insert
        alias = insert(BaseAliasRow).values(alias=_path_of(identity), base_id=row.id)
        session.execute(alias.on_conflict_do_nothing())  # the first model at a path keeps it
    return row


def _free_name(session: Session, identity: BaseIdentity) -> str:
    """Return the hub id, or for a path its last folder with the start of a fingerprint behind it."""
    if identity.id is not None and not _is_path(identity.id):
        return identity.id[:MAX_NAME_LENGTH]
    folder = re.sub(r"[^\w.-]+", "-", re.split(r"[/\\]", (identity.id or "").rstrip("/\\"))[-1]).strip("-.") or "base"
    mark = (identity.weights or identity.shapes or "").rpartition(":")[2][:8]
    name = f"local:{folder[:100]}" + (f"-{mark}" if mark else "")
    return name if _find_row(session, name) is None else f"{name}-{_count(session, BaseRow)}"


def _find_original(session: Session, identity: BaseIdentity) -> BaseRow | None:
    """Return the base that this one is a 16-bit cast or a 4-bit copy of, as far as the sketches tell."""
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
        if compare_identity(identity, known) is BaseMatch.COPY:
            return row
    return None


def _remember_fingerprints(context: Context, session: Session, row: BaseRow, identity: BaseIdentity) -> None:
    insert = sqlite.insert if context.database.is_sqlite else postgresql.insert
    for kind, value, sketch in (
        ("shapes", identity.shapes, None),
        ("weights", identity.weights, identity.sketch),
    ):
        if value is not None and _has_room(session, row, kind):
            row_values = {"base_id": row.id, "kind": kind, "value": value[:128], "sketch": sketch}
            session.execute(insert(BaseFingerprintRow).values(**row_values).on_conflict_do_nothing())


def _has_room(session: Session, row: BaseRow, kind: str) -> bool:
    known = select(func.count()).where(BaseFingerprintRow.base_id == row.id, BaseFingerprintRow.kind == kind)
    return (session.scalar(known) or 0) < MAX_FINGERPRINTS


# Queries ---------------------------------------------------------------------------------------------------------


def listing(context: Context, actor: Actor) -> tuple[Base, ...]:
    """List the bases that adapters which the actor may read were trained for, the most used first."""
    with context.database.read() as session:
        counts = _counts(session, actor)
        rows = session.scalars(select(BaseRow).where(BaseRow.id.in_(counts))).all()
        bases = _to_bases(session, rows, counts)
    return tuple(sorted(bases, key=lambda base: (-base.adapter_count, base.id)))


def get(context: Context, actor: Actor, name: str) -> Base:
    """Return a base by its id or one of its aliases.  Raises BaseNotFound."""
    with context.database.read() as session:
        row = _require(session, name)
        counts = _counts(session, actor, row.id)
        # A base that only private adapters name must not be found by those who can't read them.
        if row.id not in counts and not actor.admin and not _has_visible_relatives(session, actor, row):
            raise _no_base(name)
        return _to_base(session, row, counts.get(row.id, 0))


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


def _has_visible_relatives(session: Session, actor: Actor, row: BaseRow) -> bool:
    relatives = list(session.scalars(select(BaseRow.id).where(BaseRow.parent_id == row.id)))
    relatives += [row.parent_id] if row.parent_id is not None else []
    return any(_counts(session, actor, number) for number in relatives)


def _to_base(session: Session, row: BaseRow, adapter_count: int) -> Base:
    return _to_bases(session, [row], {row.id: adapter_count})[0]


def _to_bases(session: Session, rows: Sequence[BaseRow], counts: Mapping[int, int]) -> list[Base]:
    """Return the values of some bases, with one query per kind of thing that hangs on them."""
    ids = [row.id for row in rows]
    prints = select(BaseFingerprintRow.base_id, BaseFingerprintRow.kind, BaseFingerprintRow.value)
    prints = prints.where(BaseFingerprintRow.base_id.in_(ids)).order_by(BaseFingerprintRow.value)
    by_kind: dict[tuple[int, str], list[str]] = defaultdict(list)
    for base_id, kind, value in session.execute(prints):
        by_kind[base_id, kind].append(value)
    aliases = select(BaseAliasRow.base_id, BaseAliasRow.alias).where(BaseAliasRow.base_id.in_(ids))
    children = select(BaseRow.parent_id, BaseRow.name).where(BaseRow.parent_id.in_(ids))
    parents = select(BaseRow.id, BaseRow.name).where(BaseRow.id.in_({row.parent_id for row in rows} - {None}))
    aliases_of = _grouped(session, aliases.order_by(BaseAliasRow.alias))
    children_of = _grouped(session, children.order_by(BaseRow.name))
    names: dict[int, str] = dict(session.execute(parents).all())
    return [
        Base(
            id=row.name,
            revision=row.revision,
            aliases=tuple(aliases_of[row.id]),
            shapes=tuple(by_kind[row.id, "shapes"]),
            weights=tuple(by_kind[row.id, "weights"]),
            parent=names[row.parent_id] if row.parent_id is not None else None,
            children=tuple(children_of[row.id]),
            adapter_count=counts.get(row.id, 0),
            created_at=row.created_at,
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
    """Rename a base (the old id stays as an alias), name it otherwise, or set what it is a copy of.  SITE."""
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
        return _to_base(session, row, sum(_counts(session, actor, row.id).values()))

    return context.database.transact(work)


def rebind(context: Context, actor: Actor, name: AdapterName, number: int, base: str) -> Version:
    """Say that a version was trained for another base object; its manifest stays as it is.  OWN.  Audited."""

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
    # From here on the row is ours: whoever binds an adapter to it has done so, or will read the new name.
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


def _count(session: Session, model: type[BaseRow] | type[VersionRow]) -> int:
    return session.scalar(select(func.count()).select_from(model)) or 0
