"""Who am I, tokens, users."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Response

from hub.errors import Unauthenticated

from ..http.identity import current_actor, registry
from . import answers, represent, schemas
from .fields import Blueprint
from .parsing import reply, reply_items

accounts = Blueprint("accounts", __name__, url_prefix="/api/v1", description="You, your tokens, and users.")


@accounts.get("/whoami")
@accounts.response(200, answers.WhoAmI)
def whoami() -> Response:
    """Say whom the token belongs to, what it may do, and the roles of its user."""
    actor = current_actor()
    if actor.is_anonymous:
        raise Unauthenticated("No token was sent. Log in: lorahub login")
    roles = registry().namespaces.roles(actor)
    return reply(
        {
            "user": actor.user,
            "admin": actor.admin,
            "namespaces": [{"name": name, "role": role} for name, role in sorted(roles.items())],
            "token": {
                "name": actor.token_name,
                "scopes": sorted(actor.scopes),
                "namespace": actor.namespace,
                "expires_at": represent.time(actor.expires_at),
            },
        }
    )


@accounts.get("/tokens")
@accounts.arguments(schemas.TokenArgs, location="query")
@accounts.response(200, answers.TokenList)
def tokens(args: dict[str, Any]) -> Response:
    """List your tokens, or as the server's admin those of a user.  Secrets are never shown again."""
    return reply_items(registry().tokens.list(current_actor(), args["user"]), represent.token)


@accounts.post("/tokens")
@accounts.arguments(schemas.TokenIn)
@accounts.response(201, answers.NewToken)
def create_token(args: dict[str, Any]) -> Response:
    """Make a token that can do no more than you can.  Its secret is shown this once."""
    days = args["expires_in_days"]
    made = registry().tokens.create(
        current_actor(),
        args["name"],
        args["scopes"],
        namespace=args["namespace"],
        expires_in=None if days is None else timedelta(days=days),
        user=args["user"],
    )
    answer = reply(represent.token(made.token) | {"secret": made.secret}, 201)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@accounts.delete("/tokens/<int:token_id>")
@accounts.response(200, answers.Token)
def revoke_token(token_id: int) -> Response:
    """Make a token useless from now on."""
    return reply(represent.token(registry().tokens.revoke(current_actor(), token_id)))


@accounts.get("/users")
@accounts.response(200, answers.UserList)
def users() -> Response:
    """List users, as the server's admin."""
    return reply_items(registry().users.list(current_actor()), represent.user)


@accounts.post("/users")
@accounts.arguments(schemas.UserIn)
@accounts.response(201, answers.User)
def create_user(args: dict[str, Any]) -> Response:
    """Create a user with a namespace of the same name, as the server's admin."""
    made = registry().users.create(current_actor(), args["name"], admin=args["admin"])
    return reply(represent.user(made), 201)


@accounts.patch("/users/<name>")
@accounts.arguments(schemas.UserPatch)
@accounts.response(200, answers.User)
def update_user(args: dict[str, Any], name: str) -> Response:
    """Shut a user out, or let them in again; their tokens and sessions stop working at once."""
    changed = registry().users.disable(current_actor(), name, disabled=args["disabled"])
    return reply(represent.user(changed))
