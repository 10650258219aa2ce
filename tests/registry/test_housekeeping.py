"""Garbage collection, fsck, backup and restore."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from hub.errors import (
    AdapterNotFound,
    Conflict,
    DigestMismatch,
    FileNotFound,
    IntegrityError,
    InvalidManifest,
    InvalidRequest,
    Unavailable,
)
from hub.registry.context import Context
from hub.registry.db.models import BaseRow, BlobRow, TermChunkRow, VersionFileRow
from hub.registry.rights.access import ANONYMOUS
from hub.registry.service import Registry
from hub.registry.storage.local_store import LocalStore
from hub.registry.upkeep import backup, fsck
from hub.registry.values import Query
from hub.settings import ServerSettings
from tests.registry.conftest import DATABASES, fresh_database
from tests.registry.world import World, named, ref

QA = named("task/qa")
DAY = timedelta(hours=24)


def blob_files(world: World) -> set[str]:
    return {path.name for path in Path(world.context.settings.store).glob("blobs/*/*")}


def age_files(world: World) -> None:
    """Make every stored file older than any grace, by the clock of the file system."""
    for path in Path(world.context.settings.store).rglob("*"):
        if path.is_file():
            os.utime(path, (1, 1))


def contents(world: World, text: str) -> dict[str, bytes]:
    version = world.registry.versions.resolve(world.admin, ref(text))
    return {
        file.path: b"".join(world.registry.versions.open_file(world.admin, ref(text), file.path).open(0, file.size))
        for file in version.manifest.files
    }


# Garbage collection ------------------------------------------------------------------------------------------------


def test_gc_takes_what_nothing_named_for_its_grace_and_nothing_else(world: World) -> None:
    world.push("task/qa")
    named_by_versions = blob_files(world)
    lonely = world.put("task/qa", b"nobody publishes this")
    assert world.registry.upkeep.collect(grace=DAY).blobs == 0
    world.clock.forward(hours=25)
    age_files(world)
    looked = world.registry.upkeep.collect(grace=DAY, dry_run=True)
    assert (looked.blobs, looked.bytes) == (1, len(b"nobody publishes this"))
    assert lonely in blob_files(world)
    assert world.registry.upkeep.collect(grace=DAY).blobs == 1
    assert blob_files(world) == named_by_versions
    assert world.registry.upkeep.check().ok


def test_being_told_that_a_blob_is_there_begins_its_grace_anew(world: World) -> None:
    """Between `missing_blobs` and the publish that relies on it, nothing may be collected."""
    folder = world.adapter()
    manifest = world.manifest(folder)
    world.send(world.admin, "task/qa", folder, manifest.files)
    world.clock.forward(hours=25)
    age_files(world)
    wanted = [(file.sha256, file.size) for file in manifest.files]
    assert world.registry.blobs.missing(world.admin, QA, wanted) == ()
    assert world.registry.upkeep.collect(grace=DAY).blobs == 0
    assert world.registry.versions.publish(world.admin, QA, manifest).created


def test_deleted_version_lets_go_of_its_files_after_the_grace(world: World) -> None:
    world.push("task/qa", seed=1)
    kept = blob_files(world)
    world.push("task/qa", seed=2)
    world.registry.versions.delete(world.admin, QA, 2)
    assert world.registry.upkeep.collect(grace=DAY).blobs == 0
    world.clock.forward(hours=25)
    age_files(world)
    assert world.registry.upkeep.collect(grace=DAY).blobs == 1, "adapter_config.json is v1's too"
    assert blob_files(world) == kept
    assert world.registry.upkeep.check().ok


def test_drafts_keep_their_files(world: World) -> None:
    first = world.commit("task/qa", {"README.md": world.put("task/qa", b"# old\n")})
    world.commit("task/qa", {"README.md": world.put("task/qa", b"# new\n")})
    world.clock.forward(days=13)
    age_files(world)
    assert world.registry.upkeep.collect(grace=DAY).blobs == 0
    assert b"".join(world.registry.commits.open_file(world.admin, QA, first.id, "README.md").open(0, 9)) == b"# old\n"
    world.clock.forward(days=2)
    assert world.registry.upkeep.collect(grace=DAY).blobs == 2, "nobody has gone on with the draft"


def test_file_that_no_row_names_is_collected_once_it_is_old(world: World) -> None:
    world.push("task/qa")
    store = world.context.store
    store.keep(store.stage(io.BytesIO(b"left by a crash"), None, 15, 16))
    world.clock.now = datetime.now(UTC)  # files have the system's time
    assert world.registry.upkeep.collect(grace=DAY).orphans == 0
    age_files(world)
    assert world.registry.upkeep.collect(grace=DAY).orphans == 1
    assert world.registry.upkeep.check().ok


def test_upload_of_a_blob_that_gc_is_taking_is_never_lost(world: World) -> None:
    """Uploads and collections of the same few blobs, all at once: after each upload its blob is there."""
    world.clock.now = datetime.now(UTC)  # by any other clock, uploads on their way look abandoned to gc
    bodies = [bytes([number]) * 100 for number in range(3)]
    stop = threading.Event()
    failures: list[str] = []
    sent: list[str] = []

    def collect() -> None:
        while not stop.is_set():
            world.registry.upkeep.collect(grace=timedelta(seconds=-3600))

    def is_half_there(session: Session, sha256: str) -> bool:
        """Whether there is a row without its bytes.  Under the row's lock, gc is not between the two."""
        row = session.get(BlobRow, sha256, with_for_update=True)
        return row is not None and world.context.store.size(sha256) is None

    def send(body: bytes) -> None:
        for _ in range(12):
            sha256 = world.put("task/qa", body)
            sent.append(sha256)
            # gc may have taken both since.
            if world.context.database.transact(partial(is_half_there, sha256=sha256)):
                failures.append(sha256)

    with ThreadPoolExecutor(1 + len(bodies)) as pool:
        collector = pool.submit(collect)
        try:
            for sender in [pool.submit(send, body) for body in bodies]:
                sender.result()
        finally:
            stop.set()
    collector.result()
    assert failures == []
    assert len(sent) == 12 * len(bodies), "no upload fails because of gc"
    assert world.registry.upkeep.check().ok


