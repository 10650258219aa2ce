"""Layer maps and differences: the right numbers, computed once, for what may be read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from hub.errors import Gated, HubError
from hub.refs import AdapterName, AdapterRef
from hub.registry.rights.access import ANONYMOUS
from hub.registry.service import Actor, Registry
from hub.registry.values import StoredFile, Version
from hub.settings import ServerSettings
from hub.web.catalog.pages import insight
from hub.web.catalog.pages.insight import Insights, StoredContent
from tests.catalog.seeds import Publisher

QA = AdapterName.parse("task/qa")


class World:
    """One registry with two versions of task/qa, and how often its files were read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = Registry.open(ServerSettings.from_env({}, data=folder / "data"))
        made = self.registry.users.first_start()
        assert made is not None
        self.actor: Actor = self.registry.tokens.authenticate(made.secret)
        self.registry.namespaces.create(self.actor, "task")
        publisher = Publisher(self.registry, self.actor, folder / "adapters")
        publisher.push("task/qa", rank=4, alpha=8)
        publisher.push("task/qa", rank=4, alpha=12)
        self.reads = 0

    @property
    def versions(self) -> World:
        """Stand in for the registry whose reads are counted."""
        return self

    def open_file(self, *args: Any) -> StoredFile:
        stored = self.registry.versions.open_file(*args)

        def read(start: int, stop: int) -> Iterator[bytes]:
            self.reads += 1
            return stored.open(start, stop)

        return replace(stored, open=read)

    def version(self, number: int) -> Version:
        return self.registry.versions.resolve(self.actor, QA.at(number))

    def updates(self, number: int) -> dict[str, Any]:
        """Return ΔW of every module, built as the paper writes it: an independent way to the numbers."""
        tensors = load_file(self.folder / "adapters" / str(number) / "adapter_model.safetensors")
        config = json.loads((self.folder / "adapters" / str(number) / "adapter_config.json").read_text())
        found = {}
        for name, a in tensors.items():
            if name.endswith(".lora_A.weight"):
                b = tensors[name.replace("lora_A", "lora_B")]
                module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                found[module] = config["lora_alpha"] / config["r"] * (b.astype(np.float64) @ a.astype(np.float64))
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("insight"))
    yield world
    world.registry.close()


@pytest.fixture
def world(made: World) -> World:
    made.reads = 0
    return made


def test_norms_are_those_of_the_whole_update(world: World, tmp_path: Path) -> None:
    view = Insights(tmp_path).layers(world.registry, world.actor, world.version(1))
    updates = world.updates(1)
    assert {row.module for row in view.rows} == set(updates)
    for row in view.rows:
        assert row.norm == pytest.approx(np.linalg.norm(updates[row.module]), rel=1e-5)
        assert 0 < row.effective_rank <= row.rank == 4


def test_cosines_are_those_of_the_whole_updates(world: World, tmp_path: Path) -> None:
    view = Insights(tmp_path).changes(world.registry, world.actor, world.version(1), world.version(2))
    before, after = world.updates(1), world.updates(2)
    for move in view.rows:
        a, b = before[move.module].ravel(), after[move.module].ravel()
        assert move.cosine == pytest.approx(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), abs=1e-5)
    a, b = (np.concatenate([updates[name].ravel() for name in sorted(updates)]) for updates in (before, after))
    assert view.mean_cosine == pytest.approx(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), abs=1e-5)
    assert [field.name for field in view.fields] == ["lora_alpha"]
    assert (view.compared, view.changed) == (4, 4)


def test_a_version_compared_with_itself_has_not_moved(world: World, tmp_path: Path) -> None:
    view = Insights(tmp_path).changes(world.registry, world.actor, world.version(1), world.version(1))
    assert (view.changed, view.fields, view.files, view.tensors) == (0, (), (), ())
    assert view.mean_cosine == pytest.approx(1.0)


def test_numbers_are_computed_once_and_outlive_the_process(world: World, tmp_path: Path) -> None:
    first = Insights(tmp_path).layers(world, world.actor, world.version(1))  # type: ignore[arg-type]
    assert world.reads == 2  # config and weights
    again = Insights(tmp_path)
    assert again.layers(world, world.actor, world.version(1)) == first  # type: ignore[arg-type]
    assert again.layers(world, world.actor, world.version(1)) == first  # type: ignore[arg-type]
    assert world.reads == 2


@pytest.fixture
def gated(world: World) -> Iterator[World]:
    world.registry.adapters.update(world.actor, QA, gated=True)
    yield world
    world.registry.adapters.update(world.actor, QA, gated=False)


