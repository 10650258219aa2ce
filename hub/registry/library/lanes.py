"""Lanes: branches, and each author's draft of commits that are not a version yet.

`main` is always a version.  A commit to it that isn't a valid version is kept on its author's draft,
`refs/draft/<author>`.  The draft collects commits until together they are a version; then it ends.  It expires after
two weeks without a commit.  A branch is a line of versions beside `main` that are never the latest.  Only members of
the namespace see drafts.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.errors import AliasNotFound, Conflict, InvalidRef, VersionNotFound
from hub.refs import AdapterName, parse_alias
from hub.registry.accounts import quotas
from hub.registry.context import DRAFT_LIFETIME, Context
from hub.registry.db.models import (
    AdapterRow,
    AliasRow,
    CommitFileRow,
    CommitRow,
    LaneRow,
    NamespaceRow,
    UserRow,
)
from hub.registry.events import audit
from hub.registry.library.lookup import find_adapter
from hub.registry.rights import permissions
from hub.registry.rights.access import Action, Actor
from hub.registry.values import Branch, Draft

MAIN = "main"
DRAFT, BRANCH = "draft", "branch"
MAX_BRANCHES = 100


def draft_name(author: str, branch: str = MAIN) -> str:
    """Return the name of the author's draft for `branch`."""
    return f"draft/{author}" if branch == MAIN else f"draft/{author}/{branch}"


def parse_branch(text: str) -> str:
    """Return `text` if it is a valid branch name; the rules are an alias's.  Raises InvalidRef."""
    try:
        return parse_alias(text)
    except InvalidRef as error:
        raise InvalidRef(error.message.replace("an alias", "a branch")) from error


# Seeing ----------------------------------------------------------------------------------------------------------


def find(session: Session, row: AdapterRow, name: str) -> LaneRow | None:
    return session.get(LaneRow, (row.id, name))


def may_see_drafts(session: Session, actor: Actor, row: AdapterRow) -> bool:
    namespace = session.get_one(NamespaceRow, row.namespace_id)
    return permissions.is_allowed(session, actor, namespace, Action.READ)


def drafts(context: Context, actor: Actor, name: AdapterName) -> tuple[Draft, ...]:
    """List the drafts, the newest first; none for non-members of the namespace."""
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        if not may_see_drafts(session, actor, row):
            return ()
        query = (
            select(LaneRow, UserRow.name, CommitRow.problem)
            .join(CommitRow, (CommitRow.adapter_id == LaneRow.adapter_id) & (CommitRow.commit == LaneRow.head))
            .outerjoin(UserRow, LaneRow.user_id == UserRow.id)
            .where(LaneRow.adapter_id == row.id, LaneRow.kind == DRAFT)
            .order_by(LaneRow.updated_at.desc())
        )
        return tuple(_to_draft(lane, author, problem) for lane, author, problem in session.execute(query))


def _to_draft(lane: LaneRow, author: str | None, problem: str | None) -> Draft:
    ref = f"refs/{lane.name}"
    return Draft(ref, author, lane.head, problem or "", lane.updated_at, lane.updated_at + DRAFT_LIFETIME)


def branches(context: Context, actor: Actor, name: AdapterName) -> tuple[Branch, ...]:
    """List the branches beside `main`."""
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name)
        query = select(LaneRow).where(LaneRow.adapter_id == row.id, LaneRow.kind == BRANCH).order_by(LaneRow.name)
        return tuple(Branch(lane.name, lane.head) for lane in session.scalars(query))


def pending_problem(session: Session, actor: Actor, row: AdapterRow) -> str | None:
    """Return what the newest draft lacks, if the actor may see drafts."""
    if not may_see_drafts(session, actor, row):
        return None
    query = (
        select(CommitRow.problem)
        .join(LaneRow, (CommitRow.adapter_id == LaneRow.adapter_id) & (CommitRow.commit == LaneRow.head))
        .where(LaneRow.adapter_id == row.id, LaneRow.kind == DRAFT)
    )
    return session.scalar(query.order_by(LaneRow.updated_at.desc()).limit(1))


