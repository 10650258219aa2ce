"""Base models as objects: names, fingerprints, copies, rebinding."""

from __future__ import annotations

import pytest

from hub.base.spec import BaseMatch, compare_identity
from hub.errors import BaseNotFound, Conflict, Forbidden
from hub.manifest import BaseIdentity
from hub.registry.library import bases, publish
from hub.registry.rights.access import ANONYMOUS
from hub.registry.values import Query
from tests.registry.world import World, named, ref

SHAPES, WEIGHTS, OTHER = ("sha256:" + digit * 64 for digit in "123")


def test_publish_registers_the_base_that_the_config_names(world: World) -> None:
    world.push("task/qa", world.adapter(base="org/model"))
    base = world.registry.bases.get(ANONYMOUS, "org/model")
    assert (base.id, base.adapter_count, base.aliases, base.parent) == ("org/model", 1, (), None)
    assert [base.id for base in world.registry.bases.list(ANONYMOUS)] == ["org/model"]
    with pytest.raises(BaseNotFound):
        world.registry.bases.get(ANONYMOUS, "org/none")


def test_local_path_is_known_by_its_weights(world: World) -> None:
    identity = BaseIdentity(id="org/model", shapes=SHAPES, weights=WEIGHTS)
    world.push("task/qa", world.adapter(seed=1, base="org/model"), base=identity)
    local = BaseIdentity(id="/home/ann/models/llama", shapes=SHAPES, weights=WEIGHTS)
    version = world.push("task/two", world.adapter(seed=2, base="/home/ann/models/llama"), base=local).version
    assert version.base == "org/model"
    unknown = BaseIdentity(id="./llama", shapes=SHAPES, weights=OTHER)
    name = world.push("task/three", world.adapter(seed=3, base="./llama"), base=unknown).version.base
    assert name == "local:llama-" + "3" * 8


def test_one_path_is_one_base_until_fingerprints_say_otherwise(world: World) -> None:
    """Trainers write where the base lay; over the Hugging Face wire that is all that is known of it."""
    path = "/data/models/llama/"
    names = {world.push(f"task/a{seed}", world.adapter(seed=seed, base=path)).version.base for seed in range(4)}
    assert names == {"local:llama"}
    known = BaseIdentity(id=path, shapes=SHAPES, weights=WEIGHTS)
    assert world.push("task/b", world.adapter(seed=5, base=path), base=known).version.base == "local:llama"
    other = BaseIdentity(id=path, shapes=SHAPES, weights=OTHER)
    assert world.push("task/c", world.adapter(seed=6, base=path), base=other).version.base == "local:llama-" + "3" * 8
    assert world.push("task/d", world.adapter(seed=7, base="/data/models/llama")).version.base == "local:llama"
    elsewhere = world.push("task/e", world.adapter(seed=8, base="/home/ann/llama")).version.base
    assert elsewhere not in {"local:llama", None}
    assert len(world.registry.bases.list(ANONYMOUS)) == 3


def test_fingerprints_add_up(world: World) -> None:
    world.push("task/qa", world.adapter(seed=1, base="org/model"))
    assert world.registry.bases.get(ANONYMOUS, "org/model").weights == ()
    identity = BaseIdentity(id="org/model", shapes=SHAPES, weights=WEIGHTS)
    world.push("task/qa", world.adapter(seed=2, base="org/model"), base=identity)
    base = world.registry.bases.get(ANONYMOUS, "org/model")
    assert (base.shapes, base.weights) == ((SHAPES,), (WEIGHTS,))


