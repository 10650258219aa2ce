"""The schema: up and down with rows in place, and never another one than the models say."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from hub.errors import InvalidRequest, Unavailable
from hub.registry import schema
from hub.registry.db.database import Database
from hub.registry.db.models import Model
from hub.registry.rights.access import ANONYMOUS
from hub.registry.service import Registry
from hub.registry.values import Query
from hub.settings import ServerSettings
from tests.registry.world import World, named
from tests.support.threads import at_once

INDEX = {"terms", "term_chunks", "adapter_search"}
CHANGED: set[str] = set()
"""Tables to which a step after the first adds something that going down loses."""


Rows = dict[str, list[dict[str, str]]]


def rows(database: Database) -> Rows:
    """Return all rows of all tables as they are now, but for the catalog's index, which is made from the others."""
    found: Rows = {}
    with database.engine.connect() as connection:
        for table in set(inspect(connection).get_table_names()) & set(Model.metadata.tables) - INDEX:
            listed = connection.execute(text(f"SELECT * FROM {table}")).mappings()
            found[table] = sorted(({key: repr(value) for key, value in row.items()} for row in listed), key=repr)
    return found


def only(these: Rows, columns_of: Rows) -> Rows:
    """Return `these` rows with the tables and columns of others: what a schema before ours has place for."""
    return {
        table: [{key: row[key] for key in (kept[0] if kept else row)} for row in these[table]]
        for table, kept in columns_of.items()
    }


def test_migrations_make_the_schema_of_the_models(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    schema.prepare(database)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": is_ours, "compare_server_default": False}
        )
        differences = compare_metadata(context, Model.metadata)
    assert differences == []
    assert schema.current(database) == schema.needed()
    database.close()


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Full text has tables of its own, which SQLAlchemy does not know."""
    return not (kind == "table" and name is not None and name.startswith("adapter_search"))


def test_up_and_down_keeps_the_rows(world: World) -> None:
    world.push("task/qa", seed=1, alias="prod", trained_from=["task/other@v1"])
    world.push("task/qa", seed=2)
    world.registry.metrics.set(world.admin, named("task/qa"), 1, "accuracy", 0.5)
    world.registry.webhooks.create(world.admin, "task", "https://example.com/hook", ["nothing"])
    database = world.context.database
    before = rows(database)
    revisions = [revision for revision, _ in schema.history()]
    for revision in reversed(revisions[:-1]):
        schema.downgrade(database, revision)
        assert schema.current(database) == revision
        kept = rows(database)
        assert kept == only(before, kept)
    schema.upgrade(database)
    after = rows(database)
    assert {name: rows for name, rows in after.items() if name not in CHANGED} == {
        name: rows for name, rows in before.items() if name not in CHANGED
    }
    assert world.registry.adapters.search(ANONYMOUS, Query(text="qa")).total == 1, "the index was built anew"
    assert world.registry.upkeep.check().problems == ()
    assert world.push("task/qa", seed=3).version.number == 3


def test_down_to_nothing_and_up_again_gives_a_working_registry(empty_database_url: str, tmp_path: Path) -> None:
    database = Database(empty_database_url)
    schema.prepare(database)
    schema.downgrade(database, "base")
    with database.engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == {"alembic_version"}
    schema.upgrade(database)
    database.close()
    world = World.open(ServerSettings(tmp_path, empty_database_url, str(tmp_path / "store")), tmp_path)
    assert world.push("task/qa").created
    world.close()


def test_schema_of_another_release_is_refused_with_the_next_step(world: World) -> None:
    with world.context.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(Unavailable, match="lorahub db upgrade"):
        Registry.open(world.context.settings)
    with pytest.raises(InvalidRequest):
        schema.downgrade(world.context.database, "nonsense")
    assert schema.current(world.context.database) == "0000"


def test_failing_migration_leaves_no_half_of_it(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    with database.write() as session:
        session.execute(text("CREATE TABLE webhooks (id INTEGER PRIMARY KEY)"))  # in the way
    with pytest.raises(Exception, match=r"webhooks|refused|can't be used"):
        schema.upgrade(database)
    with database.engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) <= {"webhooks", "alembic_version"}
    assert schema.current(database) is None
    database.close()


def test_servers_that_start_at_once_make_one_schema(empty_database_url: str, tmp_path: Path) -> None:
    settings = ServerSettings(tmp_path, empty_database_url, str(tmp_path / "store"))

    def first_start(_number: int) -> bool:
        with closing(Registry.open(settings)) as registry:
            return registry.users.first_start() is not None

    assert sum(at_once(4, first_start)) == 1


def test_a_new_file_that_many_open_at_once_keeps_none_of_them_out(tmp_path: Path) -> None:
    """Each switches it to the write-ahead log, which SQLite does for one at a time."""

    def open_and_read(_number: int) -> None:
        with closing(Database(f"sqlite:///{tmp_path / 'new'}.sqlite3")) as database, database.read() as session:
            assert session.execute(text("PRAGMA journal_mode")).scalar() == "wal"

    for _ in range(10):
        at_once(16, open_and_read)
        for path in tmp_path.glob("*.sqlite3*"):
            path.unlink()


def test_status_counts_every_revision_with_a_line_about_it() -> None:
    listed = schema.history()
    assert listed[0][0] == "0001"
    assert listed[-1][0] == schema.needed()
    assert all(title.strip() for _, title in listed)
