"""Namespaces, who belongs to them, and with which role."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.errors import Conflict, InvalidRef, UserNotFound
from hub.refs import parse_namespace
from hub.registry.context import Context
from hub.registry.db.models import AdapterRow, MemberRow, NamespaceRow, UserRow
from hub.registry.db.row_locks import lock_namespace
from hub.registry.events import audit
from hub.registry.rights import permissions
from hub.registry.rights.access import Action, Actor
from hub.registry.search import facets
from hub.registry.values import Member, Namespace, Role

RESERVED = frozenset(
    {
        "account",
        "api",
        "badges",
        "bases",
        "datasets",
        "docs",
        "favicon.ico",
        "feeds",
        "healthz",
        "login",
        "logout",
        "metrics",
        "models",
        "readyz",
        "robots.txt",
        "search",
        "spaces",
        "static",
    }
)
"""First parts of the server's own paths."""


# Queries ---------------------------------------------------------------------------------------------------------


def may(context: Context, actor: Actor, action: Action, namespace: str) -> bool:
    """Whether the actor may do this in that namespace (a public namespace is readable by all)."""
    with context.database.read() as session:
        row = session.scalar(select(NamespaceRow).where(NamespaceRow.name == namespace))
        if row is None:
            return False
        return (
            permissions.may_read(session, actor, row)
            if action is Action.READ
            else permissions.is_allowed(session, actor, row, action)
        )


def roles(context: Context, actor: Actor) -> dict[str, Role]:
    """Return the actor's role in each namespace that it is a member of and that its token reaches."""
    with context.database.read() as session:
        query = select(NamespaceRow.name, MemberRow.role).join(MemberRow).where(MemberRow.user_id == actor.user_id)
        found = session.execute(query.order_by(NamespaceRow.name))
        return {name: permissions.to_role(role) for name, role in found if actor.reaches(name)}


def is_taken(context: Context, name: str) -> bool:
    """Whether the name was ever given out here, for whomever: such a name is looked up nowhere else."""
    with context.database.read() as session:
        return session.scalar(select(NamespaceRow.id).where(NamespaceRow.name == name)) is not None


def quota_bytes(context: Context, name: str) -> int | None:
    """Return how many bytes a namespace may hold; None is without limit."""
    with context.database.read() as session:
        return session.scalar(select(NamespaceRow.quota_bytes).where(NamespaceRow.name == name))


def get(context: Context, actor: Actor, name: str) -> Namespace:
    """Raises NamespaceNotFound; `members` and quotas are filled in for members only."""
    with context.database.read() as session:
        return describe(session, actor, permissions.require(session, actor, name, Action.READ))


def listing(context: Context, actor: Actor) -> tuple[Namespace, ...]:
    """List the namespaces that the actor may see."""
    with context.database.read() as session:
        readable = permissions.readable_ids(session, actor)
        query = select(NamespaceRow).order_by(NamespaceRow.name)
        if readable is not None:
            query = query.where(NamespaceRow.private.is_(False) | NamespaceRow.id.in_(readable))
        return tuple(describe(session, actor, row) for row in session.scalars(query))


def describe(session: Session, actor: Actor, row: NamespaceRow) -> Namespace:
    """Return the namespace; what only members may know is filled in for those who have a role."""
    inside = permissions.is_allowed(session, actor, row, Action.READ)
    visible = [AdapterRow.namespace_id == row.id, AdapterRow.recent_id > 0, AdapterRow.deleted_at.is_(None)]
    if not inside:
        visible.append(AdapterRow.private.is_(False))
    members: tuple[Member, ...] = ()
    if inside:
        query = select(UserRow.name, MemberRow.role).join(MemberRow).where(MemberRow.namespace_id == row.id)
        found = session.execute(query.order_by(UserRow.name))
        members = tuple(Member(user, permissions.to_role(role)) for user, role in found)
    return Namespace(
        name=row.name,
        kind="personal" if row.kind == "personal" else "shared",
        private=row.private,
        created_at=row.created_at,
        adapter_count=session.scalar(select(func.count()).select_from(AdapterRow).where(*visible)) or 0,
        used_bytes=row.used_bytes if inside else 0,
        quota_bytes=row.quota_bytes if inside else None,
        quota_adapters=row.quota_adapters if inside else None,
        members=members,
        description=row.description,
    )


