"""Aliases: movable names of versions, moved by compare-and-swap."""

from __future__ import annotations

from typing import Any

from flask import Response

from hub.refs import UNCHECKED

from ..http.identity import current_actor, registry
from . import answers, represent, schemas
from .fields import Blueprint
from .parsing import adapter_name, no_content, reply, reply_items

aliases = Blueprint(
    "aliases",
    __name__,
    url_prefix="/api/v1/adapters/<ns>/<name>/aliases",
    description="Aliases. One with a slash is written with %2F.",
)


@aliases.get("")
@aliases.response(200, answers.AliasList)
def listing(ns: str, name: str) -> Response:
    """List an adapter's aliases."""
    return reply_items(registry().aliases.list(current_actor(), adapter_name(ns, name)), represent.alias)


@aliases.put("/<selector:alias>")
@aliases.arguments(schemas.AliasIn)
@aliases.response(200, schemas.Alias)
def move(args: dict[str, Any], ns: str, name: str, alias: str) -> Response:
    """Create or move an alias.  With `expected`, only if it stands there now (null: if it isn't there yet)."""
    moved = registry().aliases.set(
        current_actor(),
        adapter_name(ns, name),
        alias,
        args["version"],
        expected=args.get("expected", UNCHECKED),
        protected=args["protected"],
    )
    return reply(represent.alias(moved))


@aliases.delete("/<selector:alias>")
@aliases.arguments(schemas.AliasArgs, location="query")
@aliases.response(204)
def delete(args: dict[str, Any], ns: str, name: str, alias: str) -> Response:
    """Delete an alias; with `expected`, only if it stands there now."""
    registry().aliases.delete(
        current_actor(),
        adapter_name(ns, name),
        alias,
        expected=args.get("expected", UNCHECKED),
    )
    return no_content()


@aliases.get("/<selector:alias>/history")
@aliases.response(200, answers.AliasHistory)
def history(ns: str, name: str, alias: str) -> Response:
    """List an alias's moves, newest first."""
    return reply_items(registry().aliases.history(current_actor(), adapter_name(ns, name), alias), represent.alias_move)
