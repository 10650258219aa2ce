"""Layer maps, differences, counts and cards: the right values, made once, for what may be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
from safetensors.numpy import load_file

from hub.errors import Gated, HubError
from hub.refs import AdapterName, AdapterRef
from hub.registry.rights.access import ANONYMOUS
from hub.registry.service import Actor, Registry
from hub.registry.storage.local_store import LocalStore
from hub.registry.values import StoredFile, Version
from hub.settings import ServerSettings
from hub.web.app import create_app
from hub.web.catalog.pages.changes import ChangesView
from hub.web.catalog.pages.insight import NOT_YET, Insights
from hub.web.catalog.recipes import RECIPES, layers
from tests.catalog.seeds import PIXEL, Publisher

QA = AdapterName.parse("task/qa")


class World:
    """One registry with two versions of task/qa, whose values are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = Registry.open(ServerSettings.from_env({}, data=folder / "data"))
        made = self.registry.users.first_start()
        assert made is not None
        self.actor: Actor = self.registry.tokens.authenticate(made.secret)
        self.registry.namespaces.create(self.actor, "task")
        self.publisher = Publisher(self.registry, self.actor, folder / "adapters")
        self.publisher.push("task/qa", rank=4, alpha=8)
        self.publisher.push("task/qa", rank=4, alpha=12)
        self.deriving = self.registry.derived.deriving(RECIPES)
        self.deriving.finish()

    def version(self, number: int, name: AdapterName = QA) -> Version:
        return self.registry.versions.resolve(self.actor, name.at(number))

    def insights(self, actor: Actor | None = None) -> Insights:
        return Insights(self.registry, actor or self.actor)

    def changes(self, before: int, after: int) -> ChangesView:
        """Ask as a page does, and once more when the value was made."""
        self.insights().changes(self.version(before), self.version(after))
        self.deriving.finish()
        return self.insights().changes(self.version(before), self.version(after))

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
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("insight"))
    yield world
    world.deriving.close()
    world.registry.close()


def test_norms_are_those_of_the_whole_update(world: World) -> None:
    view = world.insights().layers(world.version(1))
    updates = world.updates(1)
    assert {row.module for row in view.rows} == set(updates)
    for row in view.rows:
        assert row.norm == pytest.approx(np.linalg.norm(updates[row.module]), rel=1e-5)
        assert row.effective_rank is not None
        assert 0 < row.effective_rank <= row.rank == 4


def test_cosines_are_those_of_the_whole_updates(world: World) -> None:
    view = world.changes(1, 2)
    before, after = world.updates(1), world.updates(2)
    for move in view.rows:
        a, b = before[move.module].ravel(), after[move.module].ravel()
        assert move.cosine == pytest.approx(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), abs=1e-5)
    a, b = (np.concatenate([updates[name].ravel() for name in sorted(updates)]) for updates in (before, after))
    assert view.mean_cosine == pytest.approx(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), abs=1e-5)
    assert [field.name for field in view.fields] == ["lora_alpha"]
    assert (view.compared, view.changed) == (4, 4)


def test_a_version_compared_with_itself_has_not_moved(world: World) -> None:
    view = world.changes(1, 1)
    assert (view.changed, view.fields, view.files, view.tensors) == (0, (), (), ())
    assert view.mean_cosine == pytest.approx(1.0)


def test_parameters_are_counted_by_kind(world: World) -> None:
    view = world.insights().parameters(world.version(1))
    # rank x (in + out), two layers: hidden size 32
    assert {row.name: row.parameters for row in view.kinds} == {"q_proj": 2 * 4 * 64, "v_proj": 2 * 4 * 64}