def test_what_a_member_has_seen_of_a_gated_adapter_is_shown_to_no_one_else(gated: World, tmp_path: Path) -> None:
    warm = Insights(tmp_path)
    assert warm.layers(gated.registry, gated.actor, gated.version(1)).rows
    assert warm.changes(gated.registry, gated.actor, gated.version(1), gated.version(2)).rows
    for insights in (warm, Insights(tmp_path)):  # in memory, and on the disk
        layers = insights.layers(gated.registry, ANONYMOUS, gated.version(1))
        assert (layers.rows, layers.chart) == ((), None)
        assert "gated" in layers.note
        changes = insights.changes(gated.registry, ANONYMOUS, gated.version(1), gated.version(2))
        assert (changes.rows, changes.mean_cosine) == ((), None)
        assert "gated" in changes.note


@pytest.mark.parametrize("closed", [1, 2])
def test_a_difference_is_shown_to_those_who_may_read_both_versions(world: World, tmp_path: Path, closed: int) -> None:
    def open_file(actor: Actor, ref: AdapterRef, path: str) -> StoredFile:
        if ref.version == closed:
            raise Gated(f"v{closed} is gated")
        return world.registry.versions.open_file(actor, ref, path)

    insights, pair = Insights(tmp_path), (world.version(1), world.version(2))
    assert insights.changes(world.registry, world.actor, *pair).rows
    half = SimpleNamespace(versions=SimpleNamespace(open_file=open_file))
    found = insights.changes(half, world.actor, *pair)  # type: ignore[arg-type]
    assert (found.rows, found.mean_cosine) == ((), None)
    assert "gated" in found.note


def test_a_kept_file_that_is_damaged_is_computed_again(world: World, tmp_path: Path) -> None:
    first = Insights(tmp_path).layers(world.registry, world.actor, world.version(1))
    (kept,) = tmp_path.iterdir()
    kept.write_text('[["model', "utf-8")
    assert Insights(tmp_path).layers(world.registry, world.actor, world.version(1)) == first
    assert json.loads(kept.read_text())


def test_a_folder_that_cannot_be_written_costs_only_the_keeping(world: World, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert Insights(blocked / "below").layers(world.registry, world.actor, world.version(1)).rows


def test_weights_in_an_object_store_are_read_in_a_few_requests(world: World, tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    def open_counted(actor: Actor, ref: Any, path: str) -> StoredFile:
        stored = world.registry.versions.open_file(actor, ref, path)

        def fetch(start: int, stop: int) -> Iterator[bytes]:
            asked.append((start, stop))
            return stored.open(start, stop)

        return replace(stored, open=fetch)

    store = SimpleNamespace(versions=SimpleNamespace(open_file=open_counted))
    view = Insights(tmp_path).layers(store, world.actor, world.version(1))  # type: ignore[arg-type]
    assert len(view.rows) == 4  # eight tensors
    assert len(asked) == 2  # config and weights, each in one piece


def test_reading_ahead_gives_the_bytes_that_were_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insight, "READ_AHEAD_BYTES", 100)
    stored = world.registry.versions.open_file(world.actor, QA.at(1), "adapter_model.safetensors")
    whole, content = b"".join(stored.open(0, stored.entry.size)), StoredContent(stored)
    for offset, size in [(0, 8), (8, 50), (40, 60), (90, 300), (5, 5), (stored.entry.size - 3, 50), (0, 10**9)]:
        assert content.read(offset, size) == whole[offset : offset + size]


def test_weights_over_the_limit_are_not_read(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insight, "MAX_WEIGHTS_BYTES", 100)
    view = Insights(tmp_path).layers(world, world.actor, world.version(1))  # type: ignore[arg-type]
    assert view.chart is None
    assert "up to 100 B" in view.note
    changes = Insights(tmp_path).changes(world, world.actor, world.version(1), world.version(2))  # type: ignore[arg-type]
    assert changes.note
    assert changes.fields
    assert world.reads == 0


def test_only_one_version_is_read_at_a_time(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insight, "WAIT_SECONDS", 0.05)
    started, finish = threading.Event(), threading.Event()

    def slow(files: Any) -> list[Any]:
        started.set()
        assert finish.wait(30)
        return []

    monkeypatch.setattr(insight, "_measure", slow)
    insights = Insights(tmp_path)
    thread = threading.Thread(target=insights.layers, args=(world.registry, world.actor, world.version(1)))
    thread.start()
    assert started.wait(30)
    view = insights.layers(world.registry, world.actor, world.version(2))
    finish.set()
    thread.join(30)
    assert "busy" in view.note


def test_weights_that_cannot_be_measured_leave_a_note(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(files: Any) -> list[Any]:
        raise HubError("These weights are of another kind.")

    monkeypatch.setattr(insight, "_measure", refuse)
    view = Insights(tmp_path).layers(world.registry, world.actor, world.version(1))
    assert view.note == "These weights are of another kind."
    assert not list(tmp_path.iterdir())


def test_the_oldest_files_go_when_there_are_too_many(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insight, "MAX_KEPT_FILES", 20)
    for index in range(20):
        (tmp_path / f"old-{index}").write_text("{}")
    Insights(tmp_path).layers(world.registry, world.actor, world.version(1))
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) < 20
    assert any(name.startswith("layers-") for name in names)
