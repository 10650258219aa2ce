"""Rate limits: one token bucket per key, in the database, so that all workers count together."""

from __future__ import annotations

import math

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.errors import TooManyRequests
from hub.registry.context import Context
from hub.registry.db.models import RateBucketRow

# A bucket unused for this long is full again, so its row can go.
_FORGET_SECONDS = 24 * 3600


def take(context: Context, key: str, *, per_minute: int, burst: int, cost: float = 1.0) -> None:
    """Take from a token bucket that all workers share.  Raises TooManyRequests (retry_after_seconds).

    Raise TooManyRequests when the bucket doesn't hold `cost`; then nothing is taken.
    """
    wait = context.database.transact(
        lambda session: _take(context, session, key[:200], per_minute / 60, float(burst), cost)
    )
    if wait > 0:
        seconds = math.ceil(wait)
        raise TooManyRequests(f"Too many requests. Try again in {seconds} s.", retry_after_seconds=seconds)


def _take(context: Context, session: Session, key: str, per_second: float, burst: float, cost: float) -> float:
    """Return 0, or the seconds to wait."""
    insert = sqlite.insert if context.database.is_sqlite else postgresql.insert
    added = insert(RateBucketRow).values(key=key, tokens=burst, updated_at=context.now().timestamp())
    # An update that changes nothing locks the row that is there: `forget_idle` can't take it from under us.
    session.execute(added.on_conflict_do_update(index_elements=["key"], set_={"key": key}))
    row = session.scalars(select(RateBucketRow).where(RateBucketRow.key == key)).one()
    # Read the clock under the lock: an earlier reading would count the wait for the lock twice.
    now = context.now().timestamp()
    # A clock that went back must not remove tokens, and one far ahead must not block the bucket for a day.
    passed = max(0.0, now - row.updated_at)
    held = min(burst, row.tokens + passed * per_second)
    if held >= cost:
        row.tokens, row.updated_at = held - cost, now
        return 0.0
    row.tokens, row.updated_at = held, now
    return (cost - held) / per_second if per_second > 0 else 3600.0


def forget_idle(context: Context) -> int:
    """Remove buckets that are full again."""
    before = context.now().timestamp() - _FORGET_SECONDS

    def work(session: Session) -> int:
        gone = session.scalars(
            delete(RateBucketRow).where(RateBucketRow.updated_at < before).returning(RateBucketRow.key)
        )
        return len(gone.all())

    return context.database.transact(work)
