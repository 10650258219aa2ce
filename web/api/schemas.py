"""The JSON of the API: what requests may say, and what answers look like.

Requests are checked against these.  Answers are written by `represent.py`; the schemas describe them in the OpenAPI
document, and the fuzzing test holds every answer against that.
"""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from hub.adapter.facets import FACETS, Facet

from .fields import Count, HeaderText, QueryCount, Text, choice, sha256_field, texts

ROLES = ("reader", "publisher", "owner")
SCOPES = ("read", "publish", "admin")
SORTS = ("recent", "new", "downloads", "name")
Json = fields.Dict


# Requests ------------------------------------------------------------------------------------------------------------


def facet_field(facet: Facet) -> fields.List[Any]:
    """Return the parameter that a facet is in a search."""
    if facet.kind is int:
        return fields.List(QueryCount(most=1_000_000), load_default=list, validate=validate.Length(max=20))
    if facet.kind is float:
        return fields.List(fields.Float(allow_nan=False), load_default=list, validate=validate.Length(max=20))
    return texts(load_default=list)


class SearchArgs(Schema):
    """A field that is given several times finds any of its values; tags and targets must all be there."""

    class Meta:
        include = {facet.name: facet_field(facet) for facet in FACETS}  # noqa: RUF012

    q = Text(most=400, load_default="")
    rank_min = QueryCount(most=1_000_000, load_default=None)
    rank_max = QueryCount(most=1_000_000, load_default=None)
    size_max = QueryCount(load_default=None)
    metric = fields.List(
        Text(most=200),
        load_default=list,
        validate=validate.Length(max=10),
        metadata={"description": "`name>=0.9`; operators: >= <= > < ="},
    )
    sort = choice(*SORTS, load_default="recent")
    limit = QueryCount(least=1, most=100, load_default=20)
    cursor = Text(most=400, load_default=None)
    facets = fields.Boolean(load_default=True)


class BlobIn(Schema):
    sha256 = sha256_field(required=True)
    size = Count(required=True)


class UploadsIn(Schema):
    blobs = fields.List(fields.Nested(BlobIn), required=True, validate=validate.Length(min=1, max=1000))


class PartIn(Schema):
    number = Count(least=1, most=10_000, required=True)
    etag = Text(most=200, required=True)


class PartsIn(Schema):
    parts = fields.List(fields.Nested(PartIn), required=True, validate=validate.Length(min=1, max=10_000))


class PublishIn(Schema):
    manifest = Json(required=True, metadata={"description": "The canonical description of the version's files."})
    task = Text(most=100, allow_none=True, load_default=None)
    message = Text(load_default="")
    alias = Text(most=96, allow_none=True, load_default=None)
    private = fields.Boolean(allow_none=True, load_default=None)
    trained_from = texts(load_default=list)
    merged_from = texts(load_default=list)


class AliasIn(Schema):
    version = Count(least=1, most=999_999_999, required=True)
    expected = Count(least=1, most=999_999_999, allow_none=True)
    protected = fields.Boolean(load_default=None)


class AliasArgs(Schema):
    expected = QueryCount(least=1, most=999_999_999)


class ReasonIn(Schema):
    reason = Text(least=1, most=1000, required=True)


class DeprecationIn(ReasonIn):
    successor = Text(most=200, allow_none=True, load_default=None)


class MetricIn(Schema):
    name = Text(least=1, most=100, required=True)
    value = fields.Float(required=True, allow_nan=False)
    dataset = Text(most=200, load_default="")


class MetricArgs(Schema):
    name = Text(least=1, most=100, required=True)
    dataset = Text(most=200, load_default="")


class AdapterIn(Schema):
    private = fields.Boolean(required=True)


class AdapterPatch(Schema):
    """What is left out stays.  gated: all may see the adapter and its card; its files are for members."""

    private = fields.Boolean()
    gated = fields.Boolean()

    @validates_schema
    def _says_something(self, given: dict[str, Any], **_: Any) -> None:
        if not given:
            raise ValidationError("Say what to change: private or gated.")


class RebindIn(Schema):
    base = Text(least=1, most=400, required=True)


class ImportIn(Schema):
    url = Text(least=1, most=2000, required=True)
    message = Text(load_default="")
    token = HeaderText(most=400, allow_none=True, load_default=None)


class TokenIn(Schema):
    name = Text(least=1, most=100, required=True)
    scopes = fields.List(choice(*SCOPES), required=True, validate=validate.Length(min=1, max=3))
    namespace = Text(most=96, allow_none=True, load_default=None)
    expires_in_days = Count(least=1, most=36_500, allow_none=True, load_default=None)
    user = Text(most=96, allow_none=True, load_default=None)


class TokenArgs(Schema):
    user = Text(most=96, load_default=None)


class NamespaceIn(Schema):
    name = Text(most=96, required=True)
    private = fields.Boolean(load_default=False)
    description = Text(load_default="")


class NamespacePatch(Schema):
    private = fields.Boolean(load_default=None)
    description = Text(load_default=None)


class MemberIn(Schema):
    role = choice(*ROLES, required=True)


class QuotaIn(Schema):
    max_bytes = Count(allow_none=True, load_default=None)
    max_adapters = Count(allow_none=True, load_default=None)