# Mutations -------------------------------------------------------------------------------------------------------


def create(context: Context, actor: Actor, name: str, *, private: bool = False, description: str = "") -> Namespace:
    """Create a shared namespace with the actor as owner.  SITE.  Names are never given to another owner."""
    permissions.require_site(actor)

    def work(session: Session) -> Namespace:
        row = add(context, session, name, "shared", actor.user_id, private=private, description=description)
        audit.record(context, session, actor, "namespace.create", name, name, private=private)
        return describe(session, actor, row)

    return context.database.transact(work)


def add(
    context: Context,
    session: Session,
    name: str,
    kind: str,
    owner_id: int | None,
    *,
    private: bool = False,
    description: str = "",
) -> NamespaceRow:
    """Insert a namespace with its first owner.  Raises Conflict when the name was ever used; InvalidRef."""
    if name in RESERVED:
        raise InvalidRef(f"{name!r} can't be a namespace: the server has pages of that name. Choose another name.")
    if session.scalar(select(NamespaceRow.id).where(NamespaceRow.name == parse_namespace(name))) is not None:
        raise Conflict(f"The namespace {name!r} is taken. Choose another name.")
    row = NamespaceRow(name=name, kind=kind, private=private, description=description, created_at=context.now())
    session.add(row)
    session.flush()
    if owner_id is not None:
        session.add(MemberRow(namespace_id=row.id, user_id=owner_id, role="owner"))
        session.flush()
    return row


def update(
    context: Context, actor: Actor, name: str, *, private: bool | None = None, description: str | None = None
) -> Namespace:
    """MANAGE."""

    def work(session: Session) -> Namespace:
        row = lock_namespace(session, permissions.require(session, actor, name, Action.MANAGE).id)
        changed = private is not None and private != row.private
        row.private = row.private if private is None else private
        row.description = row.description if description is None else description
        session.flush()
        if changed:
            facets.refresh_namespace(session, row.id)
        audit.record(context, session, actor, "namespace.update", name, name, private=private, description=description)
        return describe(session, actor, row)

    return context.database.transact(work)


def set_member(context: Context, actor: Actor, namespace: str, user: str, role: Role | None) -> Namespace:
    """Give a role, or with None take it.  MANAGE.  The last owner can't go: Conflict."""

    def work(session: Session) -> Namespace:
        row = permissions.require(session, actor, namespace, Action.MANAGE)
        session.execute(select(NamespaceRow.id).where(NamespaceRow.id == row.id).with_for_update())
        user_id = session.scalar(select(UserRow.id).where(UserRow.name == user))
        if user_id is None:
            raise UserNotFound(f"There is no user {user!r}.")
        member = session.get(MemberRow, (row.id, user_id))
        before = member.role if member is not None else None
        if before == "owner" and role != "owner" and _owner_count(session, row.id) == 1:
            raise Conflict(f"{user!r} is the last owner of {namespace!r}. Make somebody else an owner first.")
        _put_member(session, row.id, user_id, member, role)
        audit.record(
            context, session, actor, "namespace.member", namespace, namespace, user=user, before=before, role=role
        )
        return describe(session, actor, row)

    return context.database.transact(work)


def _put_member(session: Session, namespace_id: int, user_id: int, member: MemberRow | None, role: Role | None) -> None:
    if role is None:
        if member is not None:
            session.delete(member)
    elif member is None:
        session.add(MemberRow(namespace_id=namespace_id, user_id=user_id, role=role))
    else:
        member.role = role
    session.flush()


def _owner_count(session: Session, namespace_id: int) -> int:
    query = select(func.count()).select_from(MemberRow)
    return session.scalar(query.where(MemberRow.namespace_id == namespace_id, MemberRow.role == "owner")) or 0
