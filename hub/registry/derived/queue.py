"""The job queue of derived values: wanted, claimed by a worker, made or failed.

The workers of all machines share it: a transaction claims a job for a limited time.  Scheduling is fair: the next job
belongs to the namespace that used the least time lately.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import and_, delete, exists, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.manifest import FileEntry
from hub.registry.context import Context
from hub.registry.db.models import AdapterRow, BlobRow, DerivedRow, NamespaceRow, VersionFileRow, VersionRow
from hub.registry.derived.recipe import WAITING, Derived, Job, Recipe

MAX_TRIES = 3
MAX_AT_ONCE = 2
"""Jobs that run at a time, over all workers and machines: each may take a processor."""

MAX_ASKED_FOR = 200
"""Jobs that wait because a page asked for them."""

MAX_KEPT_PAIRS = 5_000
_PAGES = "-pages-"
_SWEPT_AT_ONCE = 200
_LOOK_BACK = 200
"""Versions get their numbers before they are committed: one may come in behind those that were seen."""


def find(context: Context, recipe: Recipe, *digests: str) -> Derived | None:
    """Return the value for these versions, or that it waits or failed; None if nobody asked for it yet."""
    with context.database.read() as session:
        row = session.get(DerivedRow, Job(recipe, digests, "").row_key)
        if row is None:
            return None
        if row.state == "waiting":
            return WAITING
        value = json.loads(zlib.decompress(row.body)) if row.body is not None else None
        return Derived("made" if row.state == "made" else "failed", value, row.reason or "")


def want(context: Context, recipe: Recipe, *digests: str) -> bool:
    """Queue a value that a page shows.  Returns False if too many jobs wait already."""

    def work(session: Session) -> bool:
        waiting = select(func.count()).where(DerivedRow.state == "waiting", DerivedRow.share == _PAGES)
        if (session.scalar(waiting) or 0) >= MAX_ASKED_FOR:
            return False
        _add(context, session, [Job(recipe, digests, _PAGES)])
        return True

    return context.database.transact(work)


def sweep(context: Context, recipes: Sequence[Recipe], seen: int) -> int:
    """Queue the missing values of versions above id `seen`; return the id up to which none is missing."""
    swept = [recipe for recipe in recipes if recipe.is_swept]
    with context.database.read() as session:
        query = (
            select(VersionRow.id, VersionRow.digest, NamespaceRow.name)
            .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
            .join(NamespaceRow, AdapterRow.namespace_id == NamespaceRow.id)
            .where(VersionRow.id > max(0, seen - _LOOK_BACK), VersionRow.deleted_at.is_(None))
            .order_by(VersionRow.id)
            .limit(_SWEPT_AT_ONCE + _LOOK_BACK)
        )
        rows = session.execute(query).all()
        keys = [recipe.key for recipe in swept]
        query_known = select(DerivedRow.recipe, DerivedRow.digest).where(
            DerivedRow.recipe.in_(keys), DerivedRow.digest.in_({row.digest for row in rows}), DerivedRow.other == ""
        )
        known = {(recipe, digest) for recipe, digest in session.execute(query_known)}
    missing = [
        Job(recipe, (row.digest,), row.name)
        for row in rows
        for recipe in swept
        if (recipe.key, row.digest) not in known
    ]
    if missing:
        context.database.transact(lambda session: _add(context, session, missing))
    return max((row.id for row in rows), default=seen)


def _add(context: Context, session: Session, jobs: Sequence[Job]) -> None:
    insert = sqlite.insert if context.database.is_sqlite else postgresql.insert
    for job in jobs:
        values = job.row_key | {"state": "waiting", "share": job.share, "tries": 0, "wanted_at": context.now()}
        session.execute(insert(DerivedRow).values(**values).on_conflict_do_nothing())


def claim(context: Context, recipes: Sequence[Recipe], spent: Mapping[str, float]) -> Job | None:
    """Take the next job, or None if there is none, or enough others run.  spent: seconds of each share."""
    by_key = {recipe.key: recipe for recipe in recipes}

    def work(session: Session) -> Job | None:
        now = context.now()
        running = select(func.count()).where(DerivedRow.state == "waiting", DerivedRow.claimed_until > now)
        if (session.scalar(running) or 0) >= MAX_AT_ONCE:
            return None
        free = _free(context, list(by_key))
        shares = session.scalars(select(DerivedRow.share).where(free).distinct()).all()
        if not shares:
            return None
        share = min(shares, key=lambda name: (spent.get(name, 0.0), name))
        query = select(DerivedRow).where(free, DerivedRow.share == share)
        query = query.order_by(DerivedRow.wanted_at, DerivedRow.recipe, DerivedRow.digest).limit(1)
        row = session.scalar(query.with_for_update(skip_locked=True))
        if row is None:
            return None
        recipe = by_key[row.recipe]
        row.tries += 1
        row.claimed_until = now + timedelta(seconds=recipe.deadline_seconds + 30)
        return Job(recipe, (row.digest, row.other) if row.other else (row.digest,), row.share)

    with context.database.read() as session:
        if session.scalar(select(DerivedRow.digest).where(_free(context, list(by_key))).limit(1)) is None:
            return None  # nearly always: without a write
    return context.database.transact(work)


def _free(context: Context, keys: Sequence[str]) -> Any:
    unclaimed = or_(DerivedRow.claimed_until.is_(None), DerivedRow.claimed_until <= context.now())
    return and_(DerivedRow.state == "waiting", DerivedRow.recipe.in_(keys), unclaimed)


def files_of(context: Context, digest: str) -> dict[str, FileEntry] | None:
    """Return the files of a version that is there; None if none with this digest is any more."""
    with context.database.read() as session:
        query = select(VersionRow.id).where(VersionRow.digest == digest, VersionRow.deleted_at.is_(None)).limit(1)
        version_id = session.scalar(query)
        if version_id is None:
            return None
        rows = session.execute(
            select(VersionFileRow.path, BlobRow.size, BlobRow.sha256)
            .join(BlobRow, BlobRow.sha256 == VersionFileRow.sha256)
            .where(VersionFileRow.version_id == version_id)
        )
        return {path: FileEntry(path, size, sha256) for path, size, sha256 in rows}


def keep(context: Context, job: Job, found: Derived) -> None:
    """Store a job's outcome.  A waiting one is queued again, and fails for good after MAX_TRIES."""
    body = zlib.compress(json.dumps(found.value, allow_nan=False).encode(), 6) if found.state == "made" else None

    def work(session: Session) -> None:
        row = session.get(DerivedRow, job.row_key)
        if row is None:
            return
        gave_up = found.state == "waiting" and row.tries >= MAX_TRIES
        row.state = "failed" if gave_up else found.state
        row.reason = "It could not be computed; the server's log says why." if gave_up else found.reason[:2_000]
        row.body, row.claimed_until = body, None

    context.database.transact(work)


