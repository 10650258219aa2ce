"""What is derived of versions: made once, in bounds, by one worker of several, and a failure is a value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hub.registry.derived import queue
from hub.registry.derived.recipe import Derived, Recipe
from hub.registry.derived.work import Deriving
from tests.registry.world import World, named, ref
from tests.support.threads import at_once

RECIPES = "tests.registry.recipes"
MB = 10**6


def recipe(function: str, version: int = 1, **options: Any) -> Recipe:
    bounds = {"cpu_seconds": 5, "memory_bytes": 600 * MB} | options
    return Recipe(function, version, f"{RECIPES}:{function}", **bounds)


@pytest.fixture
def qa(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # where the recipes above are found
    world.namespace("task")
    world.push("task/qa", seed=1)
    return world


def digest(world: World, name: str = "task/qa@v1") -> str:
    return world.registry.versions.resolve(world.admin, ref(name)).digest


def derive(world: World, *recipes: Recipe) -> Derived | None:
    """Make all that waits; return what came of the first recipe."""
    deriving = Deriving(world.context, recipes)
    deriving.finish()
    deriving.close()
    return queue.find(world.context, recipes[0], digest(world))


def test_every_version_gets_its_values_in_another_process(qa: World) -> None:
    assert queue.find(qa.context, recipe("sizes"), digest(qa)) is None
    found = derive(qa, recipe("sizes"), recipe("process"))
    files = {file.path: file.size for file in qa.registry.versions.resolve(qa.admin, ref("task/qa@v1")).manifest.files}
    assert found == Derived("made", files)
    where = queue.find(qa.context, recipe("process"), digest(qa))
    assert where is not None
    assert where.value != os.getpid()


def test_what_was_made_is_not_made_again_until_its_recipe_changes(qa: World) -> None:
    first = derive(qa, recipe("process"))
    assert derive(qa, recipe("process")) == first
    deriving = Deriving(qa.context, [recipe("process", version=2)])
    deriving.start()
    assert queue.find(qa.context, recipe("process"), digest(qa)) is None
    deriving.finish()
    deriving.close()
    assert queue.find(qa.context, recipe("process", version=2), digest(qa)) is not None


@pytest.mark.parametrize(
    ("function", "options", "reason"),
    [
        ("refuse", {}, "This adapter can't be looked at."),
        ("spin", {"cpu_seconds": 1}, "1 s of a processor's time"),
        ("hoard", {}, "600 MB of memory"),
        ("crash", {}, "more than is spent"),
        ("endless", {}, "too large to be kept"),
    ],
)
def test_a_job_beyond_its_bounds_fails_with_a_reason_that_is_kept(
    qa: World, function: str, options: dict[str, Any], reason: str
) -> None:
    failing = recipe(function, **options)
    found = derive(qa, failing, recipe("sizes"))
    assert found is not None
    assert (found.state, found.value) == ("failed", None)
    assert reason in found.reason
    others = queue.find(qa.context, recipe("sizes"), digest(qa))
    assert others is not None
    assert others.state == "made"


def test_a_job_that_just_sleeps_ends_at_its_deadline(qa: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recipe, "deadline_seconds", 1)
    found = derive(qa, recipe("sleep"))
    assert found is not None
    assert found.state == "failed"


@pytest.mark.parametrize("function", ["stumble", "fault", "not_a_number"])
def test_a_fault_of_ours_or_of_the_store_is_tried_again_and_then_said(qa: World, function: str) -> None:
    failing = recipe(function)
    deriving = Deriving(qa.context, [failing])
    for tries in range(queue.MAX_TRIES):
        found = queue.find(qa.context, failing, digest(qa))
        assert (found.state if found else "waiting") == "waiting", tries
        deriving.step()
    deriving.close()
    found = queue.find(qa.context, failing, digest(qa))
    assert found is not None
    assert (found.state, "log says why" in found.reason) == ("failed", True)


def test_the_process_knows_no_secret_of_the_server(qa: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORAHUB_SECRET_KEY", "secret")
    monkeypatch.setenv("LORAHUB_DATABASE", "postgresql://user:password@host/name")
    assert derive(qa, recipe("secrets")) == Derived("made", [])


def test_a_comparison_is_made_for_those_who_ask(qa: World) -> None:
    qa.push("task/qa", seed=2)
    pair = recipe("both", is_swept=False)
    first, second = digest(qa), digest(qa, "task/qa@v2")
    assert derive(qa, pair) is None
    assert queue.want(qa.context, pair, first, second)
    derive(qa, pair)
    found = queue.find(qa.context, pair, first, second)
    assert found is not None
    assert (found.state, len(found.value)) == ("made", 2)


def test_no_more_is_asked_for_than_can_be_made(qa: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MAX_ASKED_FOR", 3)
    pair = recipe("both", is_swept=False)
    assert [queue.want(qa.context, pair, digest(qa), f"{number:064x}") for number in range(5)] == [
        *(True, True, True),
        *(False, False),
    ]


def test_several_workers_make_each_value_once(qa: World) -> None:
    for seed in range(2, 8):
        qa.push("task/qa", seed=seed)
    made = recipe("process")

    def work(number: int) -> list[str]:
        claimed: list[str] = []
        queue.sweep(qa.context, [made], 0)
        while job := queue.claim(qa.context, [made], {}):
            claimed.append(job.digests[0])
            queue.keep(qa.context, job, Derived("made", number))
        return claimed

    claims = [each for found in at_once(3, work) for each in found]
    assert sorted(claims) == sorted({digest(qa, f"task/qa@v{number}") for number in range(1, 8)})


def test_the_claim_of_a_worker_that_died_ends(qa: World) -> None:
    made = recipe("sizes")
    queue.sweep(qa.context, [made], 0)
    assert queue.claim(qa.context, [made], {}) is not None
    assert queue.claim(qa.context, [made], {}) is None
    qa.clock.forward(seconds=made.deadline_seconds + 31)
    assert queue.claim(qa.context, [made], {}) is not None


def test_who_publishes_much_waits_behind_who_publishes_little(qa: World) -> None:
    for seed in range(2, 6):
        qa.push("task/qa", seed=seed)
    qa.namespace("quiet")
    qa.push("quiet/one", seed=50)
    made = recipe("sizes")
    queue.sweep(qa.context, [made], 0)
    job = queue.claim(qa.context, [made], {"task": 10.0, "quiet": 0.5})
    assert job is not None
    assert job.share == "quiet"


def test_collection_takes_what_was_made_of_versions_that_are_gone(qa: World) -> None:
    qa.push("task/qa", seed=2)
    made, pair = recipe("sizes"), recipe("both", is_swept=False)
    kept, gone = digest(qa), digest(qa, "task/qa@v2")
    queue.want(qa.context, pair, kept, gone)
    derive(qa, made, pair)
    qa.registry.versions.delete(qa.admin, named("task/qa"), 2)
    qa.registry.upkeep.collect()
    assert queue.find(qa.context, made, kept) is not None
    assert queue.find(qa.context, made, gone) is None
    assert queue.find(qa.context, pair, kept, gone) is None


def test_a_version_that_went_before_its_turn_costs_nothing(qa: World) -> None:
    qa.push("task/qa", seed=2)
    gone, made = digest(qa, "task/qa@v2"), recipe("sizes")
    queue.sweep(qa.context, [made], 0)
    qa.registry.versions.delete(qa.admin, named("task/qa"), 2)
    derive(qa, made)
    assert queue.find(qa.context, made, gone) is None
