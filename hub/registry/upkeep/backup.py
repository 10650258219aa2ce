"""Backup and restore: one folder that holds everything, written while the service goes on.

    BACKUP/
      backup.json              schema revision, counts, sha256 of each table's file; written last
      tables/<table>.jsonl     every row, one JSON list per line, of one moment (a single read transaction)
      blobs/ab/<sha256>        every blob that those rows name, hashed while it is copied

The tables are the same for SQLite and PostgreSQL, so a backup of one restores into the other.  Rows come first: a blob
that they name stays for garbage collection's grace period at least, and blobs never change.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, DateTime, Integer, LargeBinary, Table, bindparam, func, select, text, update
from sqlalchemy.orm import Session

from hub.errors import Conflict, DigestMismatch, HubError, IntegrityError, InvalidRequest
from hub.formats.private_files import close_to_others, create_private, make_private_folder
from hub.registry import schema
from hub.registry.context import Context
from hub.registry.db.models import BaseRow, BlobRow, Model, Moment
from hub.registry.search import facets
from hub.registry.storage.streams import ByteStream
from hub.registry.upkeep import gc

FORMAT = 1
# What is derived is made anew; unfinished uploads have no bytes in a backup; logins and buckets end by themselves; and
# whoever reads a backup must not be able to sign anything as the server.
_LEFT_OUT = frozenset({"terms", "term_chunks", "derived", "uploads", "web_sessions", "rate_buckets", "server_values"})
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What was written or restored."""

    rows: int
    blobs: int
    bytes: int

    def line(self) -> str:
        return f"{self.rows:,} rows and {self.blobs:,} blobs ({self.bytes:,} bytes)"


def write(context: Context, target: str, progress: Callable[[int], None] | None = None) -> BackupReport:
    """Write a consistent copy into a new folder while the service goes on."""
    folder = Path(target)
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} is not empty. Name a new folder.")
    make_private_folder(folder / "tables")
    close_to_others(folder)
    # Restart the grace period of collectable blobs: every blob that the tables name must survive the copying.
    context.database.transact(partial(gc.renew_grace, now=context.now()))
    tables, blobs = _write_tables(context, folder / "tables")
    size = _copy_blobs(context, folder / "blobs", blobs, progress)
    rows = sum(table["rows"] for table in tables.values())
    summary = {
        "format": FORMAT,
        "schema": schema.needed(),
        "made_at": context.now().isoformat(),
        "tables": tables,
        "blobs": len(blobs),
        "bytes": size,
    }
    _write_synced(folder / "backup.json", json.dumps(summary, indent=2).encode())
    return BackupReport(rows, len(blobs), size)


def _tables() -> list[Table]:
    return [table for table in Model.metadata.sorted_tables if table.name not in _LEFT_OUT]


def _write_tables(context: Context, folder: Path) -> tuple[dict[str, dict[str, Any]], list[tuple[str, int]]]:
    """Write all tables of one moment, and return what was written and the blobs that they name."""
    written: dict[str, dict[str, Any]] = {}
    with context.database.read_one_state() as session:
        for table in _tables():
            written[table.name] = _write_table(session, table, folder / f"{table.name}.jsonl")
        blobs = session.execute(select(BlobRow.sha256, BlobRow.size).order_by(BlobRow.sha256)).all()
    return written, [(sha256, size) for sha256, size in blobs]


def _write_table(session: Session, table: Table, path: Path) -> dict[str, Any]:
    digest, rows = hashlib.sha256(), 0
    query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=_PAGE)
    with create_private(path) as file:
        for row in session.execute(query):
            line = json.dumps([_to_json(value) for value in row], ensure_ascii=False).encode() + b"\n"
            file.write(line)
            digest.update(line)
            rows += 1
        file.flush()
        os.fsync(file.fileno())
    columns = [column.name for column in table.columns]
    return {"rows": rows, "columns": columns, "sha256": digest.hexdigest()}


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _copy_blobs(
    context: Context, folder: Path, blobs: list[tuple[str, int]], progress: Callable[[int], None] | None
) -> int:
    copied = 0
    for sha256, size in blobs:
        target = folder / sha256[:2] / sha256
        make_private_folder(target.parent)
        digest = hashlib.sha256()
        try:
            with create_private(target) as file:
                for piece in context.store.stream(sha256, 0, size):
                    file.write(piece)
                    digest.update(piece)
                file.flush()
                os.fsync(file.fileno())
        except HubError as error:
            raise IntegrityError(f"The blob {sha256} can't be read: {error.message} Run: lorahub fsck") from error
        if digest.hexdigest() != sha256:
            raise DigestMismatch(f"The stored blob {sha256} is damaged, so this is no backup. Run: lorahub fsck")
        copied += size
        if progress is not None:
            progress(copied)
    return copied


