"""Full text of adapters: FTS5 on SQLite, tsvector on PostgreSQL, and one idea of a word for both.

Texts and queries are cut into words here, so `task/qa-json` is found by "qa" on both databases, and no query can be
anything but words: what has a meaning in FTS5 or tsquery never reaches them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

_WORD = re.compile(r"[^\W_]+")
MAX_QUERY_WORDS = 12
MAX_WORD_LENGTH = 60


def words(value: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return [word[:MAX_WORD_LENGTH] for word in _WORD.findall(value.lower())]


def put(session: Session, adapter_id: int, value: str) -> None:
    """Make `value` all that the adapter is found by."""
    remove(session, adapter_id)
    put_many(session, [(adapter_id, value)])


def put_many(session: Session, values: Sequence[tuple[int, str]]) -> None:
    """Add adapters that are not in the index."""
    if _is_sqlite(session):
        statement = "INSERT INTO adapter_search (rowid, body) VALUES (:id, :body)"
    else:
        statement = "INSERT INTO adapter_search (adapter_id, body) VALUES (:id, to_tsvector('simple', :body))"
    rows = [{"id": adapter_id, "body": " ".join(words(value))} for adapter_id, value in values]
    if rows:
        session.execute(text(statement), rows)


def clear(session: Session) -> None:
    session.execute(text("DELETE FROM adapter_search"))


def remove(session: Session, adapter_id: int) -> None:
    key = "rowid" if _is_sqlite(session) else "adapter_id"
    session.execute(text(f"DELETE FROM adapter_search WHERE {key} = :id"), {"id": adapter_id})  # noqa: S608


def find(session: Session, query: str) -> list[int] | None:
    """Return the ids of adapters that have every word of `query`, as a whole word or the start of one.

    None when there is no word in it: then it asks for nothing in particular.
    """
    wanted = words(query)[:MAX_QUERY_WORDS]
    if not wanted:
        return None
    # The ids come over as one text: a hundred thousand rows would take longer to fetch than to find.
    if _is_sqlite(session):
        statement = "SELECT group_concat(rowid) FROM adapter_search WHERE adapter_search MATCH :query"
        expression = " AND ".join(f'"{word}"*' for word in wanted)
    else:
        statement = (
            "SELECT string_agg(adapter_id::text, ',') FROM adapter_search WHERE body @@ to_tsquery('simple', :query)"
        )
        expression = " & ".join(f"'{word}':*" for word in wanted)
    return [int(found) for found in (session.scalar(text(statement), {"query": expression}) or "").split(",") if found]


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"
