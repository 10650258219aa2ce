"""Push, resolve, aliases, yanks over the API."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from hub.adapter.files import build_manifest
from tests.support.adapters import write_adapter
from tests.web.api import Api


def test_a_push_makes_the_next_version(task: Api, tmp_path: Path) -> None:
    first = task.push(write_adapter(tmp_path / "a", seed=1), "task/qa", message="first", task="qa")
    second = task.push(write_adapter(tmp_path / "b", seed=2), "task/qa")
    assert (first["ref"], second["ref"]) == ("task/qa@v1", "task/qa@v2")
    assert first["message"] == "first"
    assert first["task"] == "qa"
    assert first["created_by"] == "admin"
    assert first["rank"] == 4
    assert first["target_modules"] == ["q_proj", "v_proj"]


def test_equal_content_is_the_same_version(task: Api, folder: Path) -> None:
    first = task.push(folder, "task/qa")
    again = task.push(folder, "task/qa", expect=200)
    assert again["ref"] == first["ref"] == "task/qa@v1"
    assert len(task.get("/adapters/task/qa/versions").json["items"]) == 1


def test_resolve_gives_the_manifest_that_the_digest_names(task: Api, folder: Path) -> None:
    task.push(folder, "task/qa")
    manifest = build_manifest(folder)
    found = task.get("/adapters/task/qa/versions/latest").json
    assert found["digest"] == manifest.digest
    assert found["commit"] == manifest.digest[:40]
    assert found["manifest"] == manifest.to_json()
    assert found["size_bytes"] == sum(path.stat().st_size for path in folder.iterdir())


def test_every_selector_finds_the_version(task: Api, folder: Path) -> None:
    pushed = task.push(folder, "task/qa", alias="prod")
    task.call("PUT", "/adapters/task/qa/aliases/rel%2F1.0", {"version": 1}, expect=200)
    for selector in ("v1", "latest", "prod", "rel%2F1.0", f"sha256:{pushed['digest']}"):
        assert task.get(f"/adapters/task/qa/versions/{selector}").json["ref"] == "task/qa@v1", selector


def test_a_list_leaves_manifests_out(task: Api, tmp_path: Path) -> None:
    for seed in range(3):
        task.push(write_adapter(tmp_path / str(seed), seed=seed), "task/qa")
    items = task.get("/adapters/task/qa/versions").json["items"]
    assert [item["version"] for item in items] == [3, 2, 1]
    assert not any("manifest" in item for item in items)


def test_a_version_that_is_not_there_names_the_latest(task: Api, folder: Path) -> None:
    task.push(folder, "task/qa")
    answer = task.get("/adapters/task/qa/versions/v9", 404)
    assert answer.code == "version_not_found"
    assert "v9" in answer.json["error"]["message"]
    assert "v1" in answer.json["error"]["message"]


def test_a_yanked_version_is_found_by_exact_ref_only(task: Api, tmp_path: Path) -> None:
    task.push(write_adapter(tmp_path / "a", seed=1), "task/qa")
    task.push(write_adapter(tmp_path / "b", seed=2), "task/qa")
    task.call("POST", "/adapters/task/qa/versions/v2/yank", {"reason": "wrong data"}, expect=200)
    assert task.get("/adapters/task/qa/versions/latest").json["version"] == 1
    exact = task.get("/adapters/task/qa/versions/v2").json
    assert exact["yanked"]["reason"] == "wrong data"
    file = task.get("/adapters/task/qa/versions/v2/files/adapter_config.json")
    assert file.headers["X-Lorahub-Yanked"] == "wrong data"
    task.call("DELETE", "/adapters/task/qa/versions/v2/yank", expect=200)
    assert task.get("/adapters/task/qa/versions/latest").json["version"] == 2


def test_a_yank_names_a_version_and_not_an_alias(task: Api, folder: Path) -> None:
    task.push(folder, "task/qa", alias="prod")
    answer = task.call("POST", "/adapters/task/qa/versions/prod/yank", {"reason": "x"}, expect=400)
    assert answer.code == "invalid_ref"


def test_an_alias_moves_only_from_where_it_is_expected(task: Api, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        task.push(write_adapter(tmp_path / str(seed), seed=seed), "task/qa")
    alias = "/adapters/task/qa/aliases/prod"
    task.call("PUT", alias, {"version": 1, "expected": None}, expect=200)
    assert task.call("PUT", alias, {"version": 2, "expected": None}).status == 412
    assert task.call("PUT", alias, {"version": 2, "expected": 3}).status == 412
    moved = task.call("PUT", alias, {"version": 2, "expected": 1}, expect=200).json
    assert (moved["alias"], moved["version"], moved["protected"]) == ("prod", 2, False)
    task.call("PUT", alias, {"version": 3}, expect=200)
    assert task.call("DELETE", f"{alias}?expected=2").status == 412
    task.call("DELETE", f"{alias}?expected=3", expect=204)
    moves = task.get(f"{alias}/history").json["items"]
    assert [(move["from"], move["to"]) for move in moves] == [(3, None), (2, 3), (1, 2), (None, 1)]


def test_a_deleted_number_is_never_used_again(task: Api, tmp_path: Path) -> None:
    for seed in (1, 2):
        task.push(write_adapter(tmp_path / str(seed), seed=seed), "task/qa")
    task.call("DELETE", "/adapters/task/qa/versions/v2", expect=204)
    task.get("/adapters/task/qa/versions/v2", 404)
    assert task.push(write_adapter(tmp_path / "3", seed=3), "task/qa")["version"] == 3


def test_metrics_deprecation_and_lineage_are_shown(task: Api, tmp_path: Path) -> None:
    task.push(write_adapter(tmp_path / "1", seed=1), "task/qa")
    task.push(write_adapter(tmp_path / "2", seed=2), "task/qa", trained_from=["task/qa@v1"])
    version = "/adapters/task/qa/versions/v2"
    task.call("PUT", f"{version}/metrics", {"name": "accuracy", "value": 0.875, "dataset": "held-out"}, expect=200)
    task.call("PUT", f"{version}/deprecation", {"reason": "old", "successor": "task/qa@v1"}, expect=200)
    shown = task.get(version).json
    assert shown["trained_from"] == ["task/qa@v1"]
    assert [(m["name"], m["value"], m["dataset"]) for m in shown["metrics"]] == [("accuracy", 0.875, "held-out")]
    assert (shown["deprecated"]["reason"], shown["deprecated"]["successor"]) == ("old", "task/qa@v1")
    found = task.get("/adapters?metric=accuracy%3E%3D0.8").json
    assert [item["name"] for item in found["items"]] == ["task/qa"]
    assert task.get("/adapters?metric=accuracy%3E0.9").json["items"] == []


def test_search_filters_and_counts(task: Api, tmp_path: Path) -> None:
    task.push(write_adapter(tmp_path / "a", seed=1, rank=4), "task/small", task="qa")
    task.push(write_adapter(tmp_path / "b", seed=2, rank=16), "task/large", task="sentiment")
    page = task.get("/adapters?rank_max=8").json
    assert [item["name"] for item in page["items"]] == ["task/small"]
    assert page["total"] == 1
    everything = task.get("/adapters").json
    assert {value["value"]: value["count"] for value in everything["facets"]["task"]} == {"qa": 1, "sentiment": 1}
    first = task.get("/adapters?limit=1&sort=name").json
    second = task.get(f"/adapters?limit=1&sort=name&cursor={first['next']}").json
    assert [first["items"][0]["name"], second["items"][0]["name"]] == ["task/large", "task/small"]
    assert second["next"] is None


def test_anything_may_be_typed_into_the_search(task: Api, folder: Path) -> None:
    task.push(folder, "task/qa")
    for text in ('foo"', "a:b", "-x", "*", "(", "NEAR(", "%", "_", "'", "a AND", "\\", "qa OR"):
        found = task.get(f"/adapters?q={quote(text)}").json
        assert found["total"] == len(found["items"]) <= 1, text
