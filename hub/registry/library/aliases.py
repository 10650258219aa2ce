"""Aliases: movable names of versions, moved by compare-and-swap, some of them by owners only."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.errors import AliasNotFound, Conflict, PreconditionFailed
from hub.refs import UNCHECKED, AdapterName, Unchecked, parse_alias, parse_selector
from hub.registry.context import Context
from hub.registry.db.models import AdapterRow, AliasMoveRow, AliasRow, NamespaceRow, UserRow, VersionRow
from hub.registry.events import audit
from hub.registry.library import adapters, lanes
from hub.registry.library.locked import Locked
from hub.registry.library.lookup import find_adapter, find_version
from hub.registry.rights import permissions
from hub.registry.rights.access import Action, Actor
from hub.registry.values import Alias, AliasMove


def listing(context: Context, actor: Actor, name: AdapterName) -> tuple[Alias, ...]:
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        return tuple(adapters.aliases_of(session, [row.id]).get(row.id, ()))


def history(context: Context, actor: Actor, name: AdapterName, alias: str | None = None) -> tuple[AliasMove, ...]:
    """Return an alias's moves (or all of the adapter's), newest first."""
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        query = select(AliasMoveRow, UserRow.name).outerjoin(UserRow, AliasMoveRow.user_id == UserRow.id)
        query = query.where(AliasMoveRow.adapter_id == row.id)
        if alias is not None:
            query = query.where(AliasMoveRow.alias == parse_selector(alias))
        moves = session.execute(query.order_by(AliasMoveRow.id.desc()).limit(1000))
        return tuple(AliasMove(move.alias, move.before, move.after, move.at, user) for move, user in moves)


def set_alias(
    context: Context,
    actor: Actor,
    name: AdapterName,
    alias: str,
    version: int,
    *,
    expected: int | Unchecked | None = UNCHECKED,
    protected: bool | None = None,
) -> Alias:
    """Create or move an alias.  PUBLISH; OWN to move a protected alias or to protect one.

    `expected` is the version that the alias must name now (None: it must not exist), else PreconditionFailed.
    Raises VersionNotFound; Conflict for a yanked version.
    """
    parse_alias(alias)

    def work(session: Session) -> Alias:
        # The adapter's lock makes "read, compare, move" one step.
        row, namespace = find_adapter(session, actor, name, Action.PUBLISH, lock=True)
        target = find_version(session, row, name, version)
        _check_expected(session, row, alias, expected)
        moved = move(Locked(context, session, actor, namespace, row), alias, target, protected=protected)
        audit.record(
            context,
            session,
            actor,
            "alias.move",
            f"{name}@{alias}",
            name.namespace,
            version=version,
            protected=protected,
        )
        return Alias(alias, version, moved.protected, moved.updated_at, actor.user)

    return context.database.transact(work)


def delete_alias(
    context: Context, actor: Actor, name: AdapterName, alias: str, *, expected: int | Unchecked | None = UNCHECKED
) -> None:
    def work(session: Session) -> None:
        row, namespace = find_adapter(session, actor, name, Action.PUBLISH, lock=True)
        found = session.get(AliasRow, (row.id, alias))
        if found is None:
            raise AliasNotFound(f"{name} has no alias @{alias[:96]}. See all: lorahub show {name}")
        _check_expected(session, row, alias, expected)
        if found.protected:
            _require_owner(session, actor, namespace)
        before = session.get_one(VersionRow, found.version_id).number
        session.delete(found)
        _note(Locked(context, session, actor, namespace, row), alias, before, None)
        audit.record(context, session, actor, "alias.delete", f"{name}@{alias}", name.namespace, version=before)

    context.database.transact(work)


def move(at: Locked, alias: str, target: VersionRow, *, protected: bool | None = None) -> AliasRow:
    """Point an alias of a locked adapter to a version.  Raises Conflict for a yanked one; Forbidden."""
    session, row = at.session, at.row
    name = row.full_name
    if target.yanked_at is not None:
        raise Conflict(
            f"{name}@v{target.number} is yanked ({target.yanked_reason}): no alias is moved to it. "
            f"Choose another version, or: lorahub unyank {name}@v{target.number}"
        )
    if lanes.find(session, row, alias) is not None:
        raise Conflict(f"{alias} is a branch of {name}, so no alias can have that name.")
    found = session.get(AliasRow, (row.id, alias))
    if (found is not None and found.protected) or protected:
        _require_owner(session, at.actor, at.namespace)
    before = None
    if found is None:
        found = AliasRow(adapter_id=row.id, name=alias, version_id=target.id)
        session.add(found)
    else:
        before = session.get_one(VersionRow, found.version_id).number
    found.version_id, found.updated_at, found.updated_by = target.id, at.context.now(), at.actor.user_id
    found.protected = bool(found.protected) if protected is None else protected
    if before != target.number:
        _note(at, alias, before, target.number)
    session.flush()
    return found


def _require_owner(session: Session, actor: Actor, namespace: NamespaceRow) -> None:
    if not permissions.is_allowed(session, actor, namespace, Action.OWN):
        raise permissions.refusal(actor, namespace.name, Action.OWN)


def _check_expected(session: Session, row: AdapterRow, alias: str, expected: int | Unchecked | None) -> None:
    if expected is UNCHECKED:
        return
    query = select(VersionRow.number).join(AliasRow, AliasRow.version_id == VersionRow.id)
    current = session.scalar(query.where(AliasRow.adapter_id == row.id, AliasRow.name == alias))
    if current != expected:
        stands = "isn't there" if current is None else f"points to v{current}"
        thought = "not to be there" if expected is None else f"at v{expected}"
        raise PreconditionFailed(
            f"@{alias} of {row.full_name} {stands} now; you expected it {thought}. Look again, then move it.",
            current=current,
        )


def _note(at: Locked, alias: str, before: int | None, after: int | None) -> None:
    when, who = at.context.now(), at.actor.user_id
    at.session.add(AliasMoveRow(adapter_id=at.row.id, alias=alias, before=before, after=after, at=when, user_id=who))
