"""Every mutation writes exactly one audit event, and what refuses to mutate writes none."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta

import pytest

from hub.adapter.publication import Publication
from hub.errors import Conflict, Forbidden, HubError
from hub.manifest import BaseIdentity
from hub.registry import service
from hub.registry.rights.access import ANONYMOUS
from tests.registry.world import World, named

QA = named("team/qa")

# the registry's verb -> the event that it writes.  The state it meets is that of `ready`.
MUTATIONS: dict[str, tuple[str, Callable[[World], object]]] = {
    "users.create": ("user.create", lambda w: w.registry.users.create(w.admin, "new")),
    "users.disable": ("user.disable", lambda w: w.registry.users.disable(w.admin, "mia")),
    "tokens.create": ("token.create", lambda w: w.registry.tokens.create(w.admin, "t", expires_in=timedelta(days=1))),
    "tokens.revoke": (
        "token.revoke",
        lambda w: w.registry.tokens.revoke(w.admin, w.registry.tokens.list(w.admin)[0].id),
    ),
    "sessions.create": ("session.create", lambda w: w.registry.sessions.create(w.admin)),
    "sessions.end": ("session.end", lambda w: w.registry.sessions.end(w.notes["session"])),
    "namespaces.create": ("namespace.create", lambda w: w.registry.namespaces.create(w.admin, "fresh")),
    "namespaces.update": ("namespace.update", lambda w: w.registry.namespaces.update(w.admin, "team", private=True)),
    "namespaces.set_member": (
        "namespace.member",
        lambda w: w.registry.namespaces.set_member(w.admin, "team", "mia", "publisher"),
    ),
    "namespaces.set_quota": (
        "namespace.quota",
        lambda w: w.registry.namespaces.set_quota(w.admin, "team", max_bytes=10**9),
    ),
    "versions.publish": (
        "version.publish",
        lambda w: w.registry.versions.publish(w.admin, QA, w.notes["manifest"], Publication(alias="new")),
    ),
    "versions.yank": ("version.yank", lambda w: w.registry.versions.yank(w.admin, QA, 1, "why")),
    "versions.unyank": ("version.unyank", lambda w: w.registry.versions.unyank(w.admin, QA, 2)),
    "versions.deprecate": ("version.deprecate", lambda w: w.registry.versions.deprecate(w.admin, QA, 1, "old")),
    "versions.delete": ("version.delete", lambda w: w.registry.versions.delete(w.admin, QA, 2)),
    "versions.rebind": ("version.rebind", lambda w: w.registry.versions.rebind(w.admin, QA, 1, "tests/tiny-llama")),
    "metrics.set": ("metric.set", lambda w: w.registry.metrics.set(w.admin, QA, 1, "f1", 0.25)),
    "metrics.delete": ("metric.delete", lambda w: w.registry.metrics.delete(w.admin, QA, 1, "accuracy")),
    "aliases.set": ("alias.move", lambda w: w.registry.aliases.set(w.admin, QA, "next", 1)),
    "aliases.delete": ("alias.delete", lambda w: w.registry.aliases.delete(w.admin, QA, "prod")),
    "adapters.create": ("adapter.create", lambda w: w.registry.adapters.create(w.admin, named("team/empty"))),
    "adapters.update": ("adapter.update", lambda w: w.registry.adapters.update(w.admin, QA, private=True)),
    "adapters.deprecate": ("adapter.deprecate", lambda w: w.registry.adapters.deprecate(w.admin, QA, "old")),
    "adapters.delete": ("adapter.delete", lambda w: w.registry.adapters.delete(w.admin, QA)),
    "bases.update": ("base.update", lambda w: w.registry.bases.update(w.admin, "tests/tiny-llama", add_aliases=["t"])),
    "bases.pin": ("base.pin", lambda w: w.registry.bases.pin(w.admin, "tests/tiny-llama", w.notes["marks"])),
    "commits.create": (
        "draft.commit",
        lambda w: w.commit("team/qa", {"a.json": w.notes["blob"]}),
    ),
    "gates.ask": ("access.ask", lambda w: w.registry.gates.ask(w.admin, QA)),
    "gates.grant": ("access.accepted", lambda w: w.registry.gates.grant(w.admin, QA, "mia")),
    "gates.decide": ("access.rejected", lambda w: w.registry.gates.decide(w.admin, QA, "mia", "rejected")),
    "lanes.create_branch": (
        "branch.create",
        lambda w: w.registry.lanes.create_branch(w.admin, QA, "side", w.registry.commits.tree(w.admin, QA).commit.id),
    ),
    "lanes.delete": ("draft.drop", lambda w: w.registry.lanes.delete(w.admin, QA, "draft/admin")),
    "webhooks.create": (
        "webhook.create",
        lambda w: w.registry.webhooks.create(w.admin, "team", "https://example.com/"),
    ),
    "webhooks.delete": ("webhook.delete", lambda w: w.registry.webhooks.delete(w.admin, w.notes["hook"])),
}
# Everything else only reads, or changes nothing that others can see or do (audit.py says what that is).
OTHERS = {
    "users.first_start",  # its own test below
    "versions.import_from",  # publishes: test_importing.py
    *("tokens.authenticate", "users.actor_for", "namespaces.may", "namespaces.roles", "tokens.list"),
    *("sessions.actor", "users.list", "namespaces.get", "namespaces.is_taken", "namespaces.list"),
    *("blobs.missing", "uploads.start", "uploads.get", "uploads.append", "uploads.complete"),
    *("uploads.abort", "blobs.put", "versions.resolve", "versions.list", "versions.children"),
    *("versions.open_file", "versions.count_download", "versions.download_history", "aliases.list"),
    *("aliases.history", "adapters.get", "adapters.search", "bases.list", "bases.get", "commits.tree"),
    *("tokens.user_of", "namespaces.quota_bytes", "adapters.check_gate", "webhooks.prune"),
    *("derived.want", "derived.deriving", "derived.find"),
    *("commits.start", "lanes.drafts", "lanes.branches", "gates.list"),
    *("commits.list", "commits.open_file", "audit.list", "webhooks.list", "webhooks.deliver", "rates.take"),
    *("upkeep.collect", "upkeep.check", "upkeep.backup", "adapters.statistics"),
}


@pytest.fixture
def ready(world: World) -> World:
    world.namespace("team")
    world.user("mia", {"team": "reader"})
    world.push("team/qa", seed=1, alias="prod")
    world.push("team/qa", seed=2)
    world.registry.versions.yank(world.admin, QA, 2, "bad")
    world.registry.adapters.update(world.admin, QA, gated=True)
    world.registry.metrics.set(world.admin, QA, 1, "accuracy", 0.5)
    folder = world.adapter(seed=3)
    world.notes["manifest"] = world.manifest(folder)
    world.send(world.admin, "team/qa", folder, world.notes["manifest"].files)
    world.notes["session"] = world.registry.sessions.create(world.admin).secret
    world.notes["hook"] = world.registry.webhooks.create(world.admin, "team", "https://example.com/hook")[0].id
    world.notes["blob"] = world.put("team/qa", b"{}")
    world.push("team/marked", seed=9, base=BaseIdentity(id="tests/tiny-llama", shapes="sha256:" + "1" * 64))
    world.notes["marks"] = ["sha256:" + "1" * 64]
    return world


def test_every_verb_of_the_registry_is_known_to_mutate_or_not(world: World) -> None:
    nouns = {name: noun for name, noun in vars(world.registry).items() if isinstance(noun, service.Noun)}
    public = {f"{name}.{verb}" for name, noun in nouns.items() for verb in vars(type(noun)) if not verb.startswith("_")}
    assert public == set(MUTATIONS) | OTHERS


def test_each_mutation_writes_exactly_one_event(ready: World) -> None:
    last = [*MUTATIONS]
    # Those that take away what others need go last.
    for name in (
        "versions.yank",
        "metrics.delete",
        "versions.delete",
        "adapters.delete",
        "tokens.revoke",
        "users.disable",
    ):
        last.append(last.pop(last.index(name)))
    for name in last:
        action, mutate = MUTATIONS[name]
        before = ready.registry.audit.list(ready.admin, limit=1)[0].id
        mutate(ready)
        events = [event for event in ready.registry.audit.list(ready.admin) if event.id > before]
        assert [event.action for event in events] == [action], name
        assert (events[0].user, events[0].at) == ("admin", ready.clock.now)


def test_refused_or_failing_mutation_writes_no_event(ready: World) -> None:
    reader = ready.user("rita", {"team": "reader"}, scopes=["read"])
    before = ready.registry.audit.list(ready.admin, limit=1)[0].id
    for attempt in (
        lambda: ready.registry.versions.yank(reader, QA, 1, "why"),
        lambda: ready.registry.aliases.set(ready.admin, QA, "next", 99),
        lambda: ready.registry.versions.delete(ready.admin, QA, 1),
        lambda: ready.registry.namespaces.create(ready.admin, "team"),
        lambda: ready.registry.blobs.put(ready.admin, QA, io.BytesIO(b"x"), "0" * 64, 1),
    ):
        with pytest.raises(HubError):
            attempt()
    assert ready.registry.audit.list(ready.admin, limit=1)[0].id == before


def test_same_content_again_is_no_event(ready: World) -> None:
    manifest = ready.notes["manifest"]
    ready.registry.versions.publish(ready.admin, QA, manifest)
    before = ready.registry.audit.list(ready.admin, limit=1)[0].id
    assert not ready.registry.versions.publish(ready.admin, QA, manifest).created
    assert ready.registry.audit.list(ready.admin, limit=1)[0].id == before


def test_owners_read_their_namespaces_events_and_no_others(ready: World) -> None:
    owner = ready.user("olga", {"team": "owner"}, scopes=["read", "publish", "admin"])
    ready.push("other/thing", seed=9)
    events = ready.registry.audit.list(owner, "team")
    assert {event.namespace for event in events} == {"team"}
    assert events[-1].action == "namespace.create"
    page = ready.registry.audit.list(owner, "team", limit=2)
    assert [event.id for event in ready.registry.audit.list(owner, "team", before=page[-1].id)] == [
        event.id for event in events[2:]
    ]
    for attempt in (lambda: ready.registry.audit.list(owner, "other"), lambda: ready.registry.audit.list(owner)):
        with pytest.raises(Forbidden):
            attempt()


def test_first_start_makes_one_admin_once(world: World) -> None:
    assert world.registry.users.first_start() is None
    assert [event.action for event in world.registry.audit.list(world.admin)] == ["server.start"]
    assert [user.name for user in world.registry.users.list(world.admin)] == ["admin"]


def test_no_secret_is_ever_in_the_log(ready: World) -> None:
    made = ready.registry.tokens.create(ready.admin, "canary", ["read"])
    hook, secret = ready.registry.webhooks.create(ready.admin, "team", "https://example.com/x")
    text = repr(ready.registry.audit.list(ready.admin)) + repr(ready.registry.webhooks.list(ready.admin, "team"))
    for canary in (made.secret, secret, ready.notes["session"]):
        assert canary not in text
    assert hook.id


def test_event_and_mutation_land_together_or_not_at_all(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise Conflict("the log is closed")

    monkeypatch.setattr("hub.registry.events.audit.record", fail)
    with pytest.raises(Conflict):
        ready.registry.versions.yank(ready.admin, QA, 1, "why")
    monkeypatch.undo()
    assert ready.registry.versions.list(ANONYMOUS, QA)[1].yanked is None