def test_copy_is_listed_under_the_base_that_its_sketch_recognises(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = BaseIdentity(id="org/model", shapes=SHAPES, weights=WEIGHTS, sketch="c2tldGNo")
    copy = BaseIdentity(id="org/model-nf4", shapes=SHAPES, weights=OTHER, sketch="Y29weQ==")
    assert compare_identity(copy, copy) is BaseMatch.SAME_WEIGHTS
    # Whether two sketches are of one model is the core's business, and tested there on real weights.
    monkeypatch.setattr("hub.registry.library.bases.compare_identity", lambda _a, _b: BaseMatch.COPY)
    world.push("task/qa", world.adapter(seed=1, base="org/model"), base=original)
    world.push("task/four", world.adapter(seed=2, base="org/model-nf4"), base=copy)
    assert world.registry.bases.get(ANONYMOUS, "org/model").children == ("org/model-nf4",)
    assert world.registry.bases.get(ANONYMOUS, "org/model-nf4").parent == "org/model"


def test_renamed_base_is_found_by_both_names_everywhere(world: World) -> None:
    world.push("task/qa", world.adapter(base="org/model"))
    world.registry.bases.update(world.admin, "org/model", new_id="new-org/model", add_aliases=["meta/model"])
    for name in ("org/model", "new-org/model", "meta/model"):
        assert world.registry.bases.get(ANONYMOUS, name).id == "new-org/model"
        assert world.registry.adapters.search(ANONYMOUS, Query(having={"base": (name,)})).total == 1
    assert world.registry.versions.resolve(ANONYMOUS, ref("task/qa")).base == "new-org/model"
    again = world.push("task/two", world.adapter(seed=2, base="org/model")).version
    assert again.base == "new-org/model"
    assert world.registry.adapters.search(ANONYMOUS, Query()).facets["base"][0].count == 2


def test_name_means_one_base_only(world: World) -> None:
    world.push("task/one", world.adapter(seed=1, base="org/one"))
    world.push("task/two", world.adapter(seed=2, base="org/two"))
    update = world.registry.bases.update
    with pytest.raises(Conflict):
        update(world.admin, "org/one", new_id="org/two")
    with pytest.raises(Conflict):
        update(world.admin, "org/one", add_aliases=["org/two"])
    update(world.admin, "org/one", add_aliases=["uno"])
    with pytest.raises(Conflict):
        update(world.admin, "org/two", add_aliases=["uno"])
    update(world.admin, "org/one", remove_aliases=["uno"])
    assert update(world.admin, "org/two", add_aliases=["uno"]).aliases == ("uno",)


def test_no_base_is_a_copy_of_itself(world: World) -> None:
    world.push("task/one", world.adapter(seed=1, base="org/one"))
    world.push("task/two", world.adapter(seed=2, base="org/two"))
    world.registry.bases.update(world.admin, "org/two", parent="org/one")
    for name, parent in (("org/one", "org/two"), ("org/one", "org/one")):
        with pytest.raises(Conflict):
            world.registry.bases.update(world.admin, name, parent=parent)


def test_rebinding_changes_the_catalog_and_not_the_manifest_and_is_audited(world: World) -> None:
    world.push("task/qa", world.adapter(seed=1, base="org/wrong"))
    world.push("task/other", world.adapter(seed=2, base="org/right"))
    publisher = world.user("pia", {"task": "publisher"})
    with pytest.raises(Forbidden):
        world.registry.versions.rebind(publisher, named("task/qa"), 1, "org/right")
    before = world.registry.versions.resolve(ANONYMOUS, ref("task/qa"))
    after = world.registry.versions.rebind(world.admin, named("task/qa"), 1, "org/right")
    assert (before.base, after.base) == ("org/wrong", "org/right")
    assert after.manifest_json == before.manifest_json
    assert after.digest == before.digest
    assert world.registry.adapters.search(ANONYMOUS, Query(having={"base": ("org/right",)})).total == 2
    event = world.registry.audit.list(world.admin, "task", limit=1)[0]
    assert (event.action, event.details) == ("version.rebind", {"before": "org/wrong", "after": "org/right"})


def test_base_that_only_private_adapters_name_is_not_shown(world: World) -> None:
    world.push("vault/qa", world.adapter(base="org/secret-project"), private=True)
    assert world.registry.bases.list(ANONYMOUS) == ()
    with pytest.raises(BaseNotFound):
        world.registry.bases.get(ANONYMOUS, "org/secret-project")
    assert world.registry.bases.get(world.admin, "org/secret-project").adapter_count == 1
    assert world.registry.adapters.search(ANONYMOUS, Query()).facets["base"] == ()


def made_up(number: int) -> BaseIdentity:
    return BaseIdentity(id="org/base", shapes=f"sha256:{number:064x}", weights=f"sha256:{number:064x}")


def test_made_up_fingerprints_stop_to_be_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "MAX_FINGERPRINTS", 3)
    world.namespace("task")
    for number in range(6):
        world.push("task/qa", world.adapter(seed=number, base="org/base"), base=made_up(number))
    found = world.registry.bases.get(world.admin, "org/base")
    assert found.shapes == found.weights == tuple(f"sha256:{number:064x}" for number in range(3))


def test_equal_files_are_so_many_versions_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "MAX_OF_EQUAL_FILES", 4)
    world.namespace("task")
    for number in range(4):
        assert world.push("task/qa", base=made_up(number)).version.number == number + 1
    with pytest.raises(Conflict, match="differ only in what is said of their base"):
        world.push("task/qa", base=made_up(4))
    for number in range(4):  # what is there already is found all the same
        assert world.push("task/qa", base=made_up(number)).version.number == number + 1
    assert world.push("task/qa", seed=2, base=made_up(4)).version.number == 5
