"""Who may do what: the table of access.py, held against every kind of call."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta

import pytest

from hub.errors import (
    AdapterNotFound,
    Conflict,
    Forbidden,
    HubError,
    InvalidRequest,
    NamespaceNotFound,
    NotFound,
    TokenNotFound,
    Unauthenticated,
)
from hub.registry.library.drafts import Change
from hub.registry.rights.access import ANONYMOUS, Action, Actor
from hub.registry.service import Registry
from hub.registry.values import Query, Role, Scope
from tests.registry.world import World, named, ref

QA = named("team/qa")
Call = Callable[[Registry, Actor], object]


def publish_again(registry: Registry, actor: Actor) -> object:
    return registry.versions.publish(actor, QA, registry.versions.resolve(actor, ref("team/qa@v1")).manifest)


def branch_and_back(registry: Registry, actor: Actor) -> object:
    registry.lanes.create_branch(actor, QA, "side", registry.commits.tree(actor, QA).commit.id)
    return registry.lanes.delete(actor, QA, "side")


# One call of each action that the table has a row for.
CALLS: dict[str, tuple[Action, Call]] = {
    "resolve": (Action.READ, lambda r, a: r.versions.resolve(a, ref("team/qa@v1"))),
    "adapter": (Action.READ, lambda r, a: r.adapters.get(a, QA)),
    "versions": (Action.READ, lambda r, a: r.versions.list(a, QA)),
    "open_file": (Action.READ, lambda r, a: r.versions.open_file(a, ref("team/qa@v1"), "adapter_config.json")),
    "tree": (Action.READ, lambda r, a: r.commits.tree(a, QA)),
    "commits": (Action.READ, lambda r, a: r.commits.list(a, QA)),
    "aliases": (Action.READ, lambda r, a: r.aliases.list(a, QA)),
    "alias_history": (Action.READ, lambda r, a: r.aliases.history(a, QA)),
    "download_history": (Action.READ, lambda r, a: r.versions.download_history(a, QA)),
    "namespace": (Action.READ, lambda r, a: r.namespaces.get(a, "team")),
    "missing_blobs": (Action.PUBLISH, lambda r, a: r.blobs.missing(a, QA, [("0" * 64, 1)])),
    "start_upload": (Action.PUBLISH, lambda r, a: r.uploads.start(a, QA, "0" * 64, 1)),
    "put_blob": (Action.PUBLISH, lambda r, a: r.blobs.put(a, QA, io.BytesIO(b"x"))),
    "publish": (
        Action.PUBLISH,
        publish_again,
    ),
    "commit": (Action.PUBLISH, lambda r, a: r.commits.create(a, QA, Change(lambda _: {}))),
    "commit_start": (Action.READ, lambda r, a: r.commits.start(a, QA)),
    "drafts": (Action.READ, lambda r, a: r.lanes.drafts(a, QA)),
    "branches": (Action.READ, lambda r, a: r.lanes.branches(a, QA)),
    "branch": (Action.PUBLISH, branch_and_back),
    "set_alias": (Action.PUBLISH, lambda r, a: r.aliases.set(a, QA, "free", 1)),
    "yank": (Action.PUBLISH, lambda r, a: r.versions.yank(a, QA, 1, "why")),
    "unyank": (Action.PUBLISH, lambda r, a: r.versions.unyank(a, QA, 1)),
    "set_metric": (Action.PUBLISH, lambda r, a: r.metrics.set(a, QA, 1, "f1", 0.5)),
    "deprecate_version": (Action.PUBLISH, lambda r, a: r.versions.deprecate(a, QA, 1, "old")),
    "deprecate_adapter": (Action.PUBLISH, lambda r, a: r.adapters.deprecate(a, QA, "old")),
    "update_adapter": (Action.OWN, lambda r, a: r.adapters.update(a, QA)),
    "protect": (Action.OWN, lambda r, a: r.aliases.set(a, QA, "kept", 1, protected=True)),
    "rebind": (Action.OWN, lambda r, a: r.versions.rebind(a, QA, 1, "tests/tiny-llama")),
    "delete_version": (Action.OWN, lambda r, a: r.versions.delete(a, QA, 2)),
    "update_namespace": (Action.MANAGE, lambda r, a: r.namespaces.update(a, "team", description="x")),
    "set_member": (Action.MANAGE, lambda r, a: r.namespaces.set_member(a, "team", "member", "reader")),
    "audit_log": (Action.MANAGE, lambda r, a: r.audit.list(a, "team")),
    "create_webhook": (Action.MANAGE, lambda r, a: r.webhooks.create(a, "team", "https://example.com/hook")),
    "webhooks": (Action.MANAGE, lambda r, a: r.webhooks.list(a, "team")),
    "create_user": (Action.SITE, lambda r, a: r.users.create(a, "newcomer")),
    "users": (Action.SITE, lambda r, a: r.users.list(a)),
    "create_namespace": (Action.SITE, lambda r, a: r.namespaces.create(a, "fresh")),
    "set_quota": (Action.SITE, lambda r, a: r.namespaces.set_quota(a, "team", max_bytes=10**9)),
    "pin": (Action.SITE, lambda r, a: r.bases.pin(a, "tests/tiny-llama", [])),
    "update_base": (Action.SITE, lambda r, a: r.bases.update(a, "tests/tiny-llama", add_aliases=["tiny"])),
    "audit_of_all": (Action.SITE, lambda r, a: r.audit.list(a)),
}
ROLES: tuple[Role | None, ...] = (None, "reader", "publisher", "owner")
RANK = {None: 0, "reader": 1, "publisher": 2, "owner": 3}
SCOPES: tuple[Scope, ...] = ("read", "publish", "admin")


def outcome(call: Call, registry: Registry, actor: Actor) -> str:
    try:
        call(registry, actor)
    except (Unauthenticated, Forbidden):
        return "refused"
    except NotFound:
        return "not found"
    return "done"


def expected(action: Action, role: Role | None, scope: Scope, *, private: bool) -> str:
    """What the table in access.py says, written down a second time."""
    wide_enough = SCOPES.index(scope) >= SCOPES.index(action.scope)
    if action is Action.SITE:
        return "refused"
    readable = not private or RANK[role] >= 1
    if not readable:
        return "not found"
    if action is Action.READ:
        return "done"
    assert action.role is not None
    return "done" if wide_enough and RANK[role] >= RANK[action.role] else "refused"


@pytest.fixture(params=[False, True], ids=["public", "private"])
def team(request: pytest.FixtureRequest, world: World) -> World:
    world.namespace("team", private=bool(request.param))
    world.push("team/qa", seed=1)
    world.push("team/qa", seed=2)
    world.user("member", {"team": "reader"})
    return world


def test_roles_and_scopes_allow_what_the_table_says(team: World) -> None:
    private = team.registry.namespaces.get(team.admin, "team").private
    wrong = []
    for role in ROLES:
        for scope in SCOPES:
            actor = team.user(f"u-{role}".lower(), {"team": role} if role else {}, scopes=[scope])
            for name, (action, call) in CALLS.items():
                if name == "delete_version" and expected(action, role, scope, private=private) == "done":
                    team.push("team/qa", seed=50 + team._made)  # one to spare, so that v2 may go
                    continue
                got, want = outcome(call, team.registry, actor), expected(action, role, scope, private=private)
                if got != want:
                    wrong.append(f"{role}/{scope}: {name} is {got}, not {want}")
    assert wrong == []


def test_anonymous_callers_read_what_is_public_and_nothing_else(team: World) -> None:
    private = team.registry.namespaces.get(team.admin, "team").private
    for name, (action, call) in CALLS.items():
        got = outcome(call, team.registry, ANONYMOUS)
        if action is Action.READ:
            assert got == ("not found" if private else "done"), name
        else:
            assert got in {"refused", "not found"}, name


def test_token_for_one_namespace_does_nothing_in_another(world: World) -> None:
    world.namespace("team")
    world.namespace("other")
    world.push("team/qa")
    world.push("other/qa", private=True)
    roles: dict[str, Role] = {"team": "owner", "other": "owner"}
    actor = world.user("olga", roles, scopes=SCOPES, namespace="team")
    assert world.push("team/new", seed=3, actor=actor).created
    with pytest.raises(Forbidden, match="'team'"):
        world.registry.blobs.put(actor, named("other/new"), io.BytesIO(b"x"))
    with pytest.raises(AdapterNotFound):
        world.registry.versions.resolve(actor, ref("other/qa"))
    with pytest.raises(Forbidden):
        world.registry.tokens.create(actor, "wider", ["read"])
    assert world.registry.tokens.create(actor, "same", ["read"], namespace="team").token.namespace == "team"


def test_admins_token_for_one_namespace_is_no_admins_token(world: World) -> None:
    limited = world.registry.tokens.create(world.admin, "limited", SCOPES, namespace="team")
    actor = world.registry.tokens.authenticate(limited.secret)
    assert world.push("team/qa", actor=actor).created
    with pytest.raises(Forbidden):
        world.registry.users.create(actor, "more")
    with pytest.raises(NamespaceNotFound):
        world.push("elsewhere/qa", seed=2, actor=actor)


def test_private_and_missing_things_look_the_same(world: World) -> None:
    world.push("vault/model", private=True)
    world.namespace("hidden", private=True)
    outsider = world.user("tom", {}, scopes=SCOPES)
    for actor in (ANONYMOUS, outsider):
        for call in (
            lambda a, name: world.registry.adapters.get(a, named(name)),
            lambda a, name: world.registry.versions.resolve(a, ref(f"{name}@v1")),
            lambda a, name: world.registry.commits.tree(a, named(name)),
            lambda a, name: world.registry.versions.list(a, named(name)),
        ):
            messages = []
            for name in ("vault/model", "vault/ghost"):
                with pytest.raises(AdapterNotFound) as caught:
                    call(actor, name)
                messages.append(str(caught.value).replace(name, "NAME"))
            assert messages[0] == messages[1]
    texts = []
    for name in ("hidden", "absent"):
        with pytest.raises(NamespaceNotFound) as missing:
            world.registry.namespaces.get(outsider, name)
        texts.append(str(missing.value).replace(name, "NAME"))
    assert texts[0] == texts[1]
    assert world.registry.adapters.search(outsider, Query(text="model")).total == 0


def test_revoked_expired_and_unknown_tokens_are_refused(world: World) -> None:
    made = world.registry.tokens.create(world.admin, "short", ["read"], expires_in=timedelta(hours=1))
    actor = world.registry.tokens.authenticate(made.secret)
    assert actor.token_name == "short"
    world.clock.forward(minutes=61)
    with pytest.raises(Unauthenticated, match="expired"):
        world.registry.tokens.authenticate(made.secret)
    kept = world.registry.tokens.create(world.admin, "kept", ["read"])
    world.registry.tokens.revoke(world.admin, kept.token.id)
    with pytest.raises(Unauthenticated, match="revoked"):
        world.registry.tokens.authenticate(kept.secret)
    for nonsense in ("lhub_" + "A" * 43, "lhub_", "hf_abc", "", "' OR 1=1 --"):
        with pytest.raises(Unauthenticated):
            world.registry.tokens.authenticate(nonsense)


def test_clock_that_is_a_day_off_only_bounds_tokens(world: World) -> None:
    made = world.registry.tokens.create(world.admin, "hour", ["read"], expires_in=timedelta(hours=1))
    world.clock.forward(days=-1)
    assert world.registry.tokens.authenticate(made.secret).user == "admin"
    world.push("task/qa", seed=1)
    world.clock.forward(days=2)
    world.push("task/qa", seed=2)
    world.clock.forward(days=-3)
    # Pushed last, by a clock that says it was first.
    world.push("task/qa", seed=3)
    assert [version.number for version in world.registry.versions.list(ANONYMOUS, named("task/qa"))] == [3, 2, 1]
    assert world.registry.versions.resolve(ANONYMOUS, ref("task/qa")).number == 3
    assert [event.id for event in world.registry.audit.list(world.admin)] == sorted(
        (event.id for event in world.registry.audit.list(world.admin)), reverse=True
    )


def test_token_shows_when_it_was_used_and_never_its_secret(world: World) -> None:
    made = world.registry.tokens.create(world.admin, "ci", ["read", "publish"])
    assert made.token.last_used_at is None
    world.registry.tokens.authenticate(made.secret)
    shown = next(token for token in world.registry.tokens.list(world.admin) if token.name == "ci")
    assert shown.last_used_at == world.clock.now
    assert made.secret not in repr(shown)
    assert made.secret.encode() not in b"".join(
        path.read_bytes() for path in world.folder.glob("registry.sqlite3*") if path.is_file()
    )


def test_token_can_give_no_more_than_it_has(world: World) -> None:
    publisher = world.user("pia", {}, scopes=["publish"])
    with pytest.raises(Forbidden):
        world.registry.tokens.create(publisher, "more", ["read"])
    admin_scope = world.user("ada", {}, scopes=["read", "admin"])
    made = world.registry.tokens.create(admin_scope, "all", ["admin"])
    assert not world.registry.tokens.authenticate(made.secret).admin, "scope admin does not make a server's admin"
    with pytest.raises(InvalidRequest):
        world.registry.tokens.create(admin_scope, "odd", ["root"])  # type: ignore[list-item]
    with pytest.raises(TokenNotFound):
        world.registry.tokens.revoke(publisher, made.token.id)


def test_user_who_is_shut_out_is_out_at_once(world: World) -> None:
    made = world.registry.tokens.create(
        world.admin, "x", ["read"], user=world.registry.users.create(world.admin, "eve").name
    )
    session = world.registry.sessions.create(world.registry.tokens.authenticate(made.secret))
    world.registry.users.disable(world.admin, "eve")
    for attempt in (
        lambda: world.registry.tokens.authenticate(made.secret),
        lambda: world.registry.sessions.actor(session.secret),
        lambda: world.registry.users.actor_for("eve"),
    ):
        with pytest.raises(Unauthenticated):
            attempt()
    world.registry.users.disable(world.admin, "eve", disabled=False)
    assert world.registry.tokens.authenticate(made.secret).user == "eve"
    with pytest.raises(Conflict):
        world.registry.users.disable(world.admin, "admin")


def test_role_that_is_taken_away_ends_a_running_upload(world: World) -> None:
    world.namespace("team")
    actor = world.user("pia", {"team": "publisher"})
    upload = world.registry.uploads.start(actor, named("team/qa"), "0" * 64, 10)
    world.registry.namespaces.set_member(world.admin, "team", "pia", None)
    with pytest.raises(Forbidden):
        world.registry.uploads.append(actor, upload.id, 0, io.BytesIO(b"0123456789"))


def test_last_owner_cannot_go(world: World) -> None:
    world.namespace("team")
    with pytest.raises(Conflict, match="last owner"):
        world.registry.namespaces.set_member(world.admin, "team", "admin", "reader")
    world.user("olga", {"team": "owner"})
    assert len(world.registry.namespaces.set_member(world.admin, "team", "admin", None).members) == 1


def test_web_session_has_the_rights_of_its_token_and_ends_with_it(world: World) -> None:
    made = world.registry.tokens.create(world.admin, "web", ["read"])
    session = world.registry.sessions.create(world.registry.tokens.authenticate(made.secret))
    actor = world.registry.sessions.actor(session.secret)
    assert (actor.user, actor.scopes) == ("admin", frozenset({"read"}))
    world.registry.tokens.revoke(world.admin, made.token.id)
    with pytest.raises(Unauthenticated):
        world.registry.sessions.actor(session.secret)


def test_web_session_ends_by_logout_and_by_time(world: World) -> None:
    first, second = (world.registry.sessions.create(world.admin) for _ in range(2))
    assert first.secret != second.secret
    world.registry.sessions.end(first.secret)
    world.registry.sessions.end("unknown")
    with pytest.raises(Unauthenticated):
        world.registry.sessions.actor(first.secret)
    world.clock.forward(days=8)
    with pytest.raises(Unauthenticated):
        world.registry.sessions.actor(second.secret)


def test_gated_adapter_shows_its_card_to_all_and_its_files_to_members(world: World) -> None:
    world.namespace("team")
    world.push("team/qa", world.adapter(readme="# Hello\n"))
    world.registry.adapters.update(world.admin, QA, gated=True)
    outsider, member = world.user("tom", {}), world.user("mia", {"team": "reader"})
    assert world.registry.versions.resolve(outsider, ref("team/qa"), for_card=True).number == 1
    with pytest.raises(Forbidden, match="gated"):
        world.registry.versions.resolve(outsider, ref("team/qa"))
    for actor in (ANONYMOUS, outsider):
        world.registry.versions.open_file(actor, ref("team/qa"), "README.md")
        with pytest.raises(Forbidden, match="gated"):
            world.registry.versions.open_file(actor, ref("team/qa"), "adapter_model.safetensors")
    world.registry.versions.open_file(member, ref("team/qa"), "adapter_model.safetensors")
    wanted = [(f.sha256, f.size) for f in world.registry.versions.resolve(member, ref("team/qa")).manifest.files]
    assert len(world.registry.blobs.missing(outsider, named("tom/copy"), wanted)) >= 2, (
        "gated bytes stay behind the gate"
    )


def test_errors_are_the_hubs_own_for_odd_names(world: World) -> None:
    for attempt in (
        lambda: world.registry.namespaces.get(ANONYMOUS, "UPPER"),
        lambda: world.registry.users.create(world.admin, "a/b"),
        lambda: world.registry.namespaces.create(world.admin, ".."),
        lambda: world.registry.bases.get(ANONYMOUS, "x" * 5000),
    ):
        with pytest.raises(HubError):
            attempt()


def test_a_nul_in_a_text_is_the_callers_mistake_on_every_database(world: World) -> None:
    registry, owner = world.registry, world.admin
    calls: tuple[Callable[[], object], ...] = (
        lambda: registry.adapters.search(owner, Query(text="a\0b")),
        lambda: registry.bases.get(owner, "a\0b"),
        lambda: registry.commits.tree(owner, QA, "a\0b"),
        lambda: registry.namespaces.get(owner, "a\0b"),
        lambda: registry.versions.yank(owner, QA, 1, "a\0b"),
    )
    assert [status for call in calls if (status := status_of(call)) >= 500] == []


def status_of(call: Callable[[], object]) -> int:
    try:
        call()
    except HubError as error:
        return error.status
    return 200