def drop(context: Context, job: Job) -> None:
    """Forget a job whose version is gone."""

    def work(session: Session) -> None:
        row = session.get(DerivedRow, job.row_key)
        if row is not None:
            session.delete(row)

    context.database.transact(work)


def forget_unneeded(session: Session) -> None:
    """Delete the values of deleted versions, and all but the newest comparisons."""

    def has_version(column: Any) -> Any:
        return exists().where(VersionRow.digest == column, VersionRow.deleted_at.is_(None))

    gone = ~has_version(DerivedRow.digest) | ((DerivedRow.other != "") & ~has_version(DerivedRow.other))
    session.execute(delete(DerivedRow).where(gone).execution_options(synchronize_session=False))
    newest = select(DerivedRow.wanted_at).where(DerivedRow.other != "").order_by(DerivedRow.wanted_at.desc())
    oldest_kept = session.scalar(newest.offset(MAX_KEPT_PAIRS - 1).limit(1))
    if oldest_kept is not None:
        old = and_(DerivedRow.other != "", DerivedRow.wanted_at < oldest_kept)
        session.execute(delete(DerivedRow).where(old).execution_options(synchronize_session=False))


def forget_other_recipes(context: Context, recipes: Sequence[Recipe]) -> None:
    """Delete the values that other releases made with other versions of these recipes."""
    keys = [recipe.key for recipe in recipes]
    stale = or_(*(DerivedRow.recipe.like(f"{recipe.name}.%") for recipe in recipes))
    query = delete(DerivedRow).where(stale, DerivedRow.recipe.not_in(keys))
    context.database.transact(lambda session: session.execute(query.execution_options(synchronize_session=False)))
