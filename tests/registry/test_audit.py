"""Every mutation writes exactly one audit event, and what refuses to mutate writes none."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta

import pytest

from hub.errors import Conflict, Forbidden, HubError
from hub.registry.rights.access import ANONYMOUS
from hub.registry.service import Registry
from tests.registry.world import World, named

QA = named("team/qa")

# name of the facade's method -> the event that it writes.  The state it meets is that of `ready`.
MUTATIONS: dict[str, tuple[str, Callable[[World], object]]] = {
    "create_user": ("user.create", lambda w: w.registry.create_user(w.admin, "new", password="long enough a word")),
    "set_password": ("user.password", lambda w: w.registry.set_password(w.admin, "mia", "long enough a word")),
    "disable_user": ("user.disable", lambda w: w.registry.disable_user(w.admin, "mia")),
    "create_token": ("token.create", lambda w: w.registry.create_token(w.admin, "t", expires_in=timedelta(days=1))),
    "revoke_token": ("token.revoke", lambda w: w.registry.revoke_token(w.admin, w.registry.tokens(w.admin)[0].id)),
    "create_session": ("session.create", lambda w: w.registry.create_session(w.admin)),
    "end_session": ("session.end", lambda w: w.registry.end_session(w.notes["session"])),
    "create_namespace": ("namespace.create", lambda w: w.registry.create_namespace(w.admin, "fresh")),
    "update_namespace": ("namespace.update", lambda w: w.registry.update_namespace(w.admin, "team", private=True)),
    "set_member": ("namespace.member", lambda w: w.registry.set_member(w.admin, "team", "mia", "publisher")),
    "set_quota": ("namespace.quota", lambda w: w.registry.set_quota(w.admin, "team", max_bytes=10**9)),
    "publish": ("version.publish", lambda w: w.registry.publish(w.admin, QA, w.notes["manifest"], alias="new")),
    "yank": ("version.yank", lambda w: w.registry.yank(w.admin, QA, 1, "why")),
    "unyank": ("version.unyank", lambda w: w.registry.unyank(w.admin, QA, 2)),
    "deprecate_version": ("version.deprecate", lambda w: w.registry.deprecate_version(w.admin, QA, 1, "old")),
    "delete_version": ("version.delete", lambda w: w.registry.delete_version(w.admin, QA, 2)),
    "rebind": ("version.rebind", lambda w: w.registry.rebind(w.admin, QA, 1, "tests/tiny-llama")),
    "set_metric": ("metric.set", lambda w: w.registry.set_metric(w.admin, QA, 1, "f1", 0.25)),
    "delete_metric": ("metric.delete", lambda w: w.registry.delete_metric(w.admin, QA, 1, "accuracy")),
    "set_alias": ("alias.move", lambda w: w.registry.set_alias(w.admin, QA, "next", 1)),
    "delete_alias": ("alias.delete", lambda w: w.registry.delete_alias(w.admin, QA, "prod")),
    "create_adapter": ("adapter.create", lambda w: w.registry.create_adapter(w.admin, named("team/empty"))),
    "update_adapter": ("adapter.update", lambda w: w.registry.update_adapter(w.admin, QA, private=True)),
    "deprecate_adapter": ("adapter.deprecate", lambda w: w.registry.deprecate_adapter(w.admin, QA, "old")),
    "delete_adapter": ("adapter.delete", lambda w: w.registry.delete_adapter(w.admin, QA)),
    "update_base": ("base.update", lambda w: w.registry.update_base(w.admin, "tests/tiny-llama", add_aliases=["t"])),
    "commit_tree": ("draft.commit", lambda w: w.registry.commit_tree(w.admin, QA, None, {"a.json": w.notes["blob"]})),
    "create_webhook": ("webhook.create", lambda w: w.registry.create_webhook(w.admin, "team", "https://example.com/")),
    "delete_webhook": ("webhook.delete", lambda w: w.registry.delete_webhook(w.admin, w.notes["hook"])),
}
# Everything else only reads, or changes nothing that others can see or do (audit.py says what that is).
OTHERS = {
    "first_start",  # its own test below
    "import_version",  # publishes: test_importing.py
    *("open", "close", "check_ready", "warnings", "secret_key", "authenticate", "actor_for_user", "may", "roles"),
    *("tokens", "session_actor", "login", "users", "namespace", "knows_namespace", "namespaces", "missing_blobs"),
    *("start_upload", "upload", "append", "complete_upload", "abort_upload", "put_blob", "resolve", "versions"),
    *("children", "open_file", "count_download", "download_history", "aliases", "alias_history", "adapter", "search"),
    *("bases", "base", "tree", "commits", "open_at", "audit_log", "webhooks", "deliver_webhooks", "take_rate"),
    *("collect_garbage", "check_storage", "backup", "statistics", "context"),
}


@pytest.fixture
def ready(world: World) -> World:
    world.namespace("team")
    world.user("mia", {"team": "reader"})
    world.push("team/qa", seed=1, alias="prod")
    world.push("team/qa", seed=2)
    world.registry.yank(world.admin, QA, 2, "bad")
    world.registry.set_metric(world.admin, QA, 1, "accuracy", 0.5)
    folder = world.adapter(seed=3)
    world.notes["manifest"] = world.manifest(folder)
    world.send(world.admin, "team/qa", folder, world.notes["manifest"].files)
    world.notes["session"] = world.registry.create_session(world.admin).secret
    world.notes["hook"] = world.registry.create_webhook(world.admin, "team", "https://example.com/hook")[0].id
    world.notes["blob"] = world.put("team/qa", b"{}")
    return world


def test_every_method_of_the_facade_is_known_to_mutate_or_not() -> None:
    public = {name for name in vars(Registry) if not name.startswith("_")}
    assert public == (set(MUTATIONS) | OTHERS) - {"context"}


def test_each_mutation_writes_exactly_one_event(ready: World) -> None:
    last = [*MUTATIONS]
    # Those that take away what others need go last.
    for name in ("yank", "delete_metric", "delete_version", "delete_adapter", "revoke_token", "disable_user"):
        last.append(last.pop(last.index(name)))
    for name in last:
        action, mutate = MUTATIONS[name]
        before = ready.registry.audit_log(ready.admin, limit=1)[0].id
        mutate(ready)
        events = [event for event in ready.registry.audit_log(ready.admin) if event.id > before]
        assert [event.action for event in events] == [action], name
        assert (events[0].user, events[0].at) == ("admin", ready.clock.now)


def test_refused_or_failing_mutation_writes_no_event(ready: World) -> None:
    reader = ready.user("rita", {"team": "reader"}, scopes=["read"])
    before = ready.registry.audit_log(ready.admin, limit=1)[0].id
    for attempt in (
        lambda: ready.registry.yank(reader, QA, 1, "why"),
        lambda: ready.registry.set_alias(ready.admin, QA, "next", 99),
        lambda: ready.registry.delete_version(ready.admin, QA, 1),
        lambda: ready.registry.create_namespace(ready.admin, "team"),
        lambda: ready.registry.put_blob(ready.admin, QA, io.BytesIO(b"x"), "0" * 64, 1),
        lambda: ready.registry.set_password(reader, "admin", "long enough a word"),
    ):
        with pytest.raises(HubError):
            attempt()
    assert ready.registry.audit_log(ready.admin, limit=1)[0].id == before


def test_same_content_again_is_no_event(ready: World) -> None:
    manifest = ready.notes["manifest"]
    ready.registry.publish(ready.admin, QA, manifest)
    before = ready.registry.audit_log(ready.admin, limit=1)[0].id
    assert not ready.registry.publish(ready.admin, QA, manifest).created
    assert ready.registry.audit_log(ready.admin, limit=1)[0].id == before


def test_owners_read_their_namespaces_events_and_no_others(ready: World) -> None:
    owner = ready.user("olga", {"team": "owner"}, scopes=["read", "publish", "admin"])
    ready.push("other/thing", seed=9)
    events = ready.registry.audit_log(owner, "team")
    assert {event.namespace for event in events} == {"team"}
    assert events[-1].action == "namespace.create"
    page = ready.registry.audit_log(owner, "team", limit=2)
    assert [event.id for event in ready.registry.audit_log(owner, "team", before=page[-1].id)] == [
        event.id for event in events[2:]
    ]
    for attempt in (lambda: ready.registry.audit_log(owner, "other"), lambda: ready.registry.audit_log(owner)):
        with pytest.raises(Forbidden):
            attempt()


def test_first_start_makes_one_admin_once(world: World) -> None:
    assert world.registry.first_start() is None
    assert [event.action for event in world.registry.audit_log(world.admin)] == ["server.start"]
    assert [user.name for user in world.registry.users(world.admin)] == ["admin"]


def test_no_secret_is_ever_in_the_log(ready: World) -> None:
    made = ready.registry.create_token(ready.admin, "canary", ["read"])
    hook, secret = ready.registry.create_webhook(ready.admin, "team", "https://example.com/x")
    ready.registry.set_password(ready.admin, "mia", "canary-canary-canary")
    text = repr(ready.registry.audit_log(ready.admin)) + repr(ready.registry.webhooks(ready.admin, "team"))
    for canary in (made.secret, secret, "canary-canary-canary", ready.notes["session"]):
        assert canary not in text
    assert hook.id


def test_event_and_mutation_land_together_or_not_at_all(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise Conflict("the log is closed")

    monkeypatch.setattr("hub.registry.events.audit.record", fail)
    with pytest.raises(Conflict):
        ready.registry.yank(ready.admin, QA, 1, "why")
    monkeypatch.undo()
    assert ready.registry.versions(ANONYMOUS, QA)[1].yanked is None
