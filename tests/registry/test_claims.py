"""Who says what a base is known by: one voice is one voice, agreement and operators count, contradiction is shown."""

from __future__ import annotations

import pytest

from hub.errors import BaseNotFound, Forbidden, InvalidRequest
from hub.manifest import BaseIdentity
from hub.registry.library.claims import weigh
from hub.registry.rights.access import ANONYMOUS
from hub.registry.values import Base
from hub.web.catalog.pages.verdicts import judge
from tests.registry.world import World

SHAPES = "sha256:" + "1" * 64
REAL, FAKE = "sha256:" + "2" * 64, "sha256:" + "3" * 64


def says(world: World, name: str, base: str, weights: str, seed: int, *, private: bool = False) -> str | None:
    """Publish an adapter as the publisher of its namespace, and return the base that it is bound to."""
    space = name.partition("/")[0]
    actor = world.user(f"{space}-publisher")
    if not any(known.name == space for known in world.registry.namespaces.list(world.admin)):
        world.namespace(space)
    world.registry.namespaces.set_member(world.admin, space, f"{space}-publisher", "publisher")
    identity = BaseIdentity(id=base, shapes=SHAPES, weights=weights)
    folder = world.adapter(seed=seed, base=base)
    return world.push(name, folder, actor=actor, base=identity, private=private).version.base


def seen(world: World, name: str) -> Base:
    return world.registry.bases.get(ANONYMOUS, name)


def test_nobody_binds_anothers_adapter_to_a_base_of_his_naming(world: World) -> None:
    says(world, "evil/trap", "evil/mine", REAL, 1, private=True)
    assert says(world, "ann/qa", "/models/llama", REAL, 2) not in {None, "evil/mine"}
    says(world, "evil/open", "evil/mine", REAL, 3)
    assert says(world, "bob/qa", "/home/bob/llama", REAL, 4) != "evil/mine", "in public it is still one voice"


def test_publishers_who_agree_and_operators_are_believed(world: World) -> None:
    says(world, "ann/qa", "meta/llama", REAL, 1)
    says(world, "bob/qa", "meta/llama", REAL, 2)
    assert says(world, "carl/qa", "/models/llama", REAL, 3) == "meta/llama"
    says(world, "dora/qa", "dora/other", FAKE, 4)
    assert says(world, "emil/qa", "/models/other", FAKE, 5) != "dora/other"
    world.registry.bases.pin(world.admin, "dora/other", [FAKE])
    assert says(world, "fred/qa", "/models/other", FAKE, 6) == "dora/other"


def test_what_a_private_adapter_says_is_seen_by_its_members_alone(world: World) -> None:
    says(world, "ann/qa", "meta/llama", REAL, 1)
    says(world, "evil/trap", "meta/llama", FAKE, 2, private=True)
    assert (seen(world, "meta/llama").weights, seen(world, "meta/llama").disputed) == ((REAL,), ())
    assert FAKE not in repr(seen(world, "meta/llama"))


def test_a_disputed_base_is_shown_so_and_judges_nothing(world: World) -> None:
    says(world, "ann/qa", "meta/llama", REAL, 1)
    says(world, "evil/open", "meta/llama", FAKE, 2)
    base = seen(world, "meta/llama")
    assert (base.weights, base.disputed) == ((), (REAL, FAKE))
    for weights in (REAL, FAKE, "sha256:" + "4" * 64):
        assert judge(BaseIdentity(shapes=SHAPES, weights=weights), None, base).verdict == "unknown"
    says(world, "bob/qa", "meta/llama", REAL, 3)
    base = seen(world, "meta/llama")
    assert (base.weights, base.disputed) == ((REAL,), (FAKE,))
    assert [(mark.value, mark.publishers) for mark in base.fingerprints if mark.kind == "weights"] == [
        (REAL, 2),
        (FAKE, 1),
    ]


def test_an_operator_settles_it_and_nobody_else_does(world: World) -> None:
    says(world, "ann/qa", "meta/llama", REAL, 1)
    says(world, "evil/open", "meta/llama", FAKE, 2)
    with pytest.raises(Forbidden):
        world.registry.bases.pin(world.user("ann-publisher"), "meta/llama", [REAL])
    with pytest.raises(InvalidRequest):
        world.registry.bases.pin(world.admin, "meta/llama", ["sha256:unsaid"])
    world.registry.bases.pin(world.admin, "meta/llama", [REAL])
    assert seen(world, "meta/llama").weights == (REAL,)
    event = world.registry.audit.list(world.admin, limit=1)[0]
    assert (event.action, event.details["pin"]) == ("base.pin", [REAL])
    world.registry.bases.pin(world.admin, "meta/llama", [], [REAL])
    assert seen(world, "meta/llama").weights == ()


def test_a_base_that_private_adapters_alone_name_is_nowhere(world: World) -> None:
    says(world, "ann/qa", "meta/llama", REAL, 1)
    says(world, "ann/secret", "secret/project-x", FAKE, 2, private=True)
    world.registry.bases.update(world.admin, "secret/project-x", parent="meta/llama")
    assert seen(world, "meta/llama").children == ()
    with pytest.raises(BaseNotFound):
        seen(world, "secret/project-x")
    world.registry.bases.update(world.admin, "meta/llama", add_aliases=["llama"])
    assert "project-x" not in repr(world.registry.bases.list(ANONYMOUS))
    assert world.registry.bases.get(world.admin, "meta/llama").children == ("secret/project-x",)


def test_marks_of_weights_that_are_stored_differently_do_not_contradict_each_other() -> None:
    marks = weigh({("weights", "sha256:a-bf16"): {1}, ("weights", "sha256:b-nf4"): {2}, ("shapes", "sha256:c"): {1, 2}})
    assert (marks.weights, marks.shapes) == (("sha256:a-bf16", "sha256:b-nf4"), ("sha256:c",))


def test_more_independent_voices_win_and_a_tie_does_not() -> None:
    a, b = ("weights", "sha256:a-bf16"), ("weights", "sha256:b-bf16")
    assert weigh({a: {1, 2}, b: {3}}).weights == (a[1],)
    assert weigh({a: {1}, b: {3}}).weights == ()
    assert weigh({a: {1}, b: {1}}).weights == (a[1], b[1]), "one publisher's word, and nobody's against it"
    assert weigh({a: {1, 2, 3}, b: {4}}, {b}).weights == (b[1],)
