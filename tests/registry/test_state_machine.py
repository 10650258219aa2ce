"""Any sequence of push, alias, yank, delete, draft and collection, against a model of what must be readable."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from hub.errors import AliasNotFound, Conflict, NotFound, VersionNotFound
from hub.registry.rights.access import ANONYMOUS
from hub.registry.values import Query
from tests.registry.conftest import DATABASES
from tests.registry.machines import WorldMachine, run_machine
from tests.registry.world import named

NAMES = ("task/a", "task/b")
CONTENTS = 4
DAY = timedelta(hours=24)


@dataclass
class Model:
    """What one adapter must look like."""

    count: int = 0
    content: dict[int, int] = field(default_factory=dict)  # number -> which of the few contents; the alive ones
    born: dict[int, float] = field(default_factory=dict)
    yanked: set[int] = field(default_factory=set)
    aliases: dict[str, int] = field(default_factory=dict)

    @property
    def latest(self) -> int | None:
        good = set(self.content) - self.yanked
        return max(good) if good else None


class RegistryMachine(WorldMachine):
    @initialize()
    def start(self) -> None:
        self.world = type(self).open_world()
        self.models = {name: Model() for name in NAMES}

    def teardown(self) -> None:
        if hasattr(self, "world"):
            assert self.world.registry.upkeep.check().problems == ()
            self.world.close()
            shutil.rmtree(self.world.folder)

    @property
    def now(self) -> float:
        return self.world.clock.now.timestamp()

    @rule(name=st.sampled_from(NAMES), content=st.integers(0, CONTENTS - 1))
    def push(self, name: str, content: int) -> None:
        model = self.models[name]
        same = [number for number, held in model.content.items() if held == content]
        done = self.world.push(name, self.folders[content])
        if same:
            assert (done.created, done.version.number) == (False, max(same))
            return
        model.count += 1
        assert (done.created, done.version.number) == (True, model.count), "numbers only grow, deletes or not"
        model.content[model.count] = content
        model.born[model.count] = self.now

    @rule(name=st.sampled_from(NAMES), alias=st.sampled_from(["prod", "beta"]), number=st.integers(1, 6))
    def move_alias(self, name: str, alias: str, number: int) -> None:
        model = self.models[name]
        before = model.aliases.get(alias)
        try:
            self.world.registry.aliases.set(self.world.admin, named(name), alias, number, expected=before)
        except NotFound:
            assert number not in model.content
        except Conflict:
            assert number in model.yanked
        else:
            assert number in model.content
            assert number not in model.yanked
            model.aliases[alias] = number

    @rule(name=st.sampled_from(NAMES), number=st.integers(1, 6), undo=st.booleans())
    def yank(self, name: str, number: int, undo: bool) -> None:
        model = self.models[name]
        try:
            if undo:
                self.world.registry.versions.unyank(self.world.admin, named(name), number)
                model.yanked.discard(number)
            else:
                self.world.registry.versions.yank(self.world.admin, named(name), number, "because")
                model.yanked.add(number)
        except NotFound:
            assert number not in model.content

    @rule(name=st.sampled_from(NAMES), number=st.integers(1, 6))
    def delete(self, name: str, number: int) -> None:
        model = self.models[name]
        try:
            self.world.registry.versions.delete(self.world.admin, named(name), number)
        except NotFound:
            assert number not in model.content
        except Conflict:
            assert number in model.aliases.values() or self.now - model.born[number] > 72 * 3600
        else:
            del model.content[number]
            model.yanked.discard(number)

    @rule(content=st.integers(0, CONTENTS - 1))
    def send_bytes_that_nobody_publishes(self, content: int) -> None:
        for path in self.folders[content].iterdir():
            self.world.put("task/c", path.read_bytes())

    @rule(hours=st.sampled_from([1, 25, 80]))
    def wait(self, hours: int) -> None:
        self.world.clock.forward(hours=hours)

    @rule()
    def collect(self) -> None:
        for path in Path(self.world.context.settings.store).glob("*/*/*"):
            os.utime(path, (1, 1))
        self.world.registry.upkeep.collect(grace=DAY)

    @precondition(lambda self: hasattr(self, "models"))
    @invariant()
    def everything_that_must_be_readable_is(self) -> None:
        for name, model in self.models.items():
            if not model.count:
                continue
            shown = {version.number for version in self.world.registry.versions.list(ANONYMOUS, named(name))}
            assert shown == set(model.content)
            for number, content in model.content.items():
                self.assert_content(name, number, content)
            self.assert_names(name, model)
        alive = sum(bool(model.content) for model in self.models.values())
        assert self.world.registry.adapters.search(ANONYMOUS, Query()).total == alive

    def assert_content(self, name: str, number: int, content: int) -> None:
        for path in self.folders[content].iterdir():
            stored = self.world.registry.versions.open_file(ANONYMOUS, named(name).at(number), path.name)
            data = b"".join(stored.open(0, stored.entry.size))
            assert hashlib.sha256(data).hexdigest() == stored.entry.sha256
            assert data == path.read_bytes()

    def assert_names(self, name: str, model: Model) -> None:
        try:
            latest = self.world.registry.versions.resolve(ANONYMOUS, named(name).at("latest")).number
        except VersionNotFound:
            latest = None
        assert latest == model.latest
        for alias in ("prod", "beta"):
            try:
                found = self.world.registry.versions.resolve(ANONYMOUS, named(name).at(alias)).number
            except AliasNotFound:
                found = None
            assert found == model.aliases.get(alias)


@pytest.mark.parametrize("kind", DATABASES)
def test_a_few_sequences_keep_what_must_be_readable(
    kind: str, request: pytest.FixtureRequest, quick_folder: Path
) -> None:
    assert run_machine(RegistryMachine, kind, request, quick_folder, CONTENTS, examples=6, steps=15) >= 6


@pytest.mark.slow
@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("kind", DATABASES)
def test_many_sequences_keep_what_must_be_readable(
    kind: str, request: pytest.FixtureRequest, quick_folder: Path
) -> None:
    assert run_machine(RegistryMachine, kind, request, quick_folder, CONTENTS, examples=80, steps=40) >= 80
