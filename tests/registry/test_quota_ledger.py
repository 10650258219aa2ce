"""What a namespace holds and what is on its way to it is counted once, at each moment, and never passes the limit."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, invariant, rule
from sqlalchemy import select, update

from hub.errors import HubError, QuotaExceeded
from hub.registry.accounts import quotas
from hub.registry.db.models import NamespaceRow
from hub.registry.library import uploads
from tests.registry.conftest import DATABASES
from tests.registry.machines import WorldMachine, run_machine
from tests.registry.world import World, named, ref
from tests.support.threads import at_once

QA = named("task/qa")
NAMES = ["task/qa", "task/other"]
HASH = "{:064x}".format


def limit(world: World, size: int) -> None:
    if not any(space.name == "task" for space in world.registry.namespaces.list(world.admin)):
        world.registry.namespaces.create(world.admin, "task")
    world.registry.namespaces.set_quota(world.admin, "task", max_bytes=size, max_adapters=None)


def counted(world: World) -> tuple[int, int]:
    """What is held, and what is reserved."""
    with world.context.database.read() as session:
        row = session.scalars(select(NamespaceRow).where(NamespaceRow.name == "task")).one()
        return row.used_bytes, quotas.reserved(session, row, world.context.now())


def test_what_was_sent_and_never_published_counts(world: World) -> None:
    """Twenty finished uploads of one megabyte don't fit into two."""
    limit(world, 2_000)
    stored = 0
    for number in range(20):
        try:
            world.put("task/qa", bytes([number]) * 1_000)
        except QuotaExceeded:
            continue
        stored += 1_000
    assert stored == 2_000
    assert counted(world) == (0, 2_000)
    world.clock.forward(hours=25)
    world.registry.upkeep.collect()
    assert counted(world) == (0, 0)
    world.put("task/qa", b"x" * 2_000)


def test_each_open_upload_counts_also_of_the_same_bytes(world: World) -> None:
    limit(world, 2_500)
    for number, name in enumerate(["task/a", "task/b"]):
        world.registry.uploads.start(world.admin, named(name), HASH(7), 1_000)
        assert counted(world) == (0, 1_000 * (number + 1))
    with pytest.raises(QuotaExceeded):
        world.registry.uploads.start(world.admin, named("task/c"), HASH(7), 1_000)
    # Who tries again has the room of the earlier try: it was killed, or it will ask again.
    world.registry.uploads.start(world.admin, named("task/a"), HASH(7), 1_000)
    assert counted(world) == (0, 2_000)


