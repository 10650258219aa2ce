"""Access to gated adapters on the Hugging Face wire: request, list, grant, accept, reject."""

from __future__ import annotations

from typing import Any, cast, get_args

from flask import Response, jsonify

from hub.errors import InvalidRequest, NotFound
from hub.refs import AdapterName
from hub.registry.values import AccessRequest, AccessStatus

from ..http.identity import current_actor, registry
from .names import repo_name, wire_time
from .upload import json_body


def ask_access(namespace: str, name: str) -> Response:
    """Request access to a gated adapter."""
    return jsonify(_to_json(registry().gates.ask(current_actor(), repo_name(namespace, name))))


def list_requests(namespace: str, name: str, status: str) -> Response:
    """List the requests in one state."""
    found = registry().gates.list(current_actor(), repo_name(namespace, name), _status(status))
    return jsonify([_to_json(request) for request in found])


def grant_access(namespace: str, name: str) -> Response:
    """Grant a user access, requested or not."""
    repo, body = repo_name(namespace, name), json_body()
    return jsonify(_to_json(registry().gates.grant(current_actor(), repo, str(body.get("user") or ""))))


def handle_request(namespace: str, name: str) -> Response:
    """Accept a request, reject it, or reset it to pending."""
    repo, body = repo_name(namespace, name), json_body()
    reason = body.get("rejectionReason")
    user = str(body.get("user") or "") or _asked_by(repo, str(body.get("requestId") or ""))
    done = registry().gates.decide(
        current_actor(), repo, user, _status(str(body.get("status"))), None if reason is None else str(reason)
    )
    return jsonify(_to_json(done))


def _asked_by(repo: AdapterName, request_id: str) -> str:
    for status in get_args(AccessStatus):
        for request in registry().gates.list(current_actor(), repo, status):
            if request.id == request_id:
                return request.user
    raise NotFound(f"{repo} has no access request {request_id[:40]!r}.")


def _status(text: str) -> AccessStatus:
    if text not in get_args(AccessStatus):
        raise InvalidRequest(f"{text[:40]!r} is no state of a request: pending, accepted or rejected.")
    return cast("AccessStatus", text)


def _to_json(request: AccessRequest) -> dict[str, Any]:
    return {
        "requestId": request.id,
        "status": request.status,
        "timestamp": wire_time(request.at),
        "rejectionReason": request.reason,
        "user": {"user": request.user, "fullname": request.user, "type": "user"},
    }
