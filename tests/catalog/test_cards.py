"""Model cards: what survives, what doesn't, and what it costs."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.web.catalog.cards import MAX_CARD_BYTES, Card, render_card
from tests.catalog.payloads import FRAGMENTS, corpus, costly

BANNED = {*re.findall(r"\w+", "script style iframe object embed form input button svg math meta link base video audio")}
BANNED_ATTRIBUTES = {"style", "srcset", "ping", "data-copy", "name", "background"}
SAFE_ADDRESS = re.compile(r"(https?://|mailto:|#card-|/files/|/raw/)")


class Files:
    """A version with two files."""

    known = frozenset({"notes.md", "images/loss curve.png"})

    def page(self, path: str) -> str | None:
        return f"/files/{path}" if path in self.known else None

    def raw(self, path: str) -> str | None:
        return f"/raw/{path}" if path in self.known else None


class Elements(HTMLParser):
    """Collects (tag, attributes) of a piece of HTML, by a parser that is none of ours."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def render(text: str) -> Card:
    return render_card(text.encode("utf-8", "surrogatepass"), Files())


@pytest.mark.parametrize("text", corpus().values(), ids=corpus().keys())
def test_hostile_card_keeps_no_active_element_handler_or_outside_address(text: str) -> None:
    check_harmless(render(text))


def check_harmless(card: Card) -> None:
    """Hold the promise of a card, as read by the standard library's parser."""
    elements = Elements(str(card.html)).found
    assert not {tag for tag, _ in elements} & BANNED
    for tag, attributes in elements:
        assert not [name for name in attributes if name.startswith("on") or name in BANNED_ATTRIBUTES]
        for name in ("href", "src"):
            if attributes.get(name) is not None:
                assert SAFE_ADDRESS.match(str(attributes[name])), (tag, attributes)
        if tag == "img" and "src" in attributes:
            assert str(attributes["src"]).startswith("/raw/")
        assert str(attributes.get("id") or "card-").startswith("card-")
        assert str(attributes.get("class") or "tok-").startswith(("tok-", "table-scroll", "remote-image"))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=30).map("".join))
def test_no_text_at_all_makes_a_card_that_acts(text: str) -> None:
    check_harmless(render(text))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.binary(max_size=400) | st.text(max_size=200).map(lambda text: f"---\n{text}\n---\n".encode("utf-8", "replace"))
)
def test_no_bytes_at_all_make_the_front_matter_fail(data: bytes) -> None:
    front = render_card(data, Files()).front
    assert not (front.problem and front.fields)


def test_ordinary_markdown_keeps_its_meaning() -> None:
    html = str(render("# Title\n\nSome **bold** and `code`.\n\n- [x](https://example.com)\n\n> quote\n\n~~gone~~").html)
    assert "<strong>bold</strong>" in html
    assert "<code>code</code>" in html
    assert "<blockquote>" in html
    assert "<s>gone</s>" in html
    assert Elements(html).of("a")[0]["rel"] == "nofollow noopener noreferrer ugc"


def test_headings_move_below_the_pages_own_and_get_anchors() -> None:
    card = render("# Use\n\n## Use\n\n###### deep\n\n[down](#use)")
    assert [(each.level, each.anchor) for each in card.headings] == [
        (2, "card-use"),
        (3, "card-use-2"),
        (6, "card-deep"),
    ]
    elements = Elements(str(card.html))
    assert [attributes["id"] for attributes in elements.of("h2")] == ["card-use"]
    assert elements.of("a")[0]["href"] == "#card-use"
    assert not elements.of("h1")


def test_image_of_the_version_is_shown_and_a_remote_one_becomes_a_link() -> None:
    card = render("![loss](./images/loss%20curve.png) ![far](https://example.com/a.png) ![none](no.png)")
    elements = Elements(str(card.html))
    assert [attributes["src"] for attributes in elements.of("img")] == ["/raw/images/loss curve.png"]
    assert [attributes["href"] for attributes in elements.of("a")] == ["https://example.com/a.png"]


def test_relative_link_leads_to_a_file_of_the_version_or_nowhere() -> None:
    links = Elements(str(render("[a](notes.md) [b](../../etc/passwd) [c](/login) [d](other.md)").html)).of("a")
    assert [attributes.get("href") for attributes in links] == ["/files/notes.md", None, None, None]


def test_tables_scroll_and_keep_their_alignment() -> None:
    html = str(render("| a | b |\n|---|--:|\n| 1 | 2 |").html)
    assert '<div class="table-scroll" tabindex="0">' in html
    assert Elements(html).of("td")[1]["align"] == "right"
    assert "style=" not in html


def test_code_is_coloured_by_class_and_loses_no_character() -> None:
    html = str(render('```python\nprint("<b>&")  # x\n```').html)
    assert 'class="tok-' in html
    text = re.sub(r"<[^>]+>", "", html)
    assert 'print("&lt;b&gt;&amp;")  # x' in text.replace("&quot;", '"').replace("&#34;", '"')


def test_front_matter_is_read_and_not_shown() -> None:
    card = render("---\nlicense: apache-2.0\ntags:\n- qa\n- json\nlanguage: no\n---\nBody")
    assert card.front.text("license") == "apache-2.0"
    assert card.front.texts("tags") == ("qa", "json")
    assert card.front.text("language") == "no"
    assert "apache" not in card.html


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("a: &x 1\nb: *x", "aliases"),
        ("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]", "aliases"),
        ("a: " + "[" * 200 + "]" * 200, "deeply"),
        ("a: [" + "x," * 7000 + "]", "too many"),
        ("a: [1", "not YAML"),
        ("a: \x01", "not YAML"),
        ("- just\n- a list", "not a list of `name: value` lines"),
        ("a: " + "x" * 20_000, "more than 16 KB"),
    ],
)
def test_front_matter_that_is_a_bomb_or_broken_is_left_out_with_the_reason(block: str, reason: str) -> None:
    card = render(f"---\n{block}\n---\n\nThe body stays.")
    assert reason in card.front.problem
    assert not card.front.fields
    assert "The body stays." in card.html


def test_yaml_tags_make_no_objects() -> None:
    front = render("---\nx: !!python/object/apply:os.system ['true']\ny: !!int 7\n---\n").front
    assert front.fields.get("y") == "7"
    assert isinstance(front.fields.get("x"), list)


def test_long_card_is_cut_and_says_so() -> None:
    card = render("word " * (MAX_CARD_BYTES // 4))
    assert "Only the first 64 KB" in card.note
    assert len(card.html) < 2 * MAX_CARD_BYTES


def test_invalid_utf8_and_nul_are_replaced() -> None:
    card = render_card(b"a\xff\x00b", Files())
    assert "\x00" not in card.html
    assert "b" in card.html


@pytest.mark.parametrize("name", costly(100))
def test_costly_card_takes_time_in_proportion_to_its_size(name: str) -> None:
    """Four times the text takes about four times the time; a quadratic cost would be sixteen times."""

    def seconds(size: int) -> float:
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            render(costly(size)[name])
            best = min(best, time.process_time() - start)
        return best

    small, large = seconds(MAX_CARD_BYTES // 8), seconds(MAX_CARD_BYTES // 2)
    assert large < 10 * small + 0.05


@pytest.mark.parametrize("name", costly(100))
def test_costly_card_stays_near_its_size(name: str) -> None:
    assert len(render(costly(MAX_CARD_BYTES)[name]).html) < 32 * MAX_CARD_BYTES
