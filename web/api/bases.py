"""Base models: what adapters were trained for."""

from __future__ import annotations

from typing import Any

from flask import Response

from ..http.identity import current_actor, registry
from . import answers, represent, schemas
from .fields import Blueprint
from .parsing import reply, reply_items

bases = Blueprint("bases", __name__, url_prefix="/api/v1/bases", description="Base models, as objects of their own.")


@bases.get("")
@bases.response(200, answers.BaseList)
def listing() -> Response:
    """List the bases of the adapters that you may read, the most used first."""
    return reply_items(registry().bases.list(current_actor()), represent.base)


@bases.get("/<filepath:base_id>")
@bases.response(200, answers.Base)
def show(base_id: str) -> Response:
    """Describe a base, by its id or another of its names."""
    return reply(represent.base(registry().bases.get(current_actor(), base_id)))


@bases.patch("/<filepath:base_id>")
@bases.arguments(schemas.BasePatch)
@bases.response(200, answers.Base)
def update(args: dict[str, Any], base_id: str) -> Response:
    """Rename a base, give it other names, say what it is a copy of, or pin fingerprints, as the server's admin."""
    pin, unpin = args.pop("pin"), args.pop("unpin")
    if pin or unpin:
        done = registry().bases.pin(current_actor(), base_id, pin, unpin)
        if not any(args.values()):
            return reply(represent.base(done))
    return reply(represent.base(registry().bases.update(current_actor(), base_id, **args)))