class UserIn(Schema):
    name = Text(most=96, required=True)
    admin = fields.Boolean(load_default=False)


class UserPatch(Schema):
    disabled = fields.Boolean(required=True)


class BasePatch(Schema):
    new_id = Text(least=1, most=400, allow_none=True, load_default=None)
    add_aliases = texts(load_default=list)
    remove_aliases = texts(load_default=list)
    parent = Text(most=400, allow_none=True, load_default=None)
    pin = texts(load_default=list)
    unpin = texts(load_default=list)


class WebhookIn(Schema):
    url = Text(least=1, most=2000, required=True)
    events = fields.List(Text(least=1, most=100), load_default=lambda: ["*"], validate=validate.Length(min=1, max=50))


class AuditArgs(Schema):
    namespace = Text(most=96, load_default=None)
    limit = QueryCount(least=1, most=500, load_default=100)
    before = QueryCount(least=1, load_default=None)


class HistoryArgs(Schema):
    days = QueryCount(least=1, most=366, load_default=90)


# Answers -------------------------------------------------------------------------------------------------------------


class Problem(Schema):
    code = fields.String(required=True)
    message = fields.String(required=True)
    details = Json(required=True)


class Error(Schema):
    """Every error has this shape; `code` is stable and meant for programs."""

    error = fields.Nested(Problem, required=True)


class BaseName(Schema):
    id = fields.String(required=True)


class Alias(Schema):
    alias = fields.String(required=True)
    version = fields.Integer(required=True)
    protected = fields.Boolean(required=True)
    updated_at = fields.DateTime(required=True)
    updated_by = fields.String(allow_none=True)


class AliasMove(Schema):
    alias = fields.String(required=True)
    moved_from = fields.Integer(data_key="from", allow_none=True)
    moved_to = fields.Integer(data_key="to", allow_none=True)
    at = fields.DateTime(required=True)
    by = fields.String(allow_none=True)


class Yanked(Schema):
    reason = fields.String(required=True)
    at = fields.DateTime(required=True)
    by = fields.String(allow_none=True)


class Deprecated(Schema):
    reason = fields.String(required=True)
    successor = fields.String(allow_none=True)
    at = fields.DateTime(required=True)


class Adapter(Schema):
    name = fields.String(required=True)
    namespace = fields.String(required=True)
    task = fields.String(allow_none=True)
    description = fields.String(required=True)
    license = fields.String(allow_none=True)
    tags = fields.List(fields.String(), required=True)
    private = fields.Boolean(required=True)
    gated = fields.Boolean(required=True)
    base = fields.Nested(BaseName, allow_none=True)
    latest = fields.String(allow_none=True)
    aliases = fields.List(fields.Nested(Alias), required=True)
    versions = fields.Integer(required=True)
    downloads = fields.Integer(required=True)
    rank = fields.Integer(allow_none=True)
    alpha = fields.Float(allow_none=True)
    method = fields.String(allow_none=True)
    dtype = fields.String(allow_none=True)
    size_bytes = fields.Integer(allow_none=True)
    target_modules = fields.List(fields.String(), required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)
    deprecated = fields.Nested(Deprecated, allow_none=True)


class Draft(Schema):
    ref = fields.String(required=True)
    author = fields.String(allow_none=True)
    commit = fields.String(required=True)
    problem = fields.String(required=True)
    updated_at = fields.DateTime(required=True)
    expires_at = fields.DateTime(required=True)


class ShownAdapter(Adapter):
    drafts = fields.List(fields.Nested(Draft), required=True)


class FacetValue(Schema):
    value = fields.String(required=True)
    count = fields.Integer(required=True)


class AdapterPage(Schema):
    items = fields.List(fields.Nested(Adapter), required=True)
    next = fields.String(allow_none=True, required=True)
    total = fields.Integer(required=True)
    facets = fields.Dict(keys=fields.String(), values=fields.List(fields.Nested(FacetValue)), required=True)


class Metric(Schema):
    name = fields.String(required=True)
    value = fields.Float(required=True)
    dataset = fields.String(required=True)
    by = fields.String(allow_none=True)
    at = fields.DateTime(required=True)


class VersionSummary(Schema):
    ref = fields.String(required=True)
    adapter = fields.String(required=True)
    version = fields.Integer(required=True)
    digest = fields.String(required=True)
    commit = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    created_by = fields.String(allow_none=True)
    message = fields.String(required=True)
    task = fields.String(allow_none=True)
    base = fields.Nested(BaseName, allow_none=True)
    size_bytes = fields.Integer(required=True)
    files = fields.Integer(required=True)
    rank = fields.Integer(required=True)
    alpha = fields.Float(required=True)
    method = fields.String(required=True)
    target_modules = fields.List(fields.String(), required=True)
    dtype = fields.String(required=True)
    parameters = fields.Integer(required=True)
    yanked = fields.Nested(Yanked, allow_none=True)
    deprecated = fields.Nested(Deprecated, allow_none=True)
    aliases = fields.List(fields.String(), required=True)
    branch = fields.String(allow_none=True)
    downloads = fields.Integer(required=True)
    trained_from = fields.List(fields.String(), required=True)
    merged_from = fields.List(fields.String(), required=True)
    metrics = fields.List(fields.Nested(Metric), required=True)


class Version(VersionSummary):
    manifest = Json(required=True)
