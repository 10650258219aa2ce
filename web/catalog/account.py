"""Log in with a token, log out, and see who one is.  The sessions themselves are `identity.py`'s."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from hub.errors import TooManyRequests, Unauthenticated

from ..http.identity import current_actor, registry, sign_in, sign_out
from ..http.security import safe_next


def register_account(catalog: Blueprint) -> None:
    """Add the routes to the catalog: only there is a login cookie read."""
    catalog.add_url_rule("/login", "login", login)
    catalog.add_url_rule("/login", "start_session", start_session, methods=["POST"])
    catalog.add_url_rule("/logout", "logout", logout, methods=["POST"])
    catalog.add_url_rule("/account", "account", account)


def login() -> str:
    return _form(safe_next(request.args.get("next")))


def start_session() -> Response | tuple[str, int]:
    target = safe_next(request.form.get("next"))
    try:
        sign_in(request.form.get("token", "").strip())
    except (Unauthenticated, TooManyRequests) as error:
        return _form(target, error.message), error.status
    return redirect(target, code=303)


def _form(target: str, problem: str = "") -> str:
    return render_template("login.html", next=target, problem=problem, section="login")


def logout() -> Response:
    sign_out()
    return redirect(url_for("catalog.home"), code=303)


def account() -> str | Response:
    actor = current_actor()
    if actor.is_anonymous:
        return redirect(url_for("catalog.login", next=url_for("catalog.account")), code=303)
    return render_template(
        "account.html",
        actor=actor,
        roles=registry().namespaces.roles(actor),
        tokens=registry().tokens.list(actor),
        section="account",
    )
