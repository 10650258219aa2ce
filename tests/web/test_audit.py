"""Every mutation writes exactly one audit event, a refused one none, and reading none."""

from __future__ import annotations

from tests.web.routes import routes
from tests.web.world import World


def test_every_mutation_writes_exactly_one_event(world: World) -> None:
    wrong = []
    for route in routes(world):
        before = world.events()
        answer = world.admin.call(route.method, route.url, route.body)
        assert answer.status < 400, f"{route}: {answer.status} {answer.body[:300]!r}"
        written = world.events() - before
        if written != route.events:
            wrong.append(f"{route}: {written} events, not {route.events}")
        world.restore()
    assert not wrong, "\n".join(wrong)


def test_an_event_says_who_did_what_to_which_thing(world: World) -> None:
    publisher = world.api(world.caller("publisher", "publish"))
    publisher.call("POST", "/adapters/vault/secret/versions/v2/yank", {"reason": "bad data"}, expect=200)
    event = world.admin.get("/audit?namespace=vault&limit=1").json["items"][0]
    assert event["user"] == "publisher"
    assert event["target"] == "vault/secret@v2"
    assert event["namespace"] == "vault"
    assert "yank" in event["action"]
    assert "bad data" in str(event["details"])
    world.restore()


def test_doing_nothing_writes_nothing(world: World) -> None:
    """Equal content again, an alias that stands there already: nothing changed, so nothing is told."""
    body = {"manifest": world.ids["manifest"]}
    before = world.events()
    world.admin.call("POST", "/adapters/vault/secret/versions", body, expect=200)
    assert world.events() == before


def test_a_session_is_audited_like_any_mutation(world: World) -> None:
    actor = world.registry.tokens.authenticate(world.caller("reader", "read").token or "")
    before = world.events()
    session = world.registry.sessions.create(actor)
    assert world.events() == before + 1
    world.registry.sessions.end(session.secret)
    assert world.events() == before + 2
    world.restore()


def test_the_log_can_be_paged_back_to_its_beginning(world: World) -> None:
    seen: list[int] = []
    before = ""
    while items := world.admin.get(f"/audit?limit=7{before}").json["items"]:
        seen += [item["id"] for item in items]
        before = f"&before={seen[-1]}"
    assert len(seen) == world.events()
    assert seen == sorted(seen, reverse=True)