def test_a_blob_that_gc_is_taking_is_asked_for_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks what is missing while gc deletes waits for it to end, and is not told that the blob is there."""
    sha256 = world.put("task/qa", b"unnamed")
    world.clock.forward(days=2)
    deleting, go_on, delete = threading.Event(), threading.Event(), LocalStore.delete

    def delete_slowly(store: LocalStore, sha256: str) -> None:
        delete(store, sha256)
        deleting.set()
        assert go_on.wait(60)

    monkeypatch.setattr(LocalStore, "delete", delete_slowly)
    wanted = [(sha256, 7)]
    with ThreadPoolExecutor(2) as pool:
        collector = pool.submit(world.registry.upkeep.collect)
        try:
            assert deleting.wait(60)
            asked = pool.submit(world.registry.blobs.missing, world.admin, named("task/qa"), wanted)
            with pytest.raises(TimeoutError):
                asked.result(timeout=0.5)
        finally:
            go_on.set()
        assert collector.result().blobs == 1
        assert list(asked.result()) == wanted


def test_a_blob_that_can_not_be_removed_keeps_no_other_and_no_row_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = sorted(world.put("task/qa", bytes([number]) * 10) for number in range(3))
    world.clock.forward(days=2)
    delete_file, stuck = LocalStore.delete, [sent[1]]

    def delete_if_possible(store: LocalStore, sha256: str) -> None:
        if sha256 in stuck:
            raise Unavailable("The store's disk failed (EIO).")
        delete_file(store, sha256)

    monkeypatch.setattr(LocalStore, "delete", delete_if_possible)
    with pytest.raises(Unavailable, match=r"1 blobs could not be removed: The store's disk failed.*removed 2 blobs"):
        world.registry.upkeep.collect(grace=DAY)
    assert blob_files(world) == {sent[1]}
    assert world.registry.upkeep.check().ok
    stuck.clear()
    assert world.registry.upkeep.collect(grace=DAY).blobs == 1
    assert blob_files(world) == set()


def test_a_store_that_takes_no_deletion_is_not_asked_for_everything(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        world.put("task/qa", bytes([number]) * 10)
    world.clock.forward(days=2)
    asked: list[str] = []

    def fail(_: LocalStore, sha256: str) -> None:
        asked.append(sha256)
        raise Unavailable("The store does not answer.")

    monkeypatch.setattr(LocalStore, "delete", fail)
    with pytest.raises(Unavailable, match="does not answer"):
        world.registry.upkeep.collect(grace=DAY)
    assert len(asked) == 3
    assert world.registry.upkeep.check().ok


@pytest.mark.parametrize("path", ["README.md", "adapter_model.safetensors", "adapter_config.json"])
def test_bytes_of_a_commit_that_are_gone_and_that_nothing_names_can_be_sent_again(world: World, path: str) -> None:
    folder = world.adapter(readme="# Card\n")
    manifest = world.manifest(folder)
    tree = {file.path: file.sha256 for file in manifest.files}
    world.send(world.admin, "task/qa", folder, manifest.files)
    world.context.store.delete(tree[path])
    with pytest.raises(InvalidManifest, match="push again"):
        world.commit("task/qa", tree)
    world.send(world.admin, "task/qa", folder, manifest.files)
    assert world.commit("task/qa", tree).version == 1
    assert world.registry.upkeep.check().ok


def test_bytes_that_are_gone_and_that_nothing_names_can_be_sent_again(world: World) -> None:
    """A collection that was killed after it deleted the bytes, before its transaction ended."""
    folder = world.adapter()
    manifest = world.manifest(folder)
    world.send(world.admin, "task/qa", folder, manifest.files)
    lost = manifest.files[-1]
    world.context.store.delete(lost.sha256)
    with pytest.raises(InvalidManifest, match="push again") as caught:
        world.registry.versions.publish(world.admin, QA, manifest)
    assert caught.value.details["missing"] == [lost.sha256]
    assert world.push("task/qa", folder).version.number == 1
    assert world.registry.upkeep.check().ok


def test_bytes_of_a_version_that_are_gone_stay_a_matter_for_fsck(world: World) -> None:
    folder = world.adapter()
    manifest = world.push("task/qa", folder).version.manifest
    world.context.store.delete(manifest.files[-1].sha256)
    with pytest.raises(FileNotFound, match="lorahub fsck"):
        world.push("task/other", folder)
    assert [problem.kind for problem in world.registry.upkeep.check().problems] == ["missing"]


# fsck --------------------------------------------------------------------------------------------------------------


def damage(world: World, sha256: str, data: bytes) -> None:
    path = Path(world.context.store.path(sha256) or "")
    path.chmod(0o644)
    path.write_bytes(data)


def test_fsck_finds_nothing_wrong_with_a_sound_registry(world: World) -> None:
    world.push("task/qa", seed=1)
    world.commit("task/d", {"README.md": world.put("task/d", b"# x\n")})
    report = world.registry.upkeep.check()
    assert report.ok
    assert (report.blobs, report.versions) == (3, 1)


def test_fsck_takes_nothing_that_is_just_being_stored_for_an_orphan(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is in its place, and its row comes before the check is over."""
    store, check_index = world.context.store, fsck._check_index
    store.keep(store.stage(io.BytesIO(b"being stored"), None, 12, 13))

    def store_meanwhile(context: Context) -> Iterator[fsck.Problem]:
        world.put("task/qa", b"being stored")
        return check_index(context)

    monkeypatch.setattr(fsck, "_check_index", store_meanwhile)
    assert world.registry.upkeep.check().ok