def test_a_page_reads_no_weights(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a page read the store")

    monkeypatch.setattr(LocalStore, "read", refuse)
    monkeypatch.setattr(LocalStore, "stream", refuse)
    assert world.insights().layers(world.version(1)).rows
    assert world.insights().parameters(world.version(1)).kinds


def test_a_new_version_says_that_its_values_are_not_there_yet(world: World) -> None:
    version, insights = world.publisher.push("task/fresh", readme="# Hello\n\n<b>bold</b>"), world.insights()
    assert insights.layers(version).note == insights.parameters(version).line == NOT_YET
    with create_app(world.registry, world.registry.context.settings).test_request_context():
        card = insights.card(version)
        assert card is not None
        assert "&lt;b&gt;bold" in card.html
        assert NOT_YET in card.note
        world.deriving.finish()
        card = insights.card(version)
        assert card is not None
        assert (card.note, "<b>bold</b>" in card.html) == ("", True)
    assert insights.layers(version).rows


def test_one_content_in_two_places_shows_each_its_own_files(world: World) -> None:
    options = {"readme": "[notes](notes.md) ![loss](loss.png)", "seed": 77}
    files = {"notes.md": b"notes", "loss.png": PIXEL}
    pair = [world.publisher.push(name, files=files, **options) for name in ("task/first", "task/second")]
    world.deriving.finish()
    with create_app(world.registry, world.registry.context.settings).test_request_context():
        for version in pair:
            card = world.insights().card(version)
            assert card is not None
            home = f"/{version.adapter}/versions/1"
            assert f'href="{home}/files/notes.md"' in card.html
            assert f'src="{home}/raw/loss.png"' in card.html
    assert pair[0].digest == pair[1].digest


def test_weights_that_are_not_finite_are_said_to_be_so_and_break_no_page(world: World) -> None:
    nan = np.full((4, 32), np.nan, np.float32)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    version = world.publisher.push("task/nan", tensors={name: ((4, 32), nan.tobytes())})
    world.publisher.push("task/nan", tensors={name: ((4, 32), (nan * 0).tobytes())}, alpha=9)
    world.deriving.finish()
    found = world.insights().weights(version)
    assert (found.nonfinite, found.nonfinite_count) == ((name,), 1)
    rows = {row.module: row for row in world.insights().layers(version).rows}
    assert rows["model.layers.0.self_attn.q_proj"].norm is None
    assert rows["model.layers.0.self_attn.q_proj"].effective_rank is None
    assert rows["model.layers.1.self_attn.q_proj"].norm is not None
    client = create_app(world.registry, world.registry.context.settings).test_client()
    for address in ("/task/nan/versions/1", "/task/nan/versions/2", "/task/nan/compare", "/task/nan"):
        page = client.get(address)
        assert page.status_code == 200, address
    world.deriving.finish()
    page = client.get("/task/nan/versions/1").get_data(as_text=True)
    assert "holds NaN or infinity" in page
    assert client.get("/task/nan/compare").status_code == 200


def test_a_zero_update_is_said_to_be_one(world: World) -> None:
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    version = world.publisher.push("task/zero", tensors={name: ((32, 4), bytes(4 * 32 * 4))})
    world.deriving.finish()
    assert world.insights().weights(version).zero_modules == ("model.layers.0.self_attn.q_proj",)


def test_a_map_that_costs_too_much_is_refused_before_a_weight_is_read(world: World) -> None:
    class Header:
        """A file of 8 GB of which only the header is there."""

        def __init__(self, tensors: dict[str, Any]) -> None:
            text = json.dumps(tensors).encode()
            self.data = len(text).to_bytes(8, "little") + text
            self.size = len(self.data) + max(value["data_offsets"][1] for value in tensors.values())

        def read(self, offset: int, size: int) -> bytes:
            assert offset + size <= len(self.data) or size <= 64, "a weight was read"
            return self.data[offset : offset + size]

    tensors, end = {}, 0
    for layer in range(28):
        for part, shape in (("lora_A", (1024, 1024)), ("lora_B", (1024, 1024))):
            size = 2 * shape[0] * shape[1]
            name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.{part}.weight"
            tensors[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
            end += size
    config = json.dumps({"peft_type": "LORA", "r": 1024, "lora_alpha": 8, "target_modules": ["q_proj"]}).encode()
    files = {"adapter_config.json": Bytes(config), "adapter_model.safetensors": Header(tensors)}
    with pytest.raises(HubError, match="billion operations"):
        layers(files)


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]


@pytest.fixture
def gated(world: World) -> Iterator[World]:
    world.registry.adapters.update(world.actor, QA, gated=True)
    yield world
    world.registry.adapters.update(world.actor, QA, gated=False)


def test_what_a_member_has_seen_of_a_gated_adapter_is_shown_to_no_one_else(gated: World) -> None:
    assert gated.insights().layers(gated.version(1)).rows
    assert gated.changes(1, 2).rows
    outsider = gated.insights(ANONYMOUS)
    layers = outsider.layers(gated.version(1))
    assert (layers.rows, layers.chart) == ((), None)
    assert "gated" in layers.note
    assert "gated" in outsider.weights(gated.version(1)).note
    assert not outsider.parameters(gated.version(1)).kinds
    changes = outsider.changes(gated.version(1), gated.version(2))
    assert (changes.rows, changes.mean_cosine) == ((), None)
    assert "gated" in changes.note


@pytest.mark.parametrize("closed", [1, 2])
def test_a_difference_is_shown_to_those_who_may_read_both_versions(world: World, closed: int) -> None:
    def open_file(actor: Actor, ref: AdapterRef, path: str) -> StoredFile:
        if ref.version == closed:
            raise Gated(f"v{closed} is gated")
        return world.registry.versions.open_file(actor, ref, path)

    assert world.changes(1, 2).rows
    half = SimpleNamespace(versions=SimpleNamespace(open_file=open_file), derived=world.registry.derived)
    found = Insights(half, world.actor).changes(world.version(1), world.version(2))  # type: ignore[arg-type]
    assert (found.rows, found.mean_cosine) == ((), None)
    assert "gated" in found.note
