"""From the words of a URL to values, and from values to an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, cast

from flask import Response, jsonify

from hub.errors import InvalidRef, InvalidRequest
from hub.refs import AdapterName
from hub.registry.values import MetricFilter

_NUMBER = re.compile(r"v?([1-9][0-9]{0,8})\Z")
_METRIC = re.compile(r"(?P<name>[^<>=]{1,100})(?P<operator>>=|<=|>|<|=)(?P<value>.{1,40})\Z", re.DOTALL)


def adapter_name(ns: str, name: str) -> AdapterName:
    return AdapterName.parse(f"{ns}/{name}")


def version_number(text: str) -> int:
    """Read `v3` or `3`: what changes a version must name it, not an alias that may move meanwhile."""
    found = _NUMBER.match(text)
    if not found:
        raise InvalidRef(f"{text[:80]!r} is not a version's number: write v3. An alias can't stand here; it may move.")
    return int(found[1])


def metric_filter(text: str) -> MetricFilter:
    """Read `accuracy>=0.9`."""
    found = _METRIC.match(text)
    if found:
        try:
            return MetricFilter(found["name"].strip(), cast("Any", found["operator"]), float(found["value"]))
        except ValueError:
            pass  # the number isn't one: said below
    raise InvalidRequest(f"metric={text[:80]!r} is no condition: write e.g. accuracy>=0.9.")


def reply(payload: dict[str, Any], status: int = 200) -> Response:
    """Return a JSON answer.  (A finished Response is not run through a schema again.)"""
    answer = jsonify(payload)
    answer.status_code = status
    return answer


def reply_items(values: Iterable[Any], represent: Callable[[Any], dict[str, Any]]) -> Response:
    return reply({"items": [represent(value) for value in values]})


def no_content() -> Response:
    answer = Response(status=204)
    del answer.headers["Content-Type"]
    return answer