def test_fsck_names_a_flipped_byte_a_short_file_and_a_missing_one_with_who_uses_them(world: World) -> None:
    manifest = world.push("task/qa", world.adapter(readme="# Card\n")).version.manifest
    weights, config, readme = (
        next(file.sha256 for file in manifest.files if file.path == path)
        for path in ("adapter_model.safetensors", "adapter_config.json", "README.md")
    )
    data = Path(world.context.store.path(weights) or "").read_bytes()
    damage(world, weights, data[:-1] + bytes([data[-1] ^ 1]))
    damage(world, config, b"{}")
    Path(world.context.store.path(readme) or "").unlink()
    found = {problem.what: problem for problem in world.registry.upkeep.check().problems}
    assert {sha256: problem.kind for sha256, problem in found.items()} == {
        weights: "corrupt",
        config: "size",
        readme: "missing",
    }
    assert found[weights].used_by == ("task/qa@v1:adapter_model.safetensors",)
    assert weights not in {problem.what for problem in world.registry.upkeep.check(rehash=False).problems}


def test_fsck_repairs_orphans_and_only_orphans(world: World) -> None:
    manifest = world.push("task/qa").version.manifest
    store = world.context.store
    store.keep(store.stage(io.BytesIO(b"left by a crash"), None, 15, 16))
    damage(world, manifest.files[0].sha256, b"damaged")
    before = blob_files(world)
    assert {problem.kind for problem in world.registry.upkeep.check().problems} == {"orphan", "size"}
    report = world.registry.upkeep.check(repair=True)
    assert (report.repaired, [problem.kind for problem in report.problems]) == (1, ["size"])
    assert len(before - blob_files(world)) == 1


