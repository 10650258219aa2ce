"""One address of every kind of page in the seeded registry, and how to get from one to another."""

from __future__ import annotations

from typing import Any

import pytest

from tests.catalog.seeds import BASE

ADDRESSES = {
    "list": "/",
    "search": "/?q=json",
    "filtered": "/?method=lora&rank_max=16&sort=downloads",
    "no match": "/?q=nothinghasthisword",
    "namespace": "/task",
    "adapter": "/task/qa",
    "adapter without a card": "/team/no-card",
    "versions": "/many/often/versions",
    "version": "/task/qa/versions/2",
    "yanked version": "/task/qa/versions/1",
    "text file": "/task/qa/versions/2/files/README.md",
    "json file": "/task/qa/versions/2/files/adapter_config.json",
    "weights": "/task/qa/versions/2/files/adapter_model.safetensors",
    "compare": "/task/qa/compare?from=1&to=2",
    "bases": "/bases",
    "base": f"/bases/{BASE}",
    "api": "/docs",
    "login": "/login",
    "missing": "/task/none",
    "odd": "/team/odd",
    "odd version": "/team/odd/versions/1",
}

ALIKE = {"search", "no match", "namespace", "adapter without a card", "json file", "odd version"}
"""Pages whose template another one shows in full: the slow suite tries them too."""


def every_page() -> list[Any]:
    """Return the names of the pages as test parameters."""
    slow = pytest.mark.slow
    return [pytest.param(name, marks=slow) if name in ALIKE else name for name in ADDRESSES]


def follow(page: Any, link: Any) -> None:
    """Click what leads to another page, and wait until that page is there."""
    with page.expect_navigation():
        link.click()
