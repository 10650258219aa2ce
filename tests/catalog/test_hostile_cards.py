"""Hostile model cards in a real browser: no script runs, no request leaves, and the page stays what it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.catalog.addresses import ADDRESSES
from tests.catalog.conftest import Site
from tests.catalog.payloads import corpus


class Watch:
    """Counts what a card must never bring about."""

    def __init__(self, page: Any, home: str) -> None:
        self.outside: list[str] = []
        self.dialogs: list[str] = []
        self.policy: list[str] = []
        page.on("request", lambda request: self._note(request.url, home))
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda line: "Content Security Policy" in line.text and self.policy.append(line.text))

    def _note(self, url: str, home: str) -> None:
        if not url.startswith(home + "/"):
            self.outside.append(url)


@pytest.fixture(scope="module")
def tab(chromium: Any, site: Site) -> Iterator[tuple[Any, Watch]]:
    """The content security policy is switched off: the sanitizer must be enough by itself."""
    context = chromium.new_context(base_url=site.url, bypass_csp=True)
    page = context.new_page()
    yield page, Watch(page, site.url)
    context.close()


@pytest.mark.parametrize("name", corpus())
def test_card_runs_nothing_and_calls_nobody(tab: tuple[Any, Watch], site: Site, name: str) -> None:
    page, watch = tab
    address = f"/hostile/cards/versions/{site.seeded.hostile[name]}"
    page.goto(address)
    card = page.locator(".prose")
    for link in card.locator("a[href]").all():
        target = str(link.get_attribute("href"))
        if not target.startswith("http"):
            link.click()
    for shown in card.locator("p:visible").all()[:1]:
        shown.hover()
    assert page.evaluate("window.pwned") is None
    assert (watch.outside, watch.dialogs) == ([], [])
    assert page.url.startswith(site.url + address)
    assert page.locator("h1").is_visible()
    assert page.locator("#main").count() == 1


def test_latest_hostile_card_is_harmless_on_the_adapter_page_too(tab: tuple[Any, Watch], site: Site) -> None:
    page, watch = tab
    page.goto("/hostile/cards")
    assert page.evaluate("window.pwned") is None
    assert watch.outside == []


def test_own_pages_live_within_the_policy(chromium: Any, site: Site) -> None:
    context = chromium.new_context(base_url=site.url)
    page = context.new_page()
    watch = Watch(page, site.url)
    for address in ADDRESSES.values():
        page.goto(address)
    context.close()
    assert (watch.policy, watch.outside) == ([], [])


def test_policy_alone_stops_an_inline_script(chromium: Any, site: Site) -> None:
    context = chromium.new_context(base_url=site.url)
    page = context.new_page()
    page.goto("/")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.pwned = 1'}))"
    )
    assert page.evaluate("window.pwned") is None
    context.close()
