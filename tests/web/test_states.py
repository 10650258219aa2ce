"""Route x role x state of an adapter: public, private, gated, yanked, deleted, deleted and made again.

Each address that reads is taken from the tables of the other permission tests, so none can be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.adapters import write_adapter
from tests.web.api import Answer, Api
from tests.web.routes import READ, Route, routes
from tests.web.test_wire_permissions import ask
from tests.web.url_map import served_routes
from tests.web.wire_routes import wire_routes
from tests.web.world import Caller, World, build_world

CANARY = "canary-51c3"
CARD = f"---\nlicense: mit\ntags: [{CANARY}]\n---\n# {CANARY}\n"
STRANGERS = ("anonymous", "outsider")


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("states")
    world = build_world(folder)
    admin = world.admin
    admin.call("POST", "/namespaces", {"name": "open"}, expect=201)
    admin.call("PUT", "/namespaces/open/members/reader", {"role": "reader"}, expect=200)
    for state in ("public", "private", "gated", "yanked", "deleted", "again"):
        _push(admin, folder, state, private=state in {"private", "deleted", "again"})
    admin.call("PUT", "/api/models/open/gated/settings", {"gated": "manual"}, expect=200)
    for number in (1, 2):
        admin.call("POST", f"/adapters/open/yanked/versions/v{number}/yank", {"reason": "old"}, expect=200)
    for state in ("deleted", "again"):
        admin.call("DELETE", f"/adapters/open/{state}", expect=204)
    for seed in (11, 12):
        admin.push(write_adapter(folder / f"again-{seed}", seed=seed), "open/again")
    yield world
    world.registry.close()


def _push(admin: Api, folder: Path, state: str, *, private: bool) -> None:
    for seed in (1, 2):
        made = write_adapter(folder / f"{state}-{seed}", seed=seed, readme=CARD)
        admin.push(made, f"open/{state}", private=private, message=CANARY, task=CANARY)
    admin.call("PUT", f"/adapters/open/{state}/aliases/prod", {"version": 1}, expect=200)


def reading(world: World) -> list[Route]:
    """Every route that reads an adapter: of the API, the Hugging Face wire, and the catalog's pages."""
    own = [replace(route, url=f"/api/v1{route.url}") for route in routes(world)]
    listed = [route for route in (*own, *wire_routes(world)) if route.needs == READ]
    of_adapters = [route for route in listed if "vault/secret" in route.url]
    assert len(of_adapters) >= 15
    return of_adapters + [Route(rule, "GET", READ, url) for rule, url in pages(world)]


def pages(world: World) -> Iterator[tuple[str, str]]:
    words = {"<namespace>": "vault", "<name>": "secret", "<int:number>": "2", "<number>": "2", "<path>": "README.md"}
    for endpoint, rule, method in served_routes(world.app):
        if endpoint.startswith("catalog.") and method == "GET" and "<namespace>/<name>" in rule:
            url = rule
            for word, value in words.items():
                url = url.replace(word, value)
            if "<" not in url:
                yield rule, url


def answer(world: World, caller: Caller, route: Route, name: str) -> Answer:
    return ask(world, caller, route.method, route.url.replace("vault/secret", f"open/{name}"), route.body)


def callers(world: World, roles: tuple[str, ...]) -> list[Caller]:
    return [caller for caller in world.callers if caller.role in roles]


def test_catalog_pages_are_among_them(states: World) -> None:
    assert len(list(pages(states))) >= 4


@pytest.mark.parametrize("state", ["private", "deleted"])
def test_what_a_stranger_may_not_see_is_as_what_is_not_there(states: World, state: str) -> None:
    wrong = []
    for route in reading(states):
        for caller in callers(states, STRANGERS):
            got, missing = answer(states, caller, route, state), answer(states, caller, route, "m1ss1ng")
            same = got.body.replace(state.encode(), b"m1ss1ng")[:400] == missing.body[:400]
            same = same or b"<html" in got.body[:200]
            if got.status != missing.status or got.status not in {401, 404} or not same:
                wrong.append(f"{route} by {caller}: {got.status} {got.body[:120]!r}, {missing.body[:120]!r}")
            if CANARY.encode() in got.body:
                wrong.append(f"{route} by {caller} shows the canary")
    assert not wrong, "\n".join(wrong)


def test_members_see_private_ones_and_nobody_sees_deleted_ones(states: World) -> None:
    for route in reading(states):
        for caller in callers(states, ("reader",)):
            assert answer(states, caller, route, "deleted").status == 404, str(route)
    one = states.caller("reader", "read")
    assert states.api(one).call("GET", "/adapters/open/private").status == 200


def test_what_is_made_again_shows_nothing_of_what_was(states: World) -> None:
    for route in reading(states):
        for caller in callers(states, (*STRANGERS, "reader")):
            for revision in ("v2", "v1", "prod"):
                url = route.url.replace("/v2", f"/{revision}")
                got = ask(states, caller, route.method, url.replace("vault/secret", "open/again"), route.body)
                assert got.status < 500
                assert CANARY.encode() not in got.body, f"{route} {revision} by {caller}"


def test_a_gated_one_shows_its_card_and_not_its_configuration(states: World) -> None:
    secrets = (b'"manifest"', b"lora_alpha", b"lora_A")
    wrong = []
    for route in reading(states):
        for caller in callers(states, STRANGERS):
            got = answer(states, caller, route, "gated")
            shows = [word for word in secrets if word in got.body]
            if "/files/adapter_config" in route.url or "resolve/" in route.url or "auth-check" in route.url:
                wrong += [f"{route} by {caller}: {got.status}"] if got.status not in {401, 403} else []
            if shows:
                wrong.append(f"{route} by {caller}: {got.status} shows {shows}")
    assert not wrong, "\n".join(wrong)
    stranger = states.api(states.caller("outsider", "read"))
    assert stranger.call("GET", "/adapters/open/gated/versions/v2").code == "gated"
    assert stranger.call("GET", "/adapters/open/gated/versions/v2/files/README.md").status == 200
    assert stranger.sender.send("GET", "/open/gated", {}, None).status == 200
    member = states.api(states.caller("reader", "read"))
    assert member.call("GET", "/adapters/open/gated/versions/v2").status == 200
    assert member.call("GET", "/api/models/open/gated/auth-check").status == 200


def test_a_yanked_one_is_read_by_who_names_it_and_chosen_for_nobody(states: World) -> None:
    for caller in callers(states, (*STRANGERS, "reader")):
        api = states.api(caller)
        assert api.call("GET", "/adapters/open/yanked/versions/v2").status == 200
        assert api.call("GET", "/adapters/open/yanked/versions/latest").status == 404


def test_lists_show_strangers_no_private_name(states: World) -> None:
    for caller in callers(states, STRANGERS):
        for url in ("/api/v1/adapters", "/api/models", "/", "/open", "/feeds/open.xml", "/api/v1/bases"):
            got = ask(states, caller, "GET", url, None)
            for name in (b"open/private", b"open/deleted"):
                assert name not in got.body, f"{url} by {caller}"