# Changing --------------------------------------------------------------------------------------------------------


def create_branch(context: Context, actor: Actor, name: AdapterName, branch: str, commit: str) -> Branch:
    """Create a branch at a commit of `name`.  PUBLISH.  Raises Conflict if the name is taken."""
    parse_branch(branch)

    def work(session: Session) -> Branch:
        row, _ = find_adapter(session, actor, name, Action.PUBLISH, lock=True)
        if find(session, row, branch) is not None or branch == MAIN:
            raise Conflict(f"The branch {branch} of {name} exists.")
        if session.get(AliasRow, (row.id, branch)) is not None:
            raise Conflict(f"{branch} is a tag of {name}, so no branch can have that name.")
        count = select(func.count()).select_from(LaneRow)
        if (session.scalar(count.where(LaneRow.adapter_id == row.id, LaneRow.kind == BRANCH)) or 0) >= MAX_BRANCHES:
            raise Conflict(f"{name} has {MAX_BRANCHES} branches. Delete some first.")
        known = select(CommitRow.id).where(CommitRow.adapter_id == row.id, CommitRow.commit == commit)
        if session.scalar(known.where((CommitRow.version_id.is_not(None)) | CommitRow.problem.is_(None))) is None:
            raise VersionNotFound(f"A branch of {name} goes out from a version; {commit[:12]} is none.")
        now, user = context.now(), actor.user_id
        lane = {"kind": BRANCH, "head": commit, "base": commit, "user_id": user, "updated_at": now}
        session.add(LaneRow(adapter_id=row.id, name=branch, **lane))
        audit.record(context, session, actor, "branch.create", f"{name}@{branch}", name.namespace, commit=commit)
        return Branch(branch, commit)

    return context.database.transact(work)


def delete(context: Context, actor: Actor, name: AdapterName, lane: str) -> None:
    """Delete a branch, whose versions stay, or drop a draft.  PUBLISH; OWN for another author's draft."""

    def work(session: Session) -> None:
        row, namespace = find_adapter(session, actor, name, Action.PUBLISH, lock=True)
        found = find(session, row, lane)
        if found is None or (found.kind == DRAFT and not may_see_drafts(session, actor, row)):
            raise AliasNotFound(f"Invalid rev id: {name} has no branch {lane[:100]!r}.")
        if found.kind == DRAFT and found.user_id != actor.user_id:
            permissions.require_in(session, actor, namespace, Action.OWN)
        action = "draft.drop" if found.kind == DRAFT else "branch.delete"
        drop(session, row, found)
        audit.record(context, session, actor, action, f"{name}@{lane}", name.namespace)

    context.database.transact(work)


def drop(session: Session, row: AdapterRow, lane: LaneRow) -> None:
    """End a lane: delete its drafts and release their quota.  Versions stay."""
    drafts = select(CommitRow).where(
        CommitRow.adapter_id == row.id, CommitRow.lane == lane.name, CommitRow.version_id.is_(None)
    )
    counted = 0
    for commit in session.scalars(drafts).all():
        session.execute(sql_delete(CommitFileRow).where(CommitFileRow.commit_id == commit.id))
        counted += commit.counted_bytes
        session.delete(commit)
    quotas.give_back(session, session.get_one(NamespaceRow, row.namespace_id), counted)
    session.delete(lane)
    session.flush()


def expire(session: Session, before: datetime) -> None:
    """End the drafts without a commit since `before`."""
    query = select(LaneRow, AdapterRow).join(AdapterRow, LaneRow.adapter_id == AdapterRow.id)
    for lane, row in session.execute(query.where(LaneRow.kind == DRAFT, LaneRow.updated_at < before)).all():
        drop(session, row, lane)


def drop_all(session: Session, row: AdapterRow) -> None:
    """End every lane of a deleted adapter."""
    for lane in session.scalars(select(LaneRow).where(LaneRow.adapter_id == row.id)).all():
        drop(session, row, lane)