def test_bytes_are_refused_before_they_come(world: World) -> None:
    limit(world, 100)

    class Never(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise AssertionError("somebody read")

    with pytest.raises(QuotaExceeded):
        world.registry.blobs.put(world.admin, QA, Never(), HASH(1), 101)
    with pytest.raises(QuotaExceeded):
        world.registry.blobs.put(world.admin, QA, io.BytesIO(b"x" * 200))
    assert counted(world) == (0, 0)
    assert list(world.context.store.blobs()) == []


def test_many_at_once_do_not_all_fit(world: World) -> None:
    limit(world, 3_000)

    def send(number: int) -> bool:
        data = bytes([number]) * 1_000
        try:
            world.registry.blobs.put(world.admin, QA, io.BytesIO(data), hashlib.sha256(data).hexdigest(), len(data))
        except QuotaExceeded:
            return False
        return True

    assert sum(at_once(8, send)) == 3
    assert counted(world) == (0, 3_000)


def test_a_user_has_so_many_open_uploads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_OPEN_UPLOADS", 3)
    opened = [world.registry.uploads.start(world.admin, QA, HASH(n), 60 * 1024**3) for n in range(3)]
    with pytest.raises(QuotaExceeded, match="unfinished"):
        world.registry.uploads.start(world.admin, named("task/other"), HASH(9), 1)
    world.registry.uploads.abort(world.admin, opened[0].id)
    world.registry.uploads.start(world.admin, QA, HASH(9), 1)


def test_what_a_deleted_adapter_held_is_given_back(world: World) -> None:
    world.push("task/qa", seed=1)
    world.commit("task/qa", {"notes.md": world.put("task/qa", b"x" * 500)})
    assert counted(world)[0] > 500
    world.registry.adapters.delete(world.admin, QA)
    assert counted(world) == (0, 0)


def test_fsck_says_where_it_does_not_add_up(world: World) -> None:
    world.push("task/qa", seed=1)
    assert world.registry.upkeep.check().problems == ()
    with world.context.database.write() as session:
        session.execute(update(NamespaceRow).where(NamespaceRow.name == "task").values(used_bytes=7))
    (problem,) = world.registry.upkeep.check().problems
    assert (problem.kind, problem.what) == ("quota", "task")
    assert "counts 7 bytes" in problem.message


class Ledger(WorldMachine):
    """Random histories of all that brings or removes bytes."""

    opened: Bundle[str] = Bundle("opened")

    @initialize()
    def start(self) -> None:
        self.world = self.open_world()
        self.size = self.world.manifest(self.folders[0]).size_bytes
        limit(self.world, 3 * self.size)

    def attempt(self, work: Callable[[], object]) -> None:
        """What is refused is refused: here it only has to leave the sums as they were."""
        with suppress(HubError):
            work()

    @rule(target=opened, name=st.sampled_from(NAMES), number=st.integers(0, 3), size=st.sampled_from([0, 900, 10**4]))
    def open_upload(self, name: str, number: int, size: int) -> str:
        try:
            return self.world.registry.uploads.start(self.world.admin, named(name), HASH(number), size).id
        except QuotaExceeded:
            return ""

    @rule(upload=opened)
    def abort(self, upload: str) -> None:
        self.attempt(lambda: self.world.registry.uploads.abort(self.world.admin, upload))

    @rule(name=st.sampled_from(NAMES), size=st.sampled_from([1, 300, 2_000]), fill=st.integers(0, 3))
    def put(self, name: str, size: int, fill: int) -> None:
        self.attempt(lambda: self.world.put(name, bytes([fill]) * size))

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, 2))
    def push(self, name: str, number: int) -> None:
        self.attempt(lambda: self.world.push(name, self.folders[number]))

    @rule(name=st.sampled_from(NAMES), fill=st.integers(0, 3))
    def draft(self, name: str, fill: int) -> None:
        self.attempt(lambda: self.world.commit(name, {"notes.md": self.world.put(name, bytes([fill]) * 700)}))

    @rule(name=st.sampled_from(NAMES))
    def delete_version(self, name: str) -> None:
        def work() -> None:
            latest = self.world.registry.versions.resolve(self.world.admin, ref(name))
            self.world.registry.versions.delete(self.world.admin, named(name), latest.number)

        self.attempt(work)

    @rule(name=st.sampled_from(NAMES))
    def delete_adapter(self, name: str) -> None:
        self.attempt(lambda: self.world.registry.adapters.delete(self.world.admin, named(name)))

    @rule(hours=st.sampled_from([1, 30]))
    def time_passes(self, hours: int) -> None:
        self.world.clock.forward(hours=hours)
        self.world.registry.upkeep.collect(grace=timedelta(hours=24))

    @invariant()
    def it_adds_up(self) -> None:
        if not hasattr(self, "world"):
            return
        used, reserved = counted(self.world)
        assert used >= 0
        assert used + reserved <= 3 * self.size
        with self.world.context.database.read() as session:
            row = session.scalars(select(NamespaceRow).where(NamespaceRow.name == "task")).one()
            assert quotas.held(session, row) == used

    def teardown(self) -> None:
        problems = self.world.registry.upkeep.check(rehash=False).problems
        self.world.close()
        assert problems == ()


@pytest.mark.parametrize("kind", DATABASES)
def test_any_history_adds_up(kind: str, request: pytest.FixtureRequest, quick_folder: Path) -> None:
    assert run_machine(Ledger, kind, request, quick_folder, contents=3, examples=3, steps=15) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", DATABASES)
def test_any_long_history_adds_up(kind: str, request: pytest.FixtureRequest, quick_folder: Path) -> None:
    assert run_machine(Ledger, kind, request, quick_folder, contents=3, examples=40, steps=60) >= 40
