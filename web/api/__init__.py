"""The JSON API under /api/v1, and the OpenAPI document that describes it."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, current_app, jsonify, request
from flask_smorest import Api

from hub import __version__
from hub.errors import Unauthenticated

from ..http.errors import register_error_handlers
from ..http.identity import current_actor
from ..http.raw_path import FilePathConverter, SelectorConverter
from . import schemas
from .accounts import accounts
from .adapters import adapters
from .aliases import aliases
from .bases import bases
from .fields import Blueprint
from .namespaces import namespaces
from .uploads import uploads
from .versions import versions

BLUEPRINTS: tuple[Blueprint, ...] = (adapters, versions, aliases, uploads, bases, accounts, namespaces)
_API = "lorahub.api"


def require_token_to_change() -> None:
    """Send strangers away before their body is read: nothing is ever changed without a token."""
    if request.method not in {"GET", "HEAD", "OPTIONS"} and current_actor().is_anonymous:
        raise Unauthenticated("This takes a token. Log in: lorahub login")


for _blueprint in BLUEPRINTS:
    _blueprint.before_request(require_token_to_change)


class HubApi(Api):
    ERROR_SCHEMA = schemas.Error


def register_api(app: Flask) -> tuple[Blueprint, ...]:
    """Mount the API; return its blueprints."""
    app.config.update(
        API_TITLE="lorahub",
        API_VERSION=__version__,
        OPENAPI_VERSION="3.0.3",
        API_SPEC_OPTIONS={
            "info": {"description": "A registry of versioned LoRA adapters."},
            "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
            # Reading what is public needs no token: both are offered for every operation.
            "security": [{"token": []}, {}],
        },
    )
    api = HubApi(app)
    api.register_converter(SelectorConverter, lambda _converter: {"type": "string"})
    api.register_converter(FilePathConverter, lambda _converter: {"type": "string"})
    for blueprint in BLUEPRINTS:
        api.register_blueprint(blueprint)
    app.extensions[_API] = api
    app.add_url_rule("/api/v1/openapi.json", "openapi", show_openapi)
    register_error_handlers(app)  # last: flask-smorest registers a shape of its own
    return BLUEPRINTS


def show_openapi() -> Response:
    return jsonify(openapi_document())


def openapi_document() -> dict[str, Any]:
    """Return the API's description, made from the routes themselves."""
    document: dict[str, Any] = current_app.extensions[_API].spec.to_dict()
    return document
