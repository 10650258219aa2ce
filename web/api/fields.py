"""The kinds of values that requests carry, each with its bounds; and the blueprint and parser that use them."""

from __future__ import annotations

import re
from typing import Any

import flask_smorest
from marshmallow import ValidationError, fields, missing, validate
from webargs.flaskparser import FlaskParser

from hub.errors import InvalidRequest
from hub.manifest import MAX_MANIFEST_VALUES

from ..http.json_bodies import load

MAX_TEXT = 4_000
MAX_INTEGER = 2**53
SHA256 = r"^[0-9a-f]{64}$"


class Text(fields.String):
    """A text that every database can hold: no NUL, no half of a surrogate pair, and not without end."""

    def __init__(self, *, most: int = MAX_TEXT, least: int = 0, **options: Any) -> None:
        options.setdefault("validate", validate.Length(min=least, max=most))
        super().__init__(**options)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, *args, **kwargs)
        if isinstance(text, str) and ("\0" in text or re.search("[\ud800-\udfff]", text)):
            raise ValidationError("Has a character that is not text.")
        return text


class HeaderText(Text):
    """A text that a header can carry: printable ASCII without spaces."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, *args, **kwargs)
        if isinstance(text, str) and not re.fullmatch("[!-~]+", text):
            raise ValidationError("Has a character that no token has.")
        return text


class Count(fields.Integer):
    """A whole number from `least` up, written as a JSON number."""

    def __init__(self, *, least: int = 0, most: int = MAX_INTEGER, **options: Any) -> None:
        options.setdefault("validate", validate.Range(least, most))
        options.setdefault("strict", True)
        super().__init__(**options)


class QueryCount(Count):
    """A whole number in a query string."""

    def __init__(self, *, least: int = 0, most: int = MAX_INTEGER, **options: Any) -> None:
        super().__init__(least=least, most=most, strict=False, **options)


def sha256_field(**options: Any) -> fields.String:
    return fields.String(validate=validate.Regexp(SHA256, error="Is not 64 lower-case hex digits."), **options)


def choice(*values: str, **options: Any) -> fields.String:
    return fields.String(validate=validate.OneOf(values), **options)


def texts(*, most: int = 100, **options: Any) -> fields.List[Any]:
    return fields.List(Text(most=400), validate=validate.Length(max=most), **options)


class Parser(FlaskParser):
    """Wrong fields are the caller's mistake, 400, like any other malformed request."""

    DEFAULT_VALIDATION_STATUS = 400

    def _raw_load_json(self, req: Any) -> Any:
        if not req.is_json:
            return missing
        try:
            return load(req.get_data(cache=True), check_texts=False, most=MAX_MANIFEST_VALUES)
        except (ValueError, RecursionError) as error:
            # Numbers with thousands of digits are JSON by the letter.
            raise InvalidRequest(f"The body is JSON that can't be read: {type(error).__name__}.") from error


class Blueprint(flask_smorest.Blueprint):
    ARGUMENTS_PARSER = Parser()
