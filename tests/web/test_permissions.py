"""Role x scope x every route x method: who may do what, generated from the URL map."""

from __future__ import annotations

import pytest

from tests.web.routes import PUBLIC, SITE, TESTED_APART, Route, can_read_vault, is_allowed, routes
from tests.web.url_map import served_routes
from tests.web.world import Caller, World

HIDDEN = {"adapter_not_found", "namespace_not_found", "base_not_found", "webhook_not_found"}


def api_rules(world: World) -> set[tuple[str, str]]:
    return {
        (path.removeprefix("/api/v1"), method)
        for endpoint, path, method in served_routes(world.app)
        if path.startswith("/api/v1/") and endpoint != "openapi"
    }


def test_every_route_says_who_may_use_it(world: World) -> None:
    described = {(route.rule, route.method) for route in routes(world)} | TESTED_APART
    assert api_rules(world) == described


def test_everybody_may_do_exactly_what_the_table_says(world: World) -> None:
    wrong = []
    for route in routes(world):
        for caller in world.callers:
            wrong += _check(world, route, caller)
    assert not wrong, "\n".join(wrong)


def _check(world: World, route: Route, caller: Caller) -> list[str]:
    events = world.events()
    answer = world.api(caller).call(route.method, route.url, route.body)
    allowed = is_allowed(route.needs, caller.role, caller.scope)
    if allowed:
        world.restore()
        return [] if answer.status < 400 else [f"{route} by {caller}: refused {answer.status} {answer.body[:200]!r}"]
    problems = []
    if answer.status not in {401, 403, 404}:
        problems.append(f"{route} by {caller}: allowed, {answer.status}")
    if world.events() != events:
        problems.append(f"{route} by {caller}: refused, yet it wrote an event")
        world.restore()
    if route.needs not in {SITE, PUBLIC} and not can_read_vault(caller.role):
        problems += _check_hidden(world, route, caller, answer.status, answer.code)
    return problems


def _check_hidden(world: World, route: Route, caller: Caller, status: int, code: str) -> list[str]:
    """What one may not read looks as if it weren't there: the same answer as for a name that nobody has."""
    if "vault" not in route.url:
        return []
    missing = world.api(caller).call(route.method, route.url.replace("vault", "nobody"), route.body)
    if (missing.status, missing.code) == (status, code):
        return []
    return [f"{route} by {caller}: {status} {code}, but {missing.status} {missing.code} where there is nothing"]


def test_head_is_refused_where_get_is(world: World) -> None:
    stranger = world.api(world.caller("outsider", "admin"))
    for route in routes(world):
        if route.method == "GET":
            got, head = stranger.call("GET", route.url), stranger.call("HEAD", route.url)
            assert head.status == got.status, str(route)
            assert head.body == b""


def test_search_shows_nobody_what_they_may_not_read(world: World) -> None:
    for caller in world.callers:
        page = world.api(caller).get("/adapters").json
        shown = [item["name"] for item in page["items"]]
        assert ("vault/secret" in shown) == can_read_vault(caller.role), str(caller)
        assert (page["total"] > 0) == can_read_vault(caller.role), str(caller)
        counts = [value["count"] for values in page["facets"].values() for value in values]
        assert any(counts) == can_read_vault(caller.role), str(caller)


def test_an_upload_is_its_beginners_alone(world: World) -> None:
    uploads = world.ids["own_upload"]
    for caller in world.callers:
        api = world.api(caller)
        for token, upload_id in uploads.items():
            same_user = caller.role == next(c.role for c in world.callers if c.token == token)
            may = same_user and is_allowed("PUBLISH", caller.role, caller.scope)
            status = api.call("GET", f"/uploads/{upload_id}").status
            assert (status == 200) == may, f"{caller} on the upload of {token}"


def test_a_token_is_revoked_by_its_owner_or_the_servers_admin(world: World) -> None:
    owner = world.api(world.caller("owner", "admin"))
    made = owner.call("POST", "/tokens", {"name": "t", "scopes": ["read"]}, expect=201).json
    for role in ("outsider", "reader", "publisher"):
        stranger = world.api(world.caller(role, "admin"))
        assert stranger.call("DELETE", f"/tokens/{made['id']}").status == 404
    assert world.api(world.callers[0]).call("DELETE", f"/tokens/{made['id']}").status == 401
    owner.call("DELETE", f"/tokens/{made['id']}", expect=200)
    assert world.admin.as_(made["secret"]).call("GET", "/whoami").status == 401
    world.restore()


@pytest.mark.parametrize("scope", ["read", "publish"])
def test_a_token_can_not_make_a_stronger_one(world: World, scope: str) -> None:
    owner = world.api(world.caller("owner", scope))
    stronger = {"read": "publish", "publish": "admin"}[scope]
    assert owner.call("POST", "/tokens", {"name": "t", "scopes": [stronger]}).status == 403


def test_a_limited_token_can_not_make_an_unlimited_one(world: World) -> None:
    limited = world.api(world.caller("limited", "admin"))
    assert limited.call("POST", "/tokens", {"name": "t", "scopes": ["read"]}).status == 403
    made = limited.call("POST", "/tokens", {"name": "t", "scopes": ["read"], "namespace": "elsewhere"}, expect=201)
    assert made.json["namespace"] == "elsewhere"
    world.restore()


def test_an_import_takes_the_right_to_publish(world: World) -> None:
    body = {"url": "http://127.0.0.1:1/task/qa"}
    for caller in world.callers:
        answer = world.api(caller).call("POST", "/adapters/vault/new/import", body)
        allowed = is_allowed("PUBLISH", caller.role, caller.scope)
        assert (answer.status in {401, 403, 404}) != allowed, f"{caller}: {answer.status} {answer.body!r}"


def test_a_shut_out_user_is_out_at_once(world: World) -> None:
    reader = world.api(world.caller("reader", "read"))
    assert reader.call("GET", "/whoami").status == 200
    world.admin.call("PATCH", "/users/reader", {"disabled": True}, expect=200)
    assert reader.call("GET", "/whoami").status == 401
    world.restore()
