"""Model cards: a README that anybody may have written, turned into HTML that can do nothing.

    bytes -> front matter (YAML without aliases, all values text) + Markdown
          -> tokens, measured before they are rendered (a reference may be named many times: output can outgrow input)
          -> HTML, of which nh3 keeps an allow-list; every link and image is resolved here

A card may show pictures of its own version only: a remote picture would tell its host who reads the page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup, escape

from hub.formats.front_matter import FrontMatter, split_front_matter

from .highlight import Budget

MAX_CARD_BYTES = 64 * 1024
MAX_TOKENS = 30_000
MAX_BRACKETS = 8_000
MAX_RAW_TAGS = 2_000
MAX_TABLE_CELLS = 10_000
MAX_ATTRIBUTE_CHARS = 256 * 1024
ANCHOR_PREFIX = "card-"
"""Set before every id, so that a card can't take the place of an element of the page."""

_TAGS = frozenset(
    re.findall(
        r"\w+",
        """a abbr b blockquote br caption code dd del details div dl dt em h2 h3 h4 h5 h6 hr i img ins kbd li ol p pre
        q s samp small span strong sub summary sup table tbody td tfoot th thead tr ul var""",
    )
)
_REMOVED_WITH_CONTENT = frozenset({"script", "style", "template", "iframe", "noscript", "textarea", "title", "svg"})
_ATTRIBUTES = {
    "a": {"href", "title"},
    "img": {"src", "alt", "title", "width", "height"},
    "ol": {"start"},
    "td": {"align", "colspan", "rowspan"},
    "th": {"align", "colspan", "rowspan"},
    "details": {"open"},
    "pre": {"tabindex"},
    "div": {"class", "tabindex"},
    "span": {"class"},
    "abbr": {"title"},
    **{f"h{level}": {"id"} for level in range(2, 7)},
}
_CLASS = {"div": re.compile(r"table-scroll\Z"), "span": re.compile(r"(tok-[a-z0-9]{1,4}|remote-image)\Z")}
_DELIMITER_ROW = re.compile(r"[|:\s-]+\Z")
_SMALL_NUMBER = re.compile(r"[0-9]{1,4}\Z")
_SLUG = re.compile(r"[^\w]+")
IMAGE_NAMES = (".png", ".jpg", ".jpeg", ".gif", ".webp")


class FileLinks(Protocol):
    """Knows the addresses of the files of the version whose card is rendered."""

    def page(self, path: str) -> str | None:
        """Return the address of the page that shows `path`; None if the version has no such file."""

    def raw(self, path: str) -> str | None:
        """Return the address of the file's bytes; None if the version has no such file."""


