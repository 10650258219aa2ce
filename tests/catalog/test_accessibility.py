"""Every kind of page against axe's rules: WCAG 2.2 A and AA, and its best practices, in both themes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.catalog.addresses import ADDRESSES, every_page
from tests.catalog.conftest import Site

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def axe() -> Any:
    module = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    return module.Axe()


@pytest.fixture(scope="module")
def tab(chromium: Any, site: Site) -> Iterator[Any]:
    context = chromium.new_context(base_url=site.url, viewport={"width": 1100, "height": 800}, reduced_motion="reduce")
    yield context.new_page()
    context.close()


def violations(axe: Any, tab: Any, kind: str, values: list[str]) -> list[tuple[str, list[str]]]:
    found = axe.run(tab, options={"runOnly": {"type": kind, "values": values}}).response["violations"]
    return [(each["id"], [node["html"][:160] for node in each["nodes"][:3]]) for each in found]


@pytest.mark.parametrize("name", every_page())
def test_page_has_no_violation_in_either_theme(axe: Any, tab: Any, name: str) -> None:
    tab.emulate_media(color_scheme="light")
    tab.goto(ADDRESSES[name])
    assert violations(axe, tab, "tag", RULES) == []
    tab.emulate_media(color_scheme="dark")
    assert violations(axe, tab, "rule", ["color-contrast", "link-in-text-block"]) == []
