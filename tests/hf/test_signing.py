"""Signed addresses and tokens: for one purpose, one adapter, a short time, and no more rights than their maker has."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from flask import Flask

from hub.errors import Forbidden, HubError
from hub.refs import AdapterName
from hub.registry.rights.access import ANONYMOUS, Action, Actor
from hub.registry.service import Registry
from hub.registry.values import Scope
from hub.settings import ServerSettings
from hub.web.app import create_app
from hub.web.hf import signing

REPO = AdapterName.parse("team/qa")
REFUSED = Forbidden("no")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    used = ServerSettings.from_env({}, data=tmp_path_factory.mktemp("signing"))
    registry = Registry.open(used)
    made = registry.users.first_start()
    assert made is not None
    admin = registry.tokens.authenticate(made.secret)
    registry.users.create(admin, "pia")
    registry.namespaces.create(admin, "team")
    registry.namespaces.set_member(admin, "team", "pia", "publisher")
    application = create_app(registry, used)
    application.extensions["test.registry"], application.extensions["test.admin"] = registry, admin
    yield application
    registry.close()


def actor_with_token(app: Flask, scopes: tuple[Scope, ...]) -> Actor:
    registry: Registry = app.extensions["test.registry"]
    made = registry.tokens.create(app.extensions["test.admin"], "pia's", scopes, user="pia")
    return registry.tokens.authenticate(made.secret)


def test_who_has_the_key_but_no_token_signs_nothing(app: Flask) -> None:
    registry = app.extensions["test.registry"]
    with app.app_context():
        forged = signing.sign("lfs", registry.users.actor_for("admin", ("publish",)), REPO)
        with pytest.raises(Forbidden):
            signing.read("lfs", forged, 60, REFUSED)


def test_a_signature_stands_for_its_maker_and_what_was_noted(app: Flask) -> None:
    pia = actor_with_token(app, ("read", "publish"))
    with app.app_context():
        grant = signing.read("xet", signing.sign("xet", pia, REPO, space="s"), 60, REFUSED)
        assert (grant.actor.user, grant.repo, grant.claims) == ("pia", REPO, {"space": "s"})
        assert signing.read("xet", signing.sign("xet", ANONYMOUS, REPO), 60, REFUSED).actor == ANONYMOUS


def test_it_is_good_for_its_purpose_only_and_can_not_be_changed(app: Flask) -> None:
    with app.app_context():
        text = signing.sign("xet", ANONYMOUS, REPO)
        for purpose, changed in (("lfs", text), ("xet", text[:-2]), ("xet", "A" + text), ("xet", "")):
            with pytest.raises(HubError):
                signing.read(purpose, changed, 60, REFUSED)


def test_it_expires(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    with app.app_context():
        now = time.time()
        monkeypatch.setattr("itsdangerous.timed.time.time", lambda: now)
        text = signing.sign("xet", ANONYMOUS, REPO)
        monkeypatch.setattr("itsdangerous.timed.time.time", lambda: now + 59)
        signing.read("xet", text, 60, REFUSED)
        monkeypatch.setattr("itsdangerous.timed.time.time", lambda: now + 62)
        with pytest.raises(Forbidden):
            signing.read("xet", text, 60, REFUSED)


def test_a_token_limited_to_reading_signs_nothing_that_writes(app: Flask) -> None:
    registry = app.extensions["test.registry"]
    reader = actor_with_token(app, ("read",))
    with app.app_context():
        grant = signing.read("lfs", signing.sign("lfs", reader, REPO), 60, REFUSED)
    assert not registry.namespaces.may(grant.actor, Action.PUBLISH, "team")


def test_a_revoked_token_is_gone_here_too(app: Flask) -> None:
    registry, admin = app.extensions["test.registry"], app.extensions["test.admin"]
    made = registry.tokens.create(admin, "uploading", ("publish",))
    with app.app_context():
        text = signing.sign("lfs", registry.tokens.authenticate(made.secret), REPO)
        assert signing.read("lfs", text, 60, REFUSED).actor.user == "admin"
        registry.tokens.revoke(admin, made.token.id)
        with pytest.raises(Forbidden):
            signing.read("lfs", text, 60, REFUSED)


def test_a_role_that_was_taken_away_is_gone_here_too(app: Flask) -> None:
    registry = app.extensions["test.registry"]
    pia = actor_with_token(app, ("read", "publish"))
    with app.app_context():
        text = signing.sign("lfs", pia, REPO)
        registry.namespaces.set_member(app.extensions["test.admin"], "team", "pia", None)
        grant = signing.read("lfs", text, 60, REFUSED)
        assert not registry.namespaces.may(grant.actor, Action.PUBLISH, "team")
        registry.users.disable(app.extensions["test.admin"], "pia")
        with pytest.raises(HubError):
            signing.read("lfs", text, 60, REFUSED)
