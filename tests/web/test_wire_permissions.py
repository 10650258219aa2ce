"""The Hugging Face wire: role x scope x every route x method, and one audit event per mutation, from the URL map."""

from __future__ import annotations

from tests.web.api import Answer
from tests.web.routes import PUBLIC, SELF, Route, can_read_vault, is_allowed
from tests.web.url_map import served_routes
from tests.web.wire_routes import REFUSED_TO_ALL, wire_routes
from tests.web.world import Caller, World

ELSEWHERE = {
    # Signed or made for one upload: tests/hf/test_signing.py and test_xet_uploads.py have them.
    ("/api/lfs", "PUT"),
    ("/api/lfs", "POST"),
    ("/api/xet/<period>/<space>/v1/chunks/<prefix>/<name>", "GET"),
    ("/api/xet/<period>/<space>/v1/shards", "POST"),
    ("/api/xet/<period>/<space>/v1/xorbs/<prefix>/<name>", "POST"),
    ("/api/xet/read/v1/packs", "GET"),
    ("/api/xet/read/v1/reconstructions/<sha256>", "GET"),
    # They tell of the same adapters as the search, filtered by the same query; of people, their names.
    ("/api/organizations/<namespace>/overview", "GET"),
    ("/api/organizations/<namespace>/settings/repositories", "GET"),
    ("/api/users/<namespace>/overview", "GET"),
    ("/api/agent-harnesses", "GET"),
    # The same view as the route without a path.
    ("/api/models/<namespace>/<name>/tree/<revision>/<path>", "GET"),
}


def wire_rules(world: World) -> set[tuple[str, str]]:
    """The wire's part of the URL map, without what answers that there is nothing."""
    return {
        (path, method)
        for endpoint, path, method in served_routes(world.app)
        if endpoint.startswith("hf.") and "missing" not in endpoint
    }


def ask(world: World, caller: Caller, method: str, url: str, body: object) -> Answer:
    api = world.api(caller)
    if not url.startswith("/api"):
        headers = {"Authorization": f"Bearer {caller.token}"} if caller.token else {}
        raw = None if body is None else world.app.json.dumps(body).encode()
        return api.sender.send(method, url, headers | {"Content-Type": "application/json"}, raw)
    if isinstance(body, bytes):
        return api.call(method, url, body=body, headers={"Content-Type": "application/x-ndjson"})
    return api.call(method, url, body)


def test_every_route_says_who_may_use_it(world: World) -> None:
    described = {(route.rule, route.method) for route in wire_routes(world)} | ELSEWHERE
    assert wire_rules(world) == described | {(rule, method) for method, rule, _, _ in REFUSED_TO_ALL}


def test_everybody_may_do_exactly_what_the_table_says(world: World) -> None:
    wrong = []
    for route in wire_routes(world):
        for caller in world.callers:
            wrong += check(world, route, caller)
    assert not wrong, "\n".join(wrong)


def check(world: World, route: Route, caller: Caller) -> list[str]:
    before = world.events()
    answer = ask(world, caller, route.method, route.url, route.body)
    written = world.events() - before
    if answer.status < 400 or written:
        world.restore()
    if is_allowed(route.needs, caller.role, caller.scope):
        done = answer.status < 400 and written == route.events
        return [] if done else [f"{route} by {caller}: {answer.status}, {written} events, {answer.body[:200]!r}"]
    problems = [f"{route} by {caller}: refused, yet it wrote {written} events"] if written else []
    if answer.status not in {401, 403, 404}:
        problems.append(f"{route} by {caller}: allowed, {answer.status}")
    if route.needs not in {PUBLIC, SELF} and not can_read_vault(caller.role) and "vault" in route.url:
        missing = ask(world, caller, route.method, route.url.replace("vault", "nobody"), route.body)
        if missing.status != answer.status:
            problems.append(f"{route} by {caller}: {answer.status}, but {missing.status} where there is nothing")
    return problems


def test_what_versions_do_not_have_is_refused_to_everybody(world: World) -> None:
    before = world.events()
    for method, _, url, body in REFUSED_TO_ALL:
        for caller in world.callers:
            assert 400 <= ask(world, caller, method, url, body).status < 500, (method, url, str(caller))
    assert world.events() == before


def test_lists_show_nobody_what_they_may_not_read(world: World) -> None:
    addresses = ("/api/models", "/api/organizations/vault/settings/repositories", "/api/settings/repositories")
    for caller in world.callers:
        for url in addresses:
            answer = ask(world, caller, "GET", url, None)
            if not can_read_vault(caller.role):
                assert b"vault/secret" not in answer.body, (url, str(caller))
