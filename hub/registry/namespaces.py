"""Namespaces, who belongs to them, and the checks that every other module makes."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.errors import Conflict, Forbidden, NamespaceNotFound, Unauthenticated, UserNotFound
from hub.refs import parse_namespace
from hub.registry import audit
from hub.registry.access import Action, Actor, allows
from hub.registry.context import Context
from hub.registry.models import AdapterRow, MemberRow, NamespaceRow, UserRow
from hub.registry.values import Member, Namespace, Role

# Checks ----------------------------------------------------------------------------------------------------------


def role_in(session: Session, actor: Actor, namespace_id: int) -> Role | None:
    if actor.user_id is None:
        return None
    found: Role | None = session.scalar(
        select(MemberRow.role).where(MemberRow.namespace_id == namespace_id, MemberRow.user_id == actor.user_id)
    )
    return found


def is_allowed(session: Session, actor: Actor, namespace: NamespaceRow, action: Action) -> bool:
    return allows(actor, role_in(session, actor, namespace.id), namespace.name, action)


def may_read(session: Session, actor: Actor, namespace: NamespaceRow, private: bool = False) -> bool:
    """Whether the actor may read this namespace, or a thing in it that is `private`."""
    if not namespace.private and not private:
        return True
    return is_allowed(session, actor, namespace, Action.READ)


def require(session: Session, actor: Actor, name: str, action: Action) -> NamespaceRow:
    """Return the namespace if the actor may do this in it.

    Raises NamespaceNotFound when it isn't there or may not be read, Unauthenticated for anonymous callers, and
    Forbidden, which says what is missing, for the others.
    """
    row = session.scalar(select(NamespaceRow).where(NamespaceRow.name == parse_namespace(name)))
    if row is None or not may_read(session, actor, row):
        if actor.is_anonymous and action is not Action.READ:
            raise _not_logged_in()
        raise NamespaceNotFound(
            f"There is no namespace {name!r}, or you may not read it. Ask an admin: lorahub namespace create {name}"
        )
    require_in(session, actor, row, action)
    return row


def require_in(session: Session, actor: Actor, namespace: NamespaceRow, action: Action) -> None:
    """Raise Unauthenticated or Forbidden unless the actor may do this in a namespace that it may read."""
    if action is Action.READ and may_read(session, actor, namespace):
        return
    if not is_allowed(session, actor, namespace, action):
        raise refusal(actor, namespace.name, action)


def require_site(actor: Actor) -> None:
    """Raise unless the actor is an admin of the server, with a token that says so and isn't limited."""
    if actor.is_anonymous:
        raise _not_logged_in()
    if not (actor.admin and actor.has_scope("admin") and actor.namespace is None):
        raise Forbidden("Only an admin of the server may do this, with a token of scope admin.")


def refusal(actor: Actor, namespace: str, action: Action) -> Unauthenticated | Forbidden:
    """Return the error that tells the actor what it lacks."""
    if actor.is_anonymous:
        return _not_logged_in()
    if not actor.reaches(namespace):
        return Forbidden(f"This token may only act in the namespace {actor.namespace!r}, not in {namespace!r}.")
    if not actor.has_scope(action.scope):
        return Forbidden(f"This token's scope is too narrow: it takes {action.scope!r}. Make one: lorahub token create")
    return Forbidden(f"This takes the role {action.role} in the namespace {namespace!r}. Ask one of its owners.")


def _not_logged_in() -> Unauthenticated:
    return Unauthenticated("This takes a token. Log in: lorahub login")


def readable_ids(session: Session, actor: Actor) -> frozenset[int] | None:
    """Return the ids of the namespaces whose private things the actor may read; None means all of them."""
    if actor.is_anonymous or not actor.has_scope("read"):
        return frozenset()
    if actor.admin and actor.namespace is None:
        return None
    if actor.admin:
        query = select(NamespaceRow.id)
    else:
        query = select(NamespaceRow.id).join(MemberRow).where(MemberRow.user_id == actor.user_id)
    if actor.namespace is not None:
        query = query.where(NamespaceRow.name == actor.namespace)
    return frozenset(session.scalars(query))


# Queries ---------------------------------------------------------------------------------------------------------


def may(context: Context, actor: Actor, action: Action, namespace: str) -> bool:
    with context.database.read() as session:
        row = session.scalar(select(NamespaceRow).where(NamespaceRow.name == namespace))
        if row is None:
            return False
        return may_read(session, actor, row) if action is Action.READ else is_allowed(session, actor, row, action)


def roles(context: Context, actor: Actor) -> dict[str, Role]:
    with context.database.read() as session:
        query = select(NamespaceRow.name, MemberRow.role).join(MemberRow).where(MemberRow.user_id == actor.user_id)
        return {name: role for name, role in session.execute(query.order_by(NamespaceRow.name)) if actor.reaches(name)}


def get(context: Context, actor: Actor, name: str) -> Namespace:
    with context.database.read() as session:
        return describe(session, actor, require(session, actor, name, Action.READ))


def listing(context: Context, actor: Actor) -> tuple[Namespace, ...]:
    with context.database.read() as session:
        readable = readable_ids(session, actor)
        query = select(NamespaceRow).order_by(NamespaceRow.name)
        if readable is not None:
            query = query.where(NamespaceRow.private.is_(False) | NamespaceRow.id.in_(readable))
        return tuple(describe(session, actor, row) for row in session.scalars(query))


def describe(session: Session, actor: Actor, row: NamespaceRow) -> Namespace:
    """Return the namespace; what only members may know is filled in for those who have a role."""
    inside = is_allowed(session, actor, row, Action.READ)
    visible = [AdapterRow.namespace_id == row.id, AdapterRow.recent_id > 0, AdapterRow.deleted_at.is_(None)]
    if not inside:
        visible.append(AdapterRow.private.is_(False))
    members: tuple[Member, ...] = ()
    if inside:
        query = select(UserRow.name, MemberRow.role).join(MemberRow).where(MemberRow.namespace_id == row.id)
        members = tuple(Member(user, role) for user, role in session.execute(query.order_by(UserRow.name)).tuples())
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


def create(context: Context, actor: Actor, name: str, *, private: bool, description: str) -> Namespace:
    require_site(actor)

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
    """Insert a namespace with its first owner.  Raises Conflict when the name was ever used."""
    if session.scalar(select(NamespaceRow.id).where(NamespaceRow.name == parse_namespace(name))) is not None:
        raise Conflict(f"The namespace {name!r} is taken. Choose another name.")
    row = NamespaceRow(name=name, kind=kind, private=private, description=description, created_at=context.now())
    session.add(row)
    session.flush()
    if owner_id is not None:
        session.add(MemberRow(namespace_id=row.id, user_id=owner_id, role="owner"))
        session.flush()
    return row


def update(context: Context, actor: Actor, name: str, *, private: bool | None, description: str | None) -> Namespace:
    from hub.registry import facets

    def work(session: Session) -> Namespace:
        row = require(session, actor, name, Action.MANAGE)
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
    def work(session: Session) -> Namespace:
        row = require(session, actor, namespace, Action.MANAGE)
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
