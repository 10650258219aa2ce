"""One database, SQLite or PostgreSQL, with two kinds of transaction: `read` and `write`.

SQLite: WAL, every write starts with BEGIN IMMEDIATE (a deferred one that reads first fails at once when another
writer was quicker, and no timeout helps), and the writers of one process queue up on a lock, which is fair where
SQLite's own waiting is not.  A newer SQLite than Python's is used where the `pysqlite3` wheel brings one: 3.7.0 to
3.51.2 can lose a write when a reset of the WAL races.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Executable, Row, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, TimeoutError
from sqlalchemy.exc import IntegrityError as ConstraintError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from hub.errors import HubError, InvalidRequest, StorageFull, Unavailable
from hub.formats.private_files import close_to_others, ensure_private_file, make_private_folder

T = TypeVar("T")

SAFE_SQLITE = (3, 51, 3)
BUSY_TIMEOUT_SECONDS = 30
_ATTEMPTS = 20
# PostgreSQL: serialization failure, deadlock, lock not available.
_TRANSIENT_STATES = frozenset({"40001", "40P01", "55P03"})
_DISK_FULL_STATE = "53100"
_OUT_OF_RANGE_STATE = "22003"
_TOO_LARGE_A_NUMBER = "A number in the request is larger than any that is stored here."


class Database:
    """An engine and its sessions.  Only this package commits."""

    def __init__(self, url: str) -> None:
        self.url = _parse_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(self.url) if self.is_sqlite else _postgres_engine(self.url)
        self._readers = sessionmaker(self.engine, expire_on_commit=False)
        writing = self.engine.execution_options(immediate=True)
        self._writers = sessionmaker(writing, expire_on_commit=False)
        self._writer_queue = threading.Lock()
        # One statement needs no transaction around it, and the two messages that this takes.
        single = {"single": True} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        self._single = self.engine.execution_options(**single)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that changes nothing.  On PostgreSQL each of its statements sees the state of its own time."""
        with _translated_errors(), self._readers() as session:
            yield session

    @contextmanager
    def read_one_state(self) -> Iterator[Session]:
        """Like `read`, and all of its statements see one state."""
        with self.read() as session:
            if not self.is_sqlite:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    def fetch_one(self, statement: Executable, parameters: Mapping[str, Any]) -> Row[Any] | None:
        """Return the first row of one reading statement: the quickest way to ask one thing."""
        with self.single() as connection:
            return connection.execute(statement, parameters).first()

    @contextmanager
    def single(self) -> Iterator[Connection]:
        """A connection for reading on which each statement stands alone: two of them may see two states."""
        with _translated_errors(), self._single.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that commits at the end of the block, or leaves no trace."""
        with _translated_errors():
            if not self.is_sqlite:
                with self._writers() as session, session.begin():
                    yield session
                return
            with self._writer_queue, self._writers() as session, session.begin():
                yield session

    def transact(self, work: Callable[[Session], T]) -> T:
        """Run `work` in a write transaction, again when another writer got in its way.

        A unique constraint that two writers race for is such a case: the loser reads what won and goes on.  So is a row
        that was read, and is gone when it is written.
        """
        for attempt in range(_ATTEMPTS):
            try:
                with self.write() as session:
                    return work(session)
            except (ConstraintError, StaleDataError, _Transient) as error:
                if attempt == _ATTEMPTS - 1:
                    raise Unavailable("The registry is too busy to write this now. Try again in a moment.") from error
                time.sleep(0.005 * (attempt + 1))
        raise AssertionError("unreachable")

    def sqlite_version(self) -> tuple[int, ...] | None:
        """Return the version of the SQLite library in use, or None on PostgreSQL."""
        if not self.is_sqlite:
            return None
        with self.read() as session:
            return tuple(int(part) for part in str(session.scalar(text("select sqlite_version()"))).split("."))

    def close(self) -> None:
        self.engine.dispose()


class _Transient(Exception):
    """A deadlock or the like: the same transaction may well succeed when it is tried again."""


def _parse_url(text_url: str) -> URL:
    try:
        url = make_url(text_url)
    except ArgumentError as error:
        raise InvalidRequest(
            "The database's URL can't be read. Write sqlite:///path/to/file or postgresql://user@host/name."
        ) from error
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database:
        return url.set(drivername="sqlite+pysqlite")
    if backend in {"postgresql", "postgres"}:
        return url.set(drivername="postgresql+psycopg")
    raise InvalidRequest("The database is an SQLite file (sqlite:///path) or PostgreSQL (postgresql://user@host/name).")


def _sqlite_engine(url: URL) -> Engine:
    _make_private(Path(str(url.database)))
    # The pool is as large as the threads of one worker may be; waiting for a connection is waiting for a thread.
    engine = create_engine(
        url,
        module=_newest_sqlite(),
        pool_size=16,
        max_overflow=48,
        pool_timeout=BUSY_TIMEOUT_SECONDS,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        _switch_to_wal(connection)
        for pragma in (
            "synchronous=FULL",  # a published version survives a power cut
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-8192",  # of each connection; the rest is the file system's work
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("single", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("immediate", False) else "BEGIN")

    return engine


def _make_private(file: Path) -> None:
    """Make the file before SQLite does, which would let all read it; the log beside it gets the mode of the file."""
    if str(file) != ":memory:":
        make_private_folder(file.parent)
        ensure_private_file(file)
        for path in (file, *(file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))):
            close_to_others(path)


def _switch_to_wal(connection: Any) -> None:
    """Have writers keep no reader waiting.  Several that open a new file at once switch it one after the other.

    For this statement alone SQLite may say that the file is locked without waiting as long as it was told to.
    """
    until = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except _newest_sqlite().OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _newest_sqlite() -> Any:
    """Return the module with the newer SQLite: pysqlite3's where it is installed and newer, else Python's."""
    try:
        import pysqlite3
    except ImportError:
        return sqlite3
    return pysqlite3 if pysqlite3.sqlite_version_info > sqlite3.sqlite_version_info else sqlite3


def _postgres_engine(url: URL) -> Engine:
    try:
        return create_engine(
            url,
            pool_size=16,
            max_overflow=48,
            pool_timeout=BUSY_TIMEOUT_SECONDS,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10},
        )
    except ImportError as error:
        raise InvalidRequest("PostgreSQL needs its driver: install lorahub-registry[postgres].") from error


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except ConstraintError:
        raise
    except TimeoutError as error:
        raise Unavailable("All database connections are busy. Try again in a moment.") from error
    except OverflowError as error:  # SQLite's driver, of what PostgreSQL calls out of range
        raise InvalidRequest(_TOO_LARGE_A_NUMBER) from error
    except DBAPIError as error:
        raise _translate(error) from error


def _translate(error: DBAPIError) -> Exception:
    reason = str(error.orig)
    state = getattr(error.orig, "sqlstate", None)
    if "disk is full" in reason or state == _DISK_FULL_STATE:
        return StorageFull("The database's disk is full: nothing was stored. Free some space, then try again.")
    if state == _OUT_OF_RANGE_STATE:
        return InvalidRequest(_TOO_LARGE_A_NUMBER)
    if "NUL (0x00)" in reason:  # psycopg, before it asks the server
        return InvalidRequest("A text in the request has a NUL, which can't be stored.")
    if state in _TRANSIENT_STATES:
        return _Transient(reason)
    if "is locked" in reason:  # SQLite, after it waited: somebody writes for longer than anything of ours does
        return Unavailable("The registry is busy with other writes. Nothing was stored; try again in a moment.")
    if isinstance(error, OperationalError) or error.connection_invalidated:
        return Unavailable(f"The database can't be used right now ({_first_line(reason)}). Try again in a moment.")
    return HubError("The database refused a statement. This is a fault of the server; see its log.")


def _first_line(reason: str) -> str:
    # Never the whole text: PostgreSQL's connection errors may repeat the URL.
    return reason.splitlines()[0][:120].split("@")[0] if reason else "no reason given"
