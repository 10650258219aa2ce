"""Access to gated adapters: asked for, granted, taken back."""

from __future__ import annotations

import pytest

from hub.errors import Conflict, Forbidden, Gated, InvalidRequest, NotFound, Unauthenticated, UserNotFound
from hub.registry.rights.access import ANONYMOUS, Actor
from tests.registry.world import World, named, ref

QA = named("task/qa")


@pytest.fixture
def gated(world: World) -> World:
    world.push("task/qa", world.adapter(readme="# A card\n"))
    world.registry.adapters.update(world.admin, QA, gated=True)
    return world


def may_read(world: World, actor: Actor) -> bool:
    """Whether the weights can be had in every way that there is, or in none."""
    ways = [
        lambda: world.registry.versions.open_file(actor, ref("task/qa@v1"), "adapter_model.safetensors"),
        lambda: world.registry.commits.open_file(actor, QA, "main", "adapter_model.safetensors"),
        lambda: world.registry.versions.resolve(actor, ref("task/qa@v1")),
        lambda: world.registry.adapters.check_gate(actor, QA),
    ]
    found = set()
    for way in ways:
        try:
            way()
            found.add(True)
        except Gated:
            found.add(False)
    (answer,) = found
    return answer


def test_who_asks_waits_until_an_owner_lets_them_in(gated: World) -> None:
    tom, olga = gated.user("tom"), gated.user("olga", {"task": "owner"})
    assert not may_read(gated, tom)
    asked = gated.registry.gates.ask(tom, QA)
    assert (asked.user, asked.status) == ("tom", "pending")
    assert gated.registry.gates.ask(tom, QA) == asked
    assert not may_read(gated, tom)
    assert gated.registry.gates.list(olga, QA, "pending") == (asked,)
    assert gated.registry.gates.decide(olga, QA, "tom", "accepted").status == "accepted"
    assert may_read(gated, tom)
    with pytest.raises(Conflict):
        gated.registry.gates.decide(olga, QA, "tom", "accepted")
    rejected = gated.registry.gates.decide(olga, QA, "tom", "rejected", "not for you")
    assert (rejected.status, rejected.reason, rejected.id) == ("rejected", "not for you", asked.id)
    assert not may_read(gated, tom)
    assert gated.registry.gates.list(olga, QA, "accepted") == ()


def test_who_is_let_in_unasked_reads_and_sees_nothing_else(gated: World) -> None:
    tom, ann = gated.user("tom"), gated.user("ann")
    gated.registry.gates.grant(gated.admin, QA, "tom")
    assert may_read(gated, tom)
    assert not may_read(gated, ann)
    assert not may_read(gated, ANONYMOUS)
    with pytest.raises(Conflict):
        gated.registry.gates.grant(gated.admin, QA, "tom")
    for verb in (gated.registry.gates.list, gated.registry.gates.grant):
        with pytest.raises(Forbidden):
            verb(tom, QA, "pending")
    limited = gated.user("tom", namespace="elsewhere")
    assert not may_read(gated, limited), "a token for another namespace does not reach this one"


def test_what_can_not_be_asked(gated: World) -> None:
    with pytest.raises(Unauthenticated):
        gated.registry.gates.ask(ANONYMOUS, QA)
    with pytest.raises(UserNotFound):
        gated.registry.gates.grant(gated.admin, QA, "nobody")
    gated.user("tom")
    with pytest.raises(NotFound):
        gated.registry.gates.decide(gated.admin, QA, "tom", "accepted")
    gated.push("task/open", seed=2)
    with pytest.raises(InvalidRequest):
        gated.registry.gates.ask(gated.admin, named("task/open"))