def _write_synced(path: Path, data: bytes) -> None:
    with create_private(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


# Restore ---------------------------------------------------------------------------------------------------------


def restore(context: Context, source: str) -> BackupReport:
    """Fill an empty registry from a backup.  Raises Conflict if it holds anything; IntegrityError for a bad backup.

    Everything is checked against the hashes in the backup; the rows land in one transaction, after the blobs.
    """
    folder = Path(source)
    summary = _read_summary(folder)
    _require_empty(context)
    _require_blobs(folder, summary)
    size = _restore_blobs(context, folder)

    def work(session: Session) -> int:
        rows = sum(_restore_table(session, table, folder, summary) for table in _tables())
        facets.rebuild(session)
        return rows

    rows = context.database.transact(work)
    with context.database.read() as session:
        blobs = session.scalar(select(func.count()).select_from(BlobRow)) or 0
    return BackupReport(rows, blobs, size)


def _read_summary(folder: Path) -> dict[str, Any]:
    try:
        summary = json.loads((folder / "backup.json").read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{folder} is not a finished backup: its backup.json can't be read.") from error
    if summary.get("format") != FORMAT or summary.get("schema") != schema.needed():
        raise InvalidRequest(
            f"The backup has the schema {summary.get('schema')}, and this release works with {schema.needed()}. "
            "Restore it with the release that wrote it, then upgrade."
        )
    return dict(summary)


def _require_empty(context: Context) -> None:
    with context.database.read() as session:
        for table in _tables():
            if session.execute(select(table).limit(1)).first() is not None:
                raise Conflict("The database is not empty. Restore into a new one.")


def _require_blobs(folder: Path, summary: dict[str, Any]) -> None:
    """Raise IntegrityError, before anything is restored, unless every blob that the rows name is in the backup."""
    said = summary["tables"].get("blobs", {"columns": []})["columns"]
    lacking = []
    for page in _pages(folder / "tables" / "blobs.jsonl"):
        for row in page:
            named = dict(zip(said, row, strict=True))
            path = folder / "blobs" / named["sha256"][:2] / named["sha256"]
            if not path.is_file() or path.stat().st_size != named["size"]:
                lacking.append(named["sha256"])
    if lacking:
        raise IntegrityError(
            f"The backup lacks {len(lacking):,} of the blobs that it names, e.g. {lacking[0]}: nothing was restored. "
            "Use another backup."
        )


def _restore_blobs(context: Context, folder: Path) -> int:
    size = 0
    for path in sorted((folder / "blobs").glob("??/*")):
        length = path.stat().st_size
        with path.open("rb") as file:
            stream: ByteStream = file
            staged = context.store.stage(stream, path.name, length, length)
        context.store.keep(staged)
        context.store.drop(staged.key)
        size += length
    return size


def _restore_table(session: Session, table: Table, folder: Path, summary: dict[str, Any]) -> int:
    said = summary["tables"].get(table.name)
    path = folder / "tables" / f"{table.name}.jsonl"
    if said is None or _hash(path) != said["sha256"]:
        raise IntegrityError(f"{path} is not what the backup says. Use another backup.")
    columns = [table.columns[name] for name in said["columns"]]
    count, parents = 0, dict[int, int]()
    for page in _pages(path):
        rows = [
            {column.name: _from_json(column, value) for column, value in zip(columns, row, strict=True)} for row in page
        ]
        parents |= _without_parents(table, rows)
        session.execute(table.insert(), rows)
        count += len(rows)
    _set_parents(session, table, parents)
    _move_sequence(session, table)
    return count


def _without_parents(table: Table, rows: list[dict[str, Any]]) -> dict[int, int]:
    """Remove each base's parent, and return them by id: a parent may come on a later page than its child."""
    if table is not BaseRow.__table__:
        return {}
    parents = {row["id"]: row["parent_id"] for row in rows if row["parent_id"] is not None}
    for row in rows:
        row["parent_id"] = None
    return parents


def _set_parents(session: Session, table: Table, parents: dict[int, int]) -> None:
    if parents:
        rows = [{"child": child, "parent": parent} for child, parent in parents.items()]
        where = table.c.id == bindparam("child")
        session.execute(update(table).where(where).values(parent_id=bindparam("parent")), rows)


def _pages(path: Path) -> Iterator[list[list[Any]]]:
    page: list[list[Any]] = []
    with path.open("rb") as file:
        for line in file:
            page.append(json.loads(line))
            if len(page) == _PAGE:
                yield page
                page = []
    if page:
        yield page


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _from_json(column: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, (Moment, DateTime)):
        return datetime.fromisoformat(value)
    return base64.b64decode(value) if isinstance(column.type, LargeBinary) else value


def _move_sequence(session: Session, table: Table) -> None:
    """PostgreSQL numbers new rows from a sequence, which rows with given ids don't move."""
    key = table.columns.get("id")
    if (
        session.get_bind().dialect.name != "postgresql"
        or key is None
        or not isinstance(key.type, (BigInteger, Integer))
    ):
        return
    session.execute(
        text(
            f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), "  # noqa: S608  (names of our own tables)
            f"COALESCE((SELECT max(id) FROM {table.name}), 0) + 1, false)"
        )
    )
