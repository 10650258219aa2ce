"""The API does what its OpenAPI document says, whatever is thrown at it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import OpenAPIV30SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hub.web.api.uploads import CONTENT_TYPE
from tests.web.api import Api
from tests.web.url_map import served_routes
from tests.web.world import build_world


def test_the_document_is_valid_openapi(anonymous: Api) -> None:
    document = anonymous.get("/openapi.json").json
    assert document["openapi"].startswith("3.0")
    assert [error.message for error in OpenAPIV30SpecValidator(document).iter_errors()] == []


def test_every_route_is_described(app: Flask, anonymous: Api) -> None:
    described = set()
    for path, operations in anonymous.get("/openapi.json").json["paths"].items():
        described |= {(path, method.upper()) for method in operations if method != "parameters"}
    served = {
        (path.replace("<", "{").replace(">", "}"), method)
        for endpoint, path, method in served_routes(app)
        if path.startswith("/api/v1/") and endpoint != "openapi"
    }
    assert described == served


def test_every_operation_says_what_it_does(anonymous: Api) -> None:
    for path, operations in anonymous.get("/openapi.json").json["paths"].items():
        for method, operation in operations.items():
            if method != "parameters":
                assert operation.get("summary"), f"{method} {path}"


schemathesis.serializer.alias(CONTENT_TYPE, "application/octet-stream")

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


FITTING, BREAKING = GenerationMode.POSITIVE, GenerationMode.NEGATIVE


def test_what_fits_the_schema_never_makes_the_server_fail(tmp_path: Path) -> None:
    assert min(fuzz(tmp_path, 2, FITTING).values()) >= 1


@pytest.mark.slow
def test_nothing_that_fits_or_breaks_the_schema_makes_the_server_fail(tmp_path: Path) -> None:
    assert min(fuzz(tmp_path, 150, FITTING, BREAKING).values()) >= 1


def fuzz(folder: Path, examples: int, *modes: GenerationMode) -> Counter[str]:
    """Send what the schema allows, or forbids, to every operation; hold every answer against the document.

    Returns how many answers of each operation did what the document says.
    """
    answers: Counter[str] = Counter()
    world = build_world(folder)
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", world.app)
    headers = {"Authorization": f"Bearer {world.admin.token}"}
    options = hypothesis_settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    try:
        for found in schema.get_all_operations():
            answers[found.ok().label] = 0
            for mode in modes:
                check = _checker(headers, answers)
                try:
                    options(given(case=found.ok().as_strategy(generation_mode=mode))(check))()
                except Unsatisfiable:
                    assert mode is BREAKING  # the operation takes nothing that could be wrong
    finally:
        world.registry.close()
    return answers


def _checker(headers: dict[str, str], answers: Counter[str]) -> Callable[..., None]:
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)
        answers[case.operation.label] += 1

    return check
