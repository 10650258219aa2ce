"""What a person does in the catalog, done in a real Chromium."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.catalog.addresses import ADDRESSES, follow
from tests.catalog.conftest import Site
from tests.catalog.seeds import BASE, ODD, OFTEN, SMALL_ADAPTERS

FTS_HOSTILE = [
    'foo"',
    "a:b",
    "-x",
    "*",
    "AND OR NOT",
    "NEAR(",
    "(",
    '"',
    "'",
    "\\",
    "%",
    "_",
    "qa*",
    "+json",
    "^qa",
    "{x}",
    "日本語",
]


def names(page: Any) -> list[str]:
    return [text.strip() for text in page.locator(".row h2 a").all_inner_texts()]


def test_search_finds_an_adapter_by_its_words_and_opens_it(page: Any) -> None:
    page.goto("/")
    page.get_by_role("searchbox").fill("question json")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert names(page) == ["task/qa"]
    follow(page, page.get_by_role("link", name="task/qa"))
    assert page.url.endswith("/task/qa")
    assert page.locator("h1").inner_text().replace(" ", "") == "task/qa"


@pytest.mark.parametrize("ref", ["task/qa", "task/qa@v2", "hf://task/qa@prod"])
def test_a_ref_that_is_pasted_finds_its_adapter(page: Any, ref: str) -> None:
    page.goto("/?" + urlencode({"q": ref}))
    assert names(page) == ["task/qa"]


def test_facets_narrow_the_list_and_a_chip_widens_it_again(page: Any) -> None:
    page.goto("/")
    filters = page.get_by_role("navigation", name="Filters")
    follow(page, filters.get_by_role("link", name="rsLoRA"))
    assert names(page) == ["team/summarize"]
    follow(page, page.get_by_role("link", name="Remove filter rsLoRA"))
    assert len(names(page)) > 1


def test_serving_limit_hides_adapters_whose_effective_rank_is_over_it(page: Any) -> None:
    page.goto("/?task=text-classification&task=summarization")
    assert set(names(page)) == {"task/sentiment", "team/summarize"}
    follow(page, page.get_by_role("navigation", name="Filters").get_by_role("link", name="16", exact=True))
    assert names(page) == ["task/sentiment"]  # ranks 16 and 48


def test_pages_of_the_list_show_every_adapter_once(page: Any) -> None:
    page.goto("/many?sort=name")
    seen = names(page)
    while page.get_by_role("link", name="Next page").count():
        follow(page, page.get_by_role("link", name="Next page"))
        seen += names(page)
    assert sorted(seen) == ["many/often", *(f"many/small-{index:02}" for index in range(SMALL_ADAPTERS))]


def test_sorting_by_downloads_puts_the_most_used_first(page: Any) -> None:
    page.goto("/")
    follow(page, page.get_by_role("navigation", name="Sort by").get_by_role("link", name="Downloads"))
    assert names(page)[0] == "task/qa"


def test_whatever_is_typed_into_the_search_is_a_search(page: Any) -> None:
    for text in FTS_HOSTILE:
        answer = page.goto("/?" + urlencode({"q": text}))
        assert answer.status == 200, text
        assert page.get_by_role("searchbox").input_value() == text


def test_version_is_opened_from_the_adapter_and_shows_its_layer_map(page: Any) -> None:
    page.goto("/task/qa")
    follow(page, page.get_by_role("region", name="Versions").get_by_role("link", name="v2"))
    assert page.url.endswith("/task/qa/versions/2")
    cells = page.locator(".heatmap rect[class^='heat-']")
    assert cells.count() == 2 * 2  # two layers, q_proj and v_proj
    assert page.get_by_text("Second round, learning rate halved").is_visible()


def test_yanked_version_says_why_and_the_adapter_page_avoids_it(page: Any) -> None:
    page.goto("/task/qa/versions/1")
    assert page.get_by_role("note").first.inner_text().startswith("task/qa@v1 was yanked")
    assert "Answers in prose when the question is long" in page.get_by_role("note").first.inner_text()
    page.goto("/task/qa")
    assert "task/qa@v3" in page.locator("#use").inner_text()
    row = page.locator("tr.yanked")
    assert "v1" in row.inner_text()
    assert "Answers in prose" in row.inner_text()


def wait_for_copied(page: Any) -> None:
    """What is told to screen readers stays; the button takes its label back after a moment."""
    page.locator("[data-status]", has_text="Copied").wait_for(state="attached")


@pytest.mark.parametrize("tab", ["CLI", "Python", "PEFT", "vLLM", "curl"])
def test_snippet_is_copied_as_it_reads(page: Any, tab: str) -> None:
    page.goto("/task/qa/versions/2")
    page.get_by_role("group", name="How to use").get_by_text(tab, exact=True).click()
    pane = page.locator(".use .pane:visible")
    pane.get_by_role("button", name="Copy").click()
    wait_for_copied(page)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == pane.locator("code").inner_text()
    assert "task/qa" in copied
    assert "v2" in copied


def test_ref_is_copied_with_its_version(page: Any) -> None:
    page.goto("/task/qa/versions/2")
    page.get_by_role("button", name="Copy ref").click()
    wait_for_copied(page)
    assert page.evaluate("navigator.clipboard.readText()") == "task/qa@v2"


def test_downloaded_file_has_the_hash_that_the_page_shows(page: Any, downloads: Path) -> None:
    page.goto("/task/qa/versions/2/files/adapter_model.safetensors")
    shown = page.locator("#sha").inner_text()
    with page.expect_download() as started:
        page.get_by_role("link", name="Download").click()
    target = downloads / "adapter_model.safetensors"
    started.value.save_as(target)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == shown


def test_card_shows_its_own_picture_and_links_its_own_files(page: Any) -> None:
    page.goto("/task/qa")
    picture = page.get_by_role("img", name="Loss by step")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete && image.naturalWidth === 1", arg=picture.element_handle())
    follow(page, page.get_by_role("link", name="how it was trained"))
    assert page.url.endswith("/task/qa/versions/3/files/notes.md")
    assert "Trained for two epochs." in page.locator("main").inner_text()


def test_metadata_is_shown_as_it_was_written_and_never_as_markup(page: Any) -> None:
    page.goto("/?q=onerror")
    assert names(page) == ["team/odd"]
    follow(page, page.get_by_role("link", name="team/odd"))
    assert ODD in page.locator(".lede").inner_text()
    follow(page, page.get_by_role("complementary").get_by_role("link", name="local:"))
    assert page.locator("h1").inner_text().startswith("local:")
    follow(page, page.get_by_role("link", name="team/odd"))
    follow(page, page.locator("a.chip", has_text="a/b?c=d&e"))
    assert names(page) == ["team/odd"]
    page.goto("/team/odd/versions/1")
    assert ODD in page.locator(".lede").inner_text()
    assert page.evaluate("window.pwned") is None


def test_many_versions_have_a_list_of_their_own(page: Any) -> None:
    page.goto("/many/often")
    assert page.get_by_role("region", name="Versions").get_by_role("row").count() == 20 + 1
    follow(page, page.get_by_role("link", name=f"All {OFTEN}"))
    assert page.get_by_role("region", name="Versions").get_by_role("row").count() == OFTEN + 1
    page.goto("/many/often/versions?before=3")
    assert page.get_by_role("region", name="Versions").get_by_role("row").count() == 2 + 1


def test_compare_shows_what_changed_and_another_pair_can_be_chosen(page: Any) -> None:
    page.goto("/task/qa/compare")
    assert page.locator("h1").inner_text() == "v2 → v3"
    page.get_by_label("From").select_option("1")
    follow(page, page.get_by_role("button", name="Compare"))
    assert page.locator("h1").inner_text() == "v1 → v3"
    row = page.get_by_role("region", name="Config changes").get_by_role("row", name="lora_alpha")
    assert row.get_by_role("cell").all_inner_texts() == ["8", "16"]


def test_base_lists_its_adapters(page: Any) -> None:
    page.goto("/bases")
    follow(page, page.get_by_role("link", name=BASE))
    assert page.get_by_role("link", name="task/qa").is_visible()


def test_slash_key_focuses_the_search_but_not_while_typing(page: Any) -> None:
    page.goto("/task/qa")
    page.keyboard.press("/")
    search = page.get_by_role("searchbox")
    assert search.evaluate("field => field === document.activeElement")
    assert search.input_value() == ""
    page.keyboard.type("a/b")
    assert search.input_value() == "a/b"


def test_everything_is_reached_by_keyboard(page: Any) -> None:
    page.goto("/task/qa")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.locator("#use-cli").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".use .pane:visible code").inner_text().startswith("import hub")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Copy"
    page.keyboard.press("Enter")
    wait_for_copied(page)


def test_theme_follows_the_system_until_it_is_chosen_and_then_is_remembered(chromium: Any, site: Site) -> None:
    context = chromium.new_context(base_url=site.url, color_scheme="dark")
    page = context.new_page()
    page.goto("/")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_role("button", name="Dark mode").click()
    light = page.evaluate(background)
    assert light != dark
    page.goto("/task/qa")
    assert page.evaluate(background) == light
    assert page.get_by_role("button", name="Dark mode").get_attribute("aria-pressed") == "false"
    context.close()


@pytest.mark.parametrize("width", [320, 768])
def test_no_page_scrolls_sideways(chromium: Any, site: Site, width: int) -> None:
    context = chromium.new_context(base_url=site.url, viewport={"width": width, "height": 700})
    page = context.new_page()
    wide = {}
    for name, address in ADDRESSES.items():
        page.goto(address)
        excess = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if excess > 0:
            wide[name] = excess
    context.close()
    assert wide == {}


def test_filters_open_on_a_narrow_screen(chromium: Any, site: Site) -> None:
    context = chromium.new_context(base_url=site.url, viewport={"width": 320, "height": 700})
    page = context.new_page()
    page.goto("/")
    filters = page.get_by_role("navigation", name="Filters")
    assert not filters.is_visible()
    page.get_by_text("Filters", exact=True).click()
    follow(page, filters.get_by_role("link", name="rsLoRA"))
    assert names(page) == ["team/summarize"]
    context.close()


def test_private_adapter_is_seen_only_after_login(page: Any, site: Site) -> None:
    assert page.goto("/vault/secret").status == 404
    follow(page, page.get_by_role("main").get_by_role("link", name="Log in"))
    page.get_by_label("Token").fill("lhub_wrong")
    follow(page, page.get_by_role("button", name="Log in"))
    assert page.get_by_role("alert").is_visible()
    page.get_by_label("Token").fill(site.seeded.token)
    follow(page, page.get_by_role("button", name="Log in"))
    assert page.url.endswith("/vault/secret")
    assert page.locator(".prose").inner_text() == "Nobody outside may read this."
    follow(page, page.get_by_role("link", name="admin", exact=True))
    assert page.get_by_role("heading", name="Tokens").is_visible()
    follow(page, page.get_by_role("button", name="Log out"))
    assert page.goto("/vault/secret").status == 404


def test_errors_say_what_to_do_next(page: Any) -> None:
    assert page.goto("/task/none").status == 404
    assert page.get_by_role("link", name="All adapters").is_visible()
    assert page.goto("/?sort=random").status == 400
    assert "recent" in page.get_by_role("main").inner_text()
    assert page.goto("/task/qa/versions/99").status == 404
    assert page.goto("/no/such/page/at/all").status == 404
    assert page.locator(".logo").is_visible()
