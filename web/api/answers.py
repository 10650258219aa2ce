"""More of the API's answers: uploads, tokens, users, namespaces, bases, audit events, webhooks; and lists of them."""

from __future__ import annotations

from marshmallow import Schema, fields

from .schemas import Alias, AliasMove, Json, VersionSummary


class Part(Schema):
    number = fields.Integer(required=True)
    href = fields.String(required=True)


class Upload(Schema):
    id = fields.String(required=True)
    href = fields.String(required=True)
    sha256 = fields.String(required=True)
    size = fields.Integer(required=True)
    offset = fields.Integer(required=True)
    mode = fields.String(required=True)
    expires_at = fields.DateTime(required=True)
    done = fields.Boolean(required=True)
    part_size = fields.Integer()
    parts = fields.List(fields.Nested(Part))


class BlobState(Schema):
    sha256 = fields.String(required=True)
    size = fields.Integer(required=True)
    state = fields.String(required=True, metadata={"enum": ["present", "upload"]})
    upload = fields.Nested(Upload)


class BlobStates(Schema):
    blobs = fields.List(fields.Nested(BlobState), required=True)


class Token(Schema):
    id = fields.Integer(required=True)
    name = fields.String(required=True)
    user = fields.String(required=True)
    scopes = fields.List(fields.String(), required=True)
    namespace = fields.String(allow_none=True)
    created_at = fields.DateTime(required=True)
    expires_at = fields.DateTime(allow_none=True)
    last_used_at = fields.DateTime(allow_none=True)
    revoked_at = fields.DateTime(allow_none=True)


class NewToken(Token):
    secret = fields.String(required=True, metadata={"description": "Shown this once; the server keeps only a hash."})


class Role(Schema):
    name = fields.String(required=True)
    role = fields.String(required=True)


class TokenInUse(Schema):
    name = fields.String(allow_none=True)
    scopes = fields.List(fields.String(), required=True)
    namespace = fields.String(allow_none=True)
    expires_at = fields.DateTime(allow_none=True)


class WhoAmI(Schema):
    user = fields.String(required=True)
    admin = fields.Boolean(required=True)
    namespaces = fields.List(fields.Nested(Role), required=True)
    token = fields.Nested(TokenInUse, required=True)


class User(Schema):
    name = fields.String(required=True)
    admin = fields.Boolean(required=True)
    disabled = fields.Boolean(required=True)
    created_at = fields.DateTime(required=True)


class Member(Schema):
    user = fields.String(required=True)
    role = fields.String(required=True)


class Namespace(Schema):
    name = fields.String(required=True)
    kind = fields.String(required=True)
    private = fields.Boolean(required=True)
    description = fields.String(required=True)
    adapters = fields.Integer(required=True)
    used_bytes = fields.Integer(required=True)
    quota_bytes = fields.Integer(allow_none=True)
    quota_adapters = fields.Integer(allow_none=True)
    members = fields.List(fields.Nested(Member), required=True)
    created_at = fields.DateTime(required=True)


class Fingerprint(Schema):
    kind = fields.String(required=True)
    value = fields.String(required=True)
    publishers = fields.Integer(required=True)
    pinned = fields.Boolean(required=True)


class Base(Schema):
    id = fields.String(required=True)
    revision = fields.String(allow_none=True)
    aliases = fields.List(fields.String(), required=True)
    shapes = fields.List(fields.String(), required=True)
    weights = fields.List(fields.String(), required=True)
    disputed = fields.List(fields.String(), required=True)
    fingerprints = fields.List(fields.Nested(Fingerprint), required=True)
    parent = fields.String(allow_none=True)
    children = fields.List(fields.String(), required=True)
    adapters = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)


class AuditEvent(Schema):
    id = fields.Integer(required=True)
    at = fields.DateTime(required=True)
    user = fields.String(allow_none=True)
    action = fields.String(required=True)
    target = fields.String(required=True)
    namespace = fields.String(allow_none=True)
    details = Json(required=True)


class Webhook(Schema):
    id = fields.Integer(required=True)
    namespace = fields.String(required=True)
    url = fields.String(required=True)
    events = fields.List(fields.String(), required=True)
    active = fields.Boolean(required=True)
    failures = fields.Integer(required=True)
    last_error = fields.String(allow_none=True)
    created_at = fields.DateTime(required=True)


class NewWebhook(Webhook):
    secret = fields.String(required=True, metadata={"description": "Signs the bodies; shown this once."})


class DailyDownloads(Schema):
    day = fields.String(required=True)
    count = fields.Integer(required=True)


def list_of(item: type[Schema], name: str) -> type[Schema]:
    """Return the schema of `{"items": [item, …]}`."""
    return Schema.from_dict({"items": fields.List(fields.Nested(item), required=True)}, name=name)


VersionList = list_of(VersionSummary, "VersionList")
AliasList = list_of(Alias, "AliasList")
AliasHistory = list_of(AliasMove, "AliasHistory")
TokenList = list_of(Token, "TokenList")
UserList = list_of(User, "UserList")
NamespaceList = list_of(Namespace, "NamespaceList")
BaseList = list_of(Base, "BaseList")
AuditLog = list_of(AuditEvent, "AuditLog")
WebhookList = list_of(Webhook, "WebhookList")
DownloadHistory = list_of(DailyDownloads, "DownloadHistory")
