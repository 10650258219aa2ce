"""Garbage collection at any moment of any number of pushes: while bytes come, while others are told that they need not
send them, while versions with the same bytes are deleted.  Against a model of what must be readable, and of which push
must go through."""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from hub.errors import Conflict, InvalidManifest, UploadNotFound
from hub.registry.rights.access import ANONYMOUS
from tests.registry.conftest import DATABASES
from tests.registry.machines import WorldMachine, run_machine
from tests.registry.world import named

NAMES = ("task/a", "task/b")
CONTENTS = 2
GRACE = timedelta(hours=24)
LIFETIME = timedelta(hours=24)
WAITS = st.sampled_from([timedelta(hours=11), timedelta(hours=23), timedelta(hours=25)])


@dataclass
class Push:
    """One push on its way.  known: when each blob was last sent by it, or said to be there already."""

    name: str
    content: int
    known: dict[str, datetime] = field(default_factory=dict)
    uploads: dict[str, tuple[str, datetime]] = field(default_factory=dict)  # sha256 -> the upload, and since when


class CollectionMachine(WorldMachine):
    @initialize()
    def start(self) -> None:
        self.world = type(self).open_world()
        self.manifests = [self.world.manifest(folder) for folder in self.folders]
        self.bodies = {
            file.sha256: (folder / file.path).read_bytes()
            for folder, manifest in zip(self.folders, self.manifests, strict=True)
            for file in manifest.files
        }
        self.pushes: list[Push] = []
        self.alive: dict[tuple[str, int], int] = {}
        self.finished: set[str] = set()
        # Bytes that were sent and not published yet: what another push is told that it need not send.
        self.ask_what_is_missing(NAMES[0], 0)
        for sha256 in list(self.pushes[0].uploads):
            self.send_one(self.pushes[0], sha256, whole=True)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.clock.forward(days=3)
        self.collect()
        stored = {path.name for path in Path(self.world.context.settings.store).glob("*/*/*")}
        used = {file.sha256 for content in self.alive.values() for file in self.manifests[content].files}
        assert stored == used, "what nothing names goes in the end, and nothing else"
        assert self.world.registry.upkeep.check().ok
        self.world.close()
        shutil.rmtree(self.world.folder)

    @rule(name=st.sampled_from(NAMES), content=st.integers(0, CONTENTS - 1))
    def ask_what_is_missing(self, name: str, content: int) -> None:
        push = Push(name, content)
        self.ask(push)
        self.pushes.append(push)

    def ask(self, push: Push) -> None:
        wanted = [(file.sha256, file.size) for file in self.manifests[push.content].files]
        missing = dict(self.world.registry.blobs.missing(self.world.admin, named(push.name), wanted))
        for sha256, size in wanted:
            if sha256 not in missing:
                push.known[sha256] = self.world.clock.now
                continue
            upload = self.world.registry.uploads.start(self.world.admin, named(push.name), sha256, size)
            push.uploads[sha256] = (upload.id, upload.expires_at - LIFETIME)

    @precondition(lambda self: any(push.uploads for push in self.pushes))
    @rule(data=st.data(), whole=st.booleans())
    def send_bytes(self, data: st.DataObject, whole: bool) -> None:
        push = data.draw(st.sampled_from([push for push in self.pushes if push.uploads]))
        for sha256 in list(push.uploads):
            self.send_one(push, sha256, whole)

    def send_one(self, push: Push, sha256: str, whole: bool) -> None:
        upload_id, began = push.uploads[sha256]
        body = self.bodies[sha256]
        try:
            offset = self.world.registry.uploads.get(self.world.admin, upload_id).offset
            end = len(body) if whole else max(offset, len(body) // 2)
            sent = self.world.registry.uploads.append(self.world.admin, upload_id, offset, io.BytesIO(body[offset:end]))
        except UploadNotFound:
            assert self.world.clock.now - began >= LIFETIME, "an upload lives as long as was said"
            del push.uploads[sha256]
            return
        if sent.done:
            del push.uploads[sha256]
            if upload_id not in self.finished:  # else another push finished it, and its grace counts from there
                push.known[sha256] = self.world.clock.now
            self.finished.add(upload_id)

    @rule(content=st.integers(0, CONTENTS - 1), before=WAITS, between=WAITS)
    def push_slowly(self, content: int, before: timedelta, between: timedelta) -> None:
        """Hours go by, and collections, before it asks, and again before it publishes."""
        self.wait(before, collect=False)
        push = Push(NAMES[0], content)
        self.ask(push)
        self.pushes.append(push)
        self.wait(between, collect=True)
        for sha256 in list(push.uploads):
            self.send_one(push, sha256, whole=True)
        self.collect()
        self.publish_one(push)

    @precondition(lambda self: self.pushes)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        self.publish_one(data.draw(st.sampled_from(self.pushes)))

    def publish_one(self, push: Push) -> None:
        files = {file.sha256 for file in self.manifests[push.content].files}
        fresh = {sha256 for sha256, at in push.known.items() if self.world.clock.now - at <= GRACE}
        try:
            self.publish_now(push)
        except InvalidManifest as error:
            lost = set(error.details["missing"])
            assert not lost & fresh, "collected although its grace was not over"
            assert lost <= files
            self.push_again(push)
        self.pushes.remove(push)

    def publish_now(self, push: Push) -> None:
        manifest = self.manifests[push.content]
        done = self.world.registry.versions.publish(self.world.admin, named(push.name), manifest)
        self.alive[push.name, done.version.number] = push.content

    def push_again(self, push: Push) -> None:
        """What a client does that is told of missing bytes: ask, send, publish."""
        self.ask(push)
        for sha256 in list(push.uploads):
            self.send_one(push, sha256, whole=True)
        self.publish_now(push)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name, number = data.draw(st.sampled_from(sorted(self.alive)))
        try:
            self.world.registry.versions.delete(self.world.admin, named(name), number)
        except Conflict:  # too old to be deleted: it stays
            return
        del self.alive[name, number]

    @rule(time=WAITS, collect=st.booleans())
    def wait(self, time: timedelta, collect: bool) -> None:
        self.world.clock.now += time
        if collect:
            self.collect()

    @rule()
    def collect(self) -> None:
        for path in Path(self.world.context.settings.store).glob("*/*/*"):
            os.utime(path, (1, 1))
        self.world.registry.upkeep.collect(grace=GRACE)

    @precondition(lambda self: hasattr(self, "alive"))
    @invariant()
    def every_version_is_whole(self) -> None:
        for (name, number), content in self.alive.items():
            for path in self.folders[content].iterdir():
                stored = self.world.registry.versions.open_file(ANONYMOUS, named(name).at(number), path.name)
                assert b"".join(stored.open(0, stored.entry.size)) == path.read_bytes()


@pytest.mark.parametrize("kind", DATABASES)
def test_collecting_during_pushes_loses_nothing_that_is_needed(
    kind: str, request: pytest.FixtureRequest, quick_folder: Path
) -> None:
    assert run_machine(CollectionMachine, kind, request, quick_folder, CONTENTS, examples=10, steps=20) >= 10


@pytest.mark.slow
@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("kind", DATABASES)
def test_collecting_during_many_pushes_loses_nothing_that_is_needed(
    kind: str, request: pytest.FixtureRequest, quick_folder: Path
) -> None:
    assert run_machine(CollectionMachine, kind, request, quick_folder, CONTENTS, examples=60, steps=40) >= 60
