"""Headers on every answer; cookies, sessions, CSRF and redirects of the login."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from hub.registry.service import Registry
from hub.settings import ServerSettings
from hub.web.app import create_app
from hub.web.http.security import safe_next
from tests.web.api import Api, InProcess


@pytest.mark.parametrize("path", ["/api/v1/adapters", "/api/v1/nothing", "/healthz", "/api/v1/openapi.json"])
def test_every_answer_is_guarded(app: Flask, path: str) -> None:
    headers = InProcess(app).send("GET", path, {}, None).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "private" in headers["Cache-Control"] or "no-store" in headers["Cache-Control"]
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_secrets_are_never_cached(admin: Api) -> None:
    made = admin.call("POST", "/tokens", {"name": "x", "scopes": ["read"]}, expect=201)
    assert made.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("target", ["/", "/task/qa", "/task/qa?x=1#y", "/a%20b"])
def test_a_login_may_lead_to_a_page_of_this_server(target: str) -> None:
    assert safe_next(target) == target


@pytest.mark.parametrize(
    "target",
    [
        None,
        "",
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "/a\\b",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/\n/evil.example",
        " //evil.example",
        "/\x00",
        "task/qa",
        "///evil.example",
    ],
)
def test_a_login_never_leads_elsewhere(target: str | None) -> None:
    assert safe_next(target) == "/"


def csrf_of(page: str) -> str:
    return page.split('name="csrf_token"')[1].split('value="')[1].split('"')[0]


class Browser:
    """Cookies, forms, and no token of its own."""

    def __init__(self, app: Flask, base: str = "http://localhost") -> None:
        self.client = app.test_client()
        self.base = base

    def get(self, path: str):  # type: ignore[no-untyped-def]
        return self.client.get(path, base_url=self.base, headers={"Accept": "text/html"})

    def post(self, path: str, form: dict[str, str]):  # type: ignore[no-untyped-def]
        return self.client.post(path, data=form, base_url=self.base, headers={"Referer": self.base + "/login"})

    def log_in(self, token: str, **more: str):  # type: ignore[no-untyped-def]
        page = self.get("/login").get_data(as_text=True)
        return self.post("/login", {"token": token, "csrf_token": csrf_of(page)} | more)

    def cookie(self):  # type: ignore[no-untyped-def]
        return self.client.get_cookie("lorahub") or self.client.get_cookie("__Host-lorahub")


def test_a_form_without_its_csrf_token_is_refused(app: Flask, admin_token: str) -> None:
    browser = Browser(app)
    browser.get("/login")
    assert browser.post("/login", {"token": admin_token}).status_code == 400
    assert browser.post("/login", {"token": admin_token, "csrf_token": "wrong"}).status_code == 400


def test_a_csrf_token_is_bound_to_its_browser(app: Flask, admin_token: str) -> None:
    stolen = csrf_of(Browser(app).get("/login").get_data(as_text=True))
    victim = Browser(app)
    victim.get("/login")
    assert victim.post("/login", {"token": admin_token, "csrf_token": stolen}).status_code == 400


def test_logging_in_gives_a_new_session(app: Flask, admin_token: str) -> None:
    """An id that was planted before the login is worth nothing after it."""
    browser = Browser(app)
    browser.get("/login")
    planted = browser.cookie().value
    assert browser.log_in(admin_token).status_code in {302, 303}
    assert browser.cookie().value != planted
    attacker = Browser(app)
    attacker.client.set_cookie("lorahub", planted)
    assert "admin" not in attacker.get("/account").get_data(as_text=True)


def test_a_session_cookie_holds_no_token_and_is_flagged(app: Flask, admin_token: str) -> None:
    browser = Browser(app)
    answer = browser.log_in(admin_token)
    header = answer.headers["Set-Cookie"]
    assert admin_token not in header
    assert "HttpOnly" in header
    assert "SameSite=Lax" in header
    assert "Path=/" in header
    assert "Domain" not in header


def test_over_https_the_cookie_is_for_https_alone(
    registry: Registry, settings: ServerSettings, admin_token: str
) -> None:
    from dataclasses import replace

    app = create_app(registry, replace(settings, public_url="https://hub.example"))
    browser = Browser(app, "https://localhost")
    header = browser.log_in(admin_token).headers["Set-Cookie"]
    assert header.startswith("__Host-lorahub=")
    assert "Secure" in header
    assert "Strict-Transport-Security" in browser.get("/login").headers


def test_logging_out_ends_the_session_for_every_copy_of_the_cookie(app: Flask, admin_token: str) -> None:
    browser = Browser(app)
    browser.log_in(admin_token)
    copied = browser.cookie().value
    assert "admin" in browser.get("/account").get_data(as_text=True)
    page = browser.get("/login").get_data(as_text=True)
    token = csrf_of(page) if "csrf_token" in page else csrf_of(browser.get("/account").get_data(as_text=True))
    assert browser.post("/logout", {"csrf_token": token}).status_code in {302, 303}
    thief = Browser(app)
    thief.client.set_cookie("lorahub", copied)
    assert "admin" not in thief.get("/account").get_data(as_text=True)


def test_revoking_the_token_ends_the_logins_it_began(app: Flask, admin: Api, admin_token: str) -> None:
    made = admin.call("POST", "/tokens", {"name": "web", "scopes": ["read"]}, expect=201).json
    browser = Browser(app)
    browser.log_in(made["secret"])
    assert "admin" in browser.get("/account").get_data(as_text=True)
    admin.call("DELETE", f"/tokens/{made['id']}", expect=200)
    assert "admin" not in browser.get("/account").get_data(as_text=True)


def test_the_api_takes_no_cookie(app: Flask, admin_token: str) -> None:
    """So no other site can make a browser use it."""
    browser = Browser(app)
    browser.log_in(admin_token)
    assert browser.get("/api/v1/whoami").status_code == 401
    assert browser.client.post("/api/v1/tokens", json={"name": "x", "scopes": ["read"]}).status_code == 401


def test_a_login_follows_next_only_within_the_server(app: Flask, admin_token: str) -> None:
    assert Browser(app).log_in(admin_token, next="/task/qa").headers["Location"] == "/task/qa"
    assert Browser(app).log_in(admin_token, next="https://evil.example/").headers["Location"] == "/"


@pytest.mark.parametrize("header", ["Basic dXNlcjpwdw==", "Bearer", "Bearer ", "lhub_abc", "Token x", "Bearer x y z"])
def test_only_a_bearer_token_is_read(anonymous: Api, header: str) -> None:
    answer = anonymous.get("/adapters", 401, Authorization=header)
    assert answer.code == "unauthenticated"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_guessing_tokens_gets_slow(anonymous: Api) -> None:
    statuses = [anonymous.as_(f"lhub_{'x' * 42}{i % 10}").call("GET", "/whoami").status for i in range(40)]
    assert statuses[:30] == [401] * 30
    assert statuses[-1] == 429


def test_a_token_in_the_query_is_no_token(anonymous: Api, admin_token: str) -> None:
    for name in ("token", "access_token"):
        answer = anonymous.get(f"/whoami?{name}={admin_token}", 401)
        assert answer.json["error"]["code"] == "unauthenticated"


def test_no_file_of_the_server_is_served(app: Flask, settings: ServerSettings) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/../../etc/passwd"):
        assert InProcess(app).send("GET", path, {}, None).status in {400, 404}
    assert Path(settings.data).exists()
