"""Namespaces: who belongs to them, what they may hold, what happened in them, whom they tell."""

from __future__ import annotations

from typing import Any

from flask import Response

from ..http.identity import current_actor, registry
from . import answers, represent, schemas
from .fields import Blueprint
from .parsing import no_content, reply, reply_items

namespaces = Blueprint("namespaces", __name__, url_prefix="/api/v1", description="Namespaces and what happens there.")


@namespaces.get("/namespaces")
@namespaces.response(200, answers.NamespaceList)
def listing() -> Response:
    """List the namespaces that you may see."""
    return reply_items(registry().namespaces.list(current_actor()), represent.namespace)


@namespaces.post("/namespaces")
@namespaces.arguments(schemas.NamespaceIn)
@namespaces.response(201, answers.Namespace)
def create(args: dict[str, Any]) -> Response:
    """Create a shared namespace with yourself as its owner."""
    made = registry().namespaces.create(
        current_actor(), args["name"], private=args["private"], description=args["description"]
    )
    return reply(represent.namespace(made), 201)


@namespaces.get("/namespaces/<ns>")
@namespaces.response(200, answers.Namespace)
def show(ns: str) -> Response:
    """Describe a namespace; its members and quotas only to members."""
    return reply(represent.namespace(registry().namespaces.get(current_actor(), ns)))


@namespaces.patch("/namespaces/<ns>")
@namespaces.arguments(schemas.NamespacePatch)
@namespaces.response(200, answers.Namespace)
def update(args: dict[str, Any], ns: str) -> Response:
    """Change a namespace's description, or who may read it."""
    return reply(represent.namespace(registry().namespaces.update(current_actor(), ns, **args)))


@namespaces.put("/namespaces/<ns>/members/<user>")
@namespaces.arguments(schemas.MemberIn)
@namespaces.response(200, answers.Namespace)
def set_member(args: dict[str, Any], ns: str, user: str) -> Response:
    """Give a user a role here."""
    return reply(represent.namespace(registry().namespaces.set_member(current_actor(), ns, user, args["role"])))


@namespaces.delete("/namespaces/<ns>/members/<user>")
@namespaces.response(200, answers.Namespace)
def remove_member(ns: str, user: str) -> Response:
    """Take a user's role here away.  The last owner stays."""
    return reply(represent.namespace(registry().namespaces.set_member(current_actor(), ns, user, None)))


@namespaces.put("/namespaces/<ns>/quota")
@namespaces.arguments(schemas.QuotaIn)
@namespaces.response(200, answers.Namespace)
def set_quota(args: dict[str, Any], ns: str) -> Response:
    """Limit what a namespace may hold, as the server's admin; null is unlimited."""
    return reply(represent.namespace(registry().namespaces.set_quota(current_actor(), ns, **args)))


@namespaces.get("/audit")
@namespaces.arguments(schemas.AuditArgs, location="query")
@namespaces.response(200, answers.AuditLog)
def audit(args: dict[str, Any]) -> Response:
    """List what was changed, newest first: of a namespace for its owners, of everything for the server's admin."""
    events = registry().audit.list(current_actor(), args["namespace"], limit=args["limit"], before=args["before"])
    return reply_items(events, represent.audit_event)


@namespaces.get("/namespaces/<ns>/webhooks")
@namespaces.response(200, answers.WebhookList)
def webhooks(ns: str) -> Response:
    """List a namespace's webhooks."""
    return reply_items(registry().webhooks.list(current_actor(), ns), represent.webhook)


@namespaces.post("/namespaces/<ns>/webhooks")
@namespaces.arguments(schemas.WebhookIn)
@namespaces.response(201, answers.NewWebhook)
def create_webhook(args: dict[str, Any], ns: str) -> Response:
    """Have a namespace's events posted to a URL.  The secret that signs them is shown this once."""
    made, secret = registry().webhooks.create(current_actor(), ns, args["url"], args["events"])
    answer = reply(represent.webhook(made) | {"secret": secret}, 201)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@namespaces.delete("/webhooks/<int:webhook_id>")
@namespaces.response(204)
def delete_webhook(webhook_id: int) -> Response:
    """Stop posting."""
    registry().webhooks.delete(current_actor(), webhook_id)
    return no_content()