def test_fsck_sees_rows_that_contradict_each_other(world: World) -> None:
    version = world.push("task/qa").version
    with world.context.database.write() as session:
        session.execute(
            delete(VersionFileRow).where(
                VersionFileRow.version_id == version.id, VersionFileRow.path == "adapter_config.json"
            )
        )
        session.execute(update(TermChunkRow).values(bits=session.scalar(select(TermChunkRow.bits)) or b""))
        session.execute(delete(TermChunkRow))
    kinds = {problem.kind for problem in world.registry.upkeep.check().problems}
    assert kinds == {"files", "index"}


# Backup and restore ------------------------------------------------------------------------------------------------


def restored(world: World, folder: Path, kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> World:
    place = tmp_path / f"restored-{kind}"
    place.mkdir()
    settings = ServerSettings(place, fresh_database(kind, request, place), str(place / "store"))
    registry = Registry.open(settings)
    registry.context = replace(registry.context, now=world.clock)
    backup.restore(registry.context, str(folder))
    return World(registry, world.clock, place, world.admin)


@pytest.mark.parametrize("target", DATABASES)
def test_backup_restores_into_either_database(
    world: World, target: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    secret = world.registry.tokens.create(world.admin, "kept", ["read", "publish", "admin"]).secret
    world.push("task/qa", world.adapter(seed=1, readme="---\nlicense: mit\n---\n"), alias="prod")
    world.push("task/qa", seed=2, trained_from=["task/qa@v1"])
    world.push("vault/secret", seed=3, private=True)
    world.commit("task/d", {"README.md": world.put("task/d", b"# x\n")})
    world.registry.metrics.set(world.admin, QA, 1, "accuracy", 0.5)
    world.registry.upkeep.backup(str(tmp_path / "backup"))
    copy = restored(world, tmp_path / "backup", target, request, tmp_path)
    try:
        assert copy.registry.upkeep.check().ok
        for text in ("task/qa@v1", "task/qa@prod", "task/qa", "vault/secret"):
            assert contents(copy, text) == contents(world, text)
            ours, theirs = (w.registry.versions.resolve(world.admin, ref(text)) for w in (world, copy))
            assert theirs == ours
        assert copy.registry.tokens.authenticate(secret).user == "admin"
        assert copy.registry.audit.list(world.admin) == world.registry.audit.list(world.admin)
        query = Query(text="qa", having={"license": ("mit",)})
        assert (
            copy.registry.adapters.search(ANONYMOUS, query).facets
            == world.registry.adapters.search(ANONYMOUS, query).facets
        )
        with pytest.raises(AdapterNotFound):
            copy.registry.versions.resolve(ANONYMOUS, ref("vault/secret"))
        assert copy.push("task/qa", seed=9).version.number == 3, "numbers and ids go on behind the restored ones"
    finally:
        copy.close()


@pytest.mark.parametrize("target", DATABASES)
def test_a_base_whose_parent_comes_much_later_is_restored(
    world: World, target: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """More bases than one page of a backup holds, the first a copy of the last."""
    with world.context.database.write() as session:
        rows = [BaseRow(name=f"many/base-{number}", created_at=world.clock.now) for number in range(1_200)]
        session.add_all(rows)
        session.flush()
        rows[0].parent_id = rows[-1].id
    world.registry.upkeep.backup(str(tmp_path / "backup"))
    copy = restored(world, tmp_path / "backup", target, request, tmp_path)
    try:
        with copy.context.database.read() as session:
            first = session.scalar(select(BaseRow).where(BaseRow.name == "many/base-0"))
            assert first is not None
            parent = session.get(BaseRow, first.parent_id)
            assert parent is not None
            assert parent.name == "many/base-1199"
    finally:
        copy.close()


@pytest.mark.parametrize("harm", ["gone", "cut short"])
def test_a_backup_that_lacks_a_blob_is_no_backup(
    world: World, tmp_path: Path, harm: str, request: pytest.FixtureRequest, database_kind: str
) -> None:
    world.push("task/qa", seed=1)
    world.registry.upkeep.backup(str(tmp_path / "backup"))
    blob = next(path for path in sorted((tmp_path / "backup" / "blobs").rglob("*")) if path.is_file())
    if harm == "gone":
        blob.unlink()
    else:
        blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=blob.name):
        restored(world, tmp_path / "backup", database_kind, request, tmp_path)
    assert not [path for path in (tmp_path / f"restored-{database_kind}" / "store").rglob("*") if path.is_file()]


def test_backup_during_writes_restores_and_passes_fsck(
    world: World, tmp_path: Path, request: pytest.FixtureRequest, database_kind: str
) -> None:
    for seed in range(3):
        world.push("task/qa", seed=seed)
    folders = [world.adapter(seed=100 + number) for number in range(12)]
    started, stop = threading.Event(), threading.Event()
    pushed: list[int] = []

    def keep_pushing() -> None:
        for folder in folders:
            pushed.append(world.push("task/qa", folder).version.number)
            started.set()
            if stop.is_set():
                return

    writer = threading.Thread(target=keep_pushing)
    writer.start()
    started.wait(30)
    world.registry.upkeep.backup(str(tmp_path / "backup"))
    stop.set()
    writer.join()
    copy = restored(world, tmp_path / "backup", database_kind, request, tmp_path)
    try:
        assert copy.registry.upkeep.check().ok
        numbers = [version.number for version in copy.registry.versions.list(world.admin, QA)]
        assert numbers == list(range(len(numbers), 0, -1)), "all versions up to one moment, none missing"
        assert len(numbers) >= 3
    finally:
        copy.close()


def test_backup_keeps_collection_off_what_it_has_still_to_copy(
    world: World, tmp_path: Path, database_kind: str, request: pytest.FixtureRequest
) -> None:
    """Blobs that nobody needs any more are in the tables too, and must be there until they are copied."""
    for number in range(4):
        world.put("task/qa", bytes([number]) * 10)
    world.push("task/deleted", seed=3)
    world.registry.versions.delete(world.admin, named("task/deleted"), 1)
    world.clock.forward(days=2)
    collected: list[int] = []
    report = backup.write(
        world.context,
        str(tmp_path / "backup"),
        lambda _: collected.append(world.registry.upkeep.collect(grace=DAY).blobs),
    )
    assert collected == [0] * report.blobs
    copy = restored(world, tmp_path / "backup", database_kind, request, tmp_path)
    assert copy.registry.upkeep.check().ok
    copy.close()


def test_damaged_or_unfinished_backup_is_refused_and_leaves_nothing(world: World, tmp_path: Path) -> None:
    world.push("task/qa")
    folder = tmp_path / "backup"
    world.registry.upkeep.backup(str(folder))
    with pytest.raises(Conflict, match="not empty"):
        world.registry.upkeep.backup(str(folder))
    with pytest.raises(Conflict, match="not empty"):
        backup.restore(world.context, str(folder))
    place = tmp_path / "empty"
    registry = Registry.open(ServerSettings(place, f"sqlite:///{place / 'r.sqlite3'}", str(place / "store")))
    table = folder / "tables" / "versions.jsonl"
    good = table.read_bytes()
    table.write_bytes(good.replace(b"task", b"tusk").replace(b"v1", b"v9") + b"[]\n")
    with pytest.raises(IntegrityError):
        backup.restore(registry.context, str(folder))
    table.write_bytes(good)
    blob = next(folder.glob("blobs/*/*"))
    kept = blob.read_bytes()
    blob.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(DigestMismatch):
        backup.restore(registry.context, str(folder))
    blob.write_bytes(kept)
    (folder / "backup.json").rename(folder / "later.json")
    with pytest.raises(InvalidRequest, match="finished"):
        backup.restore(registry.context, str(folder))
    assert registry.users.list(world.admin) == ()
    (folder / "later.json").rename(folder / "backup.json")
    assert backup.restore(registry.context, str(folder)).blobs == 2
    registry.close()


def test_backup_of_a_damaged_store_is_no_backup(world: World, tmp_path: Path) -> None:
    manifest = world.push("task/qa").version.manifest
    assert isinstance(world.context.store, LocalStore)
    damage(world, manifest.files[0].sha256, b"x" * manifest.files[0].size)
    with pytest.raises(DigestMismatch, match="fsck"):
        world.registry.upkeep.backup(str(tmp_path / "backup"))
    assert not (tmp_path / "backup" / "backup.json").exists()
