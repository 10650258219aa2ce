"""What every part of the registry works on: one database, one store, one clock, and the server's settings."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from hub.formats.private_files import close_to_others, is_open_to_others
from hub.registry import schema
from hub.registry.db.database import SAFE_SQLITE, Database
from hub.registry.db.models import ServerValueRow
from hub.registry.storage.opening import open_store
from hub.registry.storage.store import BlobStore
from hub.settings import ServerSettings

UPLOAD_LIFETIME = timedelta(hours=24)
DELETE_WINDOW = timedelta(hours=72)
DRAFT_LIFETIME = timedelta(days=14)
"""How long a draft waits for its next commit."""


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Context:
    """The parts that the registry's modules share.  Tests set `now`."""

    database: Database
    store: BlobStore
    settings: ServerSettings
    now: Callable[[], datetime] = field(default=utc_now)

    @classmethod
    def open(cls, settings: ServerSettings) -> Context:
        """Connect and bring the schema of an empty database up.  Raises Unavailable for another schema."""
        database = Database(settings.database)
        try:
            schema.prepare(database)
            for path in settings.private_paths():
                close_to_others(path)
            return cls(database, open_store(settings.store), settings)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        self.database.close()

    def check_ready(self) -> None:
        """Raise Unavailable (or StorageFull) unless database and store can be used."""
        with self.database.read() as session:
            session.execute(text("select 1"))
        self.store.check()

    def warnings(self) -> tuple[str, ...]:
        open_to_others = [path for path in self.settings.private_paths() if is_open_to_others(path)]
        exposed = tuple(
            f"{path} can be opened by other users of this machine, and is not ours to close. Run: chmod go= {path}"
            for path in open_to_others
        )
        version = self.database.sqlite_version()
        if version is None or version >= SAFE_SQLITE:
            return exposed
        return (
            *exposed,
            f"SQLite {'.'.join(map(str, version))} has a rare race that can lose a write (mended in 3.51.3). "
            "Install the pysqlite3 wheel, or use PostgreSQL.",
        )

    def secret_key(self) -> bytes:
        """Return the key that signs URLs and cookies: the setting's, else one made once and kept."""
        if self.settings.secret_key:
            return self.settings.secret_key.encode()
        with self.database.read() as session:
            stored = session.scalar(select(ServerValueRow.value).where(ServerValueRow.name == "secret_key"))
        return bytes.fromhex(stored if stored is not None else self.database.transact(_make_secret_key))


def _make_secret_key(session: Session) -> str:
    stored = session.get(ServerValueRow, "secret_key")
    if stored is None:
        # Two workers may insert at once: the primary key admits one, and the other reads its value.
        stored = ServerValueRow(name="secret_key", value=secrets.token_hex(32))
        session.add(stored)
        session.flush()
    return stored.value
