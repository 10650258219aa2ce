"""Full-text search of adapters: FTS5 on SQLite, tsvector on PostgreSQL, with the same tokenizer for both.

Texts and queries are split into words here, so "qa" finds `task/qa-json` on both databases, and a query can hold only
words: the operators of FTS5 or tsquery never reach them.
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
    """Replace the adapter's indexed text by `value`."""
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

    None if the query has no words: then it filters nothing.
    """
    wanted = words(query)[:MAX_QUERY_WORDS]
    if not wanted:
        return None
    # Fetch the ids as one text: fetching a hundred thousand rows would take longer than finding them.
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