@dataclass(frozen=True, slots=True)
class Heading:
    """One line of a card's table of contents."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Card:
    """A rendered card.  `html` is safe to put into a page; `note` says what was left out, or is empty."""

    html: Markup
    front: FrontMatter
    headings: tuple[Heading, ...] = ()
    note: str = ""


@dataclass(slots=True)
class _Headings:
    found: list[Heading] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def anchor(self, text: str) -> str:
        slug = _SLUG.sub("-", text.lower()).strip("-")[:60] or "section"
        unique, number = slug, 1
        while unique in self.taken:
            number += 1
            unique = f"{slug}-{number}"
        self.taken.add(unique)
        return ANCHOR_PREFIX + unique


def render_card(data: bytes, links: FileLinks) -> Card:
    """Return `data`, a README, as safe HTML.  Never raises for what the README says; its cost is bounded."""
    text = data[:MAX_CARD_BYTES].decode("utf-8", "replace").replace("\x00", "\ufffd")
    note = "" if len(data) <= MAX_CARD_BYTES else f"Only the first {MAX_CARD_BYTES // 1024} KB of the card are shown."
    front, body = split_front_matter(text)
    parser = _parser()
    environment: dict[str, Any] = {"links": links}
    tokens = parser.parse(body, environment) if _is_parsable(body) else None
    if tokens is None or not _is_affordable(tokens):
        return Card(_plain(body), front, (), "The card is too intricate to render, so it is shown as plain text.")
    headings = _adjust(tokens)
    html = parser.renderer.render(tokens, parser.options, environment)
    return Card(_sanitize(html, links), front, tuple(headings), note)


def _parser() -> MarkdownIt:
    """Return a CommonMark parser with tables and strikethrough.  Raw HTML passes: nh3 judges it."""
    budget = Budget()
    parser = MarkdownIt(
        "commonmark",
        {"html": True, "maxNesting": 20, "highlight": lambda code, language, _: budget.highlight(code, language)},
    )
    parser.enable(["table", "strikethrough"])
    parser.add_render_rule("table_open", _open_table)
    parser.add_render_rule("table_close", _close_table)
    parser.add_render_rule("image", _render_image)
    return parser


def _is_parsable(body: str) -> bool:
    """Whether the parser takes no longer over `body` than over ordinary text of its size."""
    return body.count("[") <= MAX_BRACKETS and _count_cells(body) <= MAX_TABLE_CELLS


def _count_cells(body: str) -> int:
    """Return how many cells the tables may have at most: a row of one bar is filled up to the width of its head."""
    cells = columns = 0
    for line in body.splitlines():
        row = line.strip()
        if not row:
            columns = 0
        elif "-" in row and _DELIMITER_ROW.match(row):
            columns = max(columns, row.count("|") + 1)
        cells += columns
    return cells


def _is_affordable(tokens: Sequence[Token]) -> bool:
    """Whether rendering stays near the size of the source: a link's address is written once per use of its label.

    Raw tags count apart: sanitizing elements that are nested in each other takes the square of their number.
    """
    count = characters = tags = 0
    for token in tokens:
        for each in (token, *(token.children or ())):
            count += 1
            characters += sum(len(str(value)) for value in each.attrs.values())
            tags += each.content.count("<") if each.type in {"html_block", "html_inline"} else 0
        if count > MAX_TOKENS or characters > MAX_ATTRIBUTE_CHARS or tags > MAX_RAW_TAGS:
            return False
    return True


def _plain(body: str) -> Markup:
    return Markup('<pre tabindex="0">{}</pre>').format(body)


def _adjust(tokens: Sequence[Token]) -> list[Heading]:
    """Fit the card into a page: headings one level down, each with an anchor; cells aligned without a style."""
    headings = _Headings()
    for index, token in enumerate(tokens):
        if token.type in {"td_open", "th_open"}:
            _align_cell(token)
        if token.type not in {"heading_open", "heading_close"}:
            continue
        level = min(int(token.tag[1]) + 1, 6)
        token.tag = f"h{level}"
        if token.type == "heading_open":
            text = _text_of(tokens[index + 1])
            anchor = headings.anchor(text)
            token.attrSet("id", anchor)
            headings.found.append(Heading(level, text, anchor))
    return headings.found


def _align_cell(token: Token) -> None:
    style = str(token.attrs.pop("style", ""))
    side = style.removeprefix("text-align:")
    if side in {"left", "center", "right"}:
        token.attrSet("align", side)


def _text_of(token: Token) -> str:
    return "".join(child.content for child in token.children or () if child.type in {"text", "code_inline"}).strip()


def _open_table(
    _renderer: RendererHTML, _tokens: Sequence[Token], _index: int, _options: OptionsDict, _env: dict[str, Any]
) -> str:
    return '<div class="table-scroll" tabindex="0"><table>\n'


def _close_table(
    _renderer: RendererHTML, _tokens: Sequence[Token], _index: int, _options: OptionsDict, _env: dict[str, Any]
) -> str:
    return "</table></div>\n"


def _render_image(
    _renderer: RendererHTML, tokens: Sequence[Token], index: int, _options: OptionsDict, env: dict[str, Any]
) -> str:
    """Write an image of this version as an image, and any other as its words: a remote one as a link."""
    source, alt = str(tokens[index].attrs.get("src", "")), escape(str(tokens[index].content or "image"))
    if _image_url(source, env["links"]):
        return f'<img src="{escape(source)}" alt="{alt}">'
    words = f'<span class="remote-image">{alt}</span>'
    return f'<a href="{escape(source)}">{words}</a>' if source.startswith(("http://", "https://")) else words


def _sanitize(html: str, links: FileLinks) -> Markup:
    """Return what nh3's allow-list keeps of `html`."""
    cleaned = nh3.clean(
        html.replace("<h1", "<h2").replace("</h1", "</h2"),
        tags=set(_TAGS),
        clean_content_tags=set(_REMOVED_WITH_CONTENT),
        attributes={tag: set(names) for tag, names in _ATTRIBUTES.items()},
        attribute_filter=_attribute_filter(links),
        set_tag_attribute_values={"pre": {"tabindex": "0"}, "img": {"loading": "lazy"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener noreferrer ugc",
    )
    return Markup(cleaned)  # noqa: S704 - this is the one place that declares HTML safe, after nh3


def _attribute_filter(links: FileLinks) -> Callable[[str, str, str], str | None]:
    def keep(tag: str, attribute: str, value: str) -> str | None:
        if attribute == "href":
            return _resolve_link(value, links)
        if attribute == "src":
            return _image_url(value, links)
        if attribute == "class":
            return value if _CLASS[tag].match(value) else None
        if attribute == "id":
            return value if value.startswith(ANCHOR_PREFIX) else None
        if attribute == "tabindex":
            return value if value == "0" else None
        if attribute in {"width", "height", "start", "colspan", "rowspan"}:
            return value if _SMALL_NUMBER.match(value) else None
        return value

    return keep


def _image_url(source: str, links: FileLinks) -> str | None:
    path = _local_path(source)
    return links.raw(path) if path and path.lower().endswith(IMAGE_NAMES) else None


def _resolve_link(value: str, links: FileLinks) -> str | None:
    """Return where a card's link may lead: an anchor of the card, a file of the version, the open web; else None."""
    target = value.strip()
    if target.startswith("#"):
        return "#" + ANCHOR_PREFIX + target[1:].removeprefix(ANCHOR_PREFIX)
    try:
        scheme = urlsplit(target).scheme
    except ValueError:
        return None
    if scheme in {"http", "https", "mailto"}:
        return target
    path = _local_path(target)
    return links.page(path) if path else None


def _local_path(value: str) -> str | None:
    """Return the path of a relative address, or None.  `links` then looks it up: only a known file comes of it."""
    try:
        parts = urlsplit(value.strip())
    except ValueError:
        return None
    if parts.scheme or parts.netloc or not parts.path:
        return None
    return unquote(parts.path).removeprefix("./")
