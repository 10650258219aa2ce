"""The catalog without JavaScript: everything but copying and the theme button."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.catalog.addresses import ADDRESSES, every_page, follow
from tests.catalog.conftest import Site


@pytest.fixture(scope="module")
def page(chromium: Any, site: Site) -> Iterator[Any]:
    context = chromium.new_context(base_url=site.url, java_script_enabled=False)
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("name", every_page())
def test_page_is_whole_and_offers_no_dead_button(page: Any, name: str) -> None:
    page.goto(ADDRESSES[name])
    assert page.locator("h1").count() == 1
    assert page.locator("h1").is_visible()
    for button in page.locator("button:visible").all():
        assert button.get_attribute("type") == "submit"


def test_search_facets_and_version_work(page: Any) -> None:
    page.goto("/")
    page.get_by_role("searchbox").fill("json")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    follow(page, page.get_by_role("link", name="task/qa"))
    follow(page, page.get_by_role("link", name="v3 in detail"))
    assert "v3" in page.locator("h1").inner_text()


def test_snippet_tabs_switch(page: Any) -> None:
    page.goto("/task/qa")
    page.locator(".use").get_by_text("Python", exact=True).click()
    assert page.locator(".use .pane:visible code").inner_text().startswith("import hub")
    assert page.locator(".use .pane:visible").count() == 1


def test_login_works(page: Any, site: Site) -> None:
    page.goto("/login?next=/vault/secret")
    page.get_by_label("Token").fill(site.seeded.token)
    follow(page, page.get_by_role("button", name="Log in"))
    assert page.locator(".prose").inner_text() == "Nobody outside may read this."


def test_dark_mode_follows_the_system(chromium: Any, site: Site) -> None:
    backgrounds = set()
    for scheme in ("light", "dark"):
        context = chromium.new_context(base_url=site.url, java_script_enabled=False, color_scheme=scheme)
        page = context.new_page()
        page.goto("/")
        backgrounds.add(page.screenshot())
        context.close()
    assert len(backgrounds) == 2
