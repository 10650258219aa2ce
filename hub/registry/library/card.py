"""What a README says about an adapter: task, license and tags from its front matter, and a one-line description."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from markdown_it import MarkdownIt

from hub.formats.front_matter import split_front_matter

MAX_README_BYTES = 1024 * 1024
MAX_TAGS = 30
MAX_TAG_LENGTH = 64
MAX_DESCRIPTION_LENGTH = 500
MAX_SEARCHED_LENGTH = 20_000
_PROSE = frozenset({"text", "code_inline", "softbreak", "hardbreak"})
# Tags that say nothing here, because every adapter has them.
_OBVIOUS_TAGS = frozenset({"lora", "peft", "adapter", "safetensors"})


@dataclass(frozen=True, slots=True)
class Card:
    """Every field may be missing: an unreadable card is no reason to refuse an adapter."""

    task: str | None = None
    license: str | None = None
    tags: tuple[str, ...] = ()
    description: str = ""


def read_card(readme: bytes) -> Card:
    """Parse the start of a README.md; an empty card if it is unreadable."""
    front, body = split_front_matter(readme[:MAX_README_BYTES].decode("utf-8", "replace"))
    fields = front.fields
    return Card(
        task=_text(fields.get("task")) or _text(fields.get("pipeline_tag")),
        license=_text(fields.get("license")),
        tags=_tags(fields.get("tags")),
        description=_text(fields.get("description"), MAX_DESCRIPTION_LENGTH) or _first_paragraph(body),
    )


def _text(value: object, limit: int = 96) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return None
    return " ".join(value.split())[:limit]


def _tags(value: object) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    tags = (_text(tag, MAX_TAG_LENGTH) for tag in given[: 4 * MAX_TAGS])
    kept = dict.fromkeys(tag.lower() for tag in tags if tag and not tag.startswith("base_model:"))
    return tuple(tag for tag in kept if tag not in _OBVIOUS_TAGS)[:MAX_TAGS]


def _first_paragraph(body: str) -> str:
    """Return the first paragraph as plain text: no heading, list, table, quote, code or HTML."""
    tokens = MarkdownIt("commonmark").enable("table").parse(body[:MAX_SEARCHED_LENGTH])
    for opening, inline in pairwise(tokens):
        if opening.type == "paragraph_open" and opening.level == 0:
            words = "".join(child.content or " " for child in inline.children or () if child.type in _PROSE)
            if words.strip():
                return " ".join(words.split())[:MAX_DESCRIPTION_LENGTH]
    return ""
