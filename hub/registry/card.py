"""What a README's front matter says: task, license, tags, and a line that describes the adapter.

Read with bounds: 64 KB of YAML without aliases, anchors or tags, so that no 300-byte bomb grows to gigabytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

MAX_README_BYTES = 1024 * 1024
MAX_FRONT_MATTER_BYTES = 64 * 1024
MAX_TAGS = 30
MAX_TAG_LENGTH = 64
MAX_DESCRIPTION_LENGTH = 500
# Tags that say nothing here, because every adapter has them.
_OBVIOUS_TAGS = frozenset({"lora", "peft", "adapter", "safetensors"})
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Card:
    """Everything may be missing: a card that can't be read is no reason to refuse an adapter."""

    task: str | None = None
    license: str | None = None
    tags: tuple[str, ...] = ()
    description: str = ""


def read_card(readme: bytes) -> Card:
    """Return what the first lines of a README.md say; an empty card if they say nothing readable."""
    text = readme[:MAX_README_BYTES].decode("utf-8", "replace")
    found = _FRONT_MATTER.match(text)
    body = text[found.end() :] if found else text
    fields = _load(found[1]) if found else {}
    return Card(
        task=_text(fields.get("task")) or _text(fields.get("pipeline_tag")),
        license=_text(fields.get("license")),
        tags=_tags(fields.get("tags")),
        description=_text(fields.get("description"), MAX_DESCRIPTION_LENGTH) or _first_paragraph(body),
    )


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader without aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read here")
        return super().compose_node(parent, index)


def _load(front_matter: str) -> dict[str, Any]:
    if len(front_matter) > MAX_FRONT_MATTER_BYTES:
        return {}
    try:
        fields = yaml.load(front_matter, _PlainLoader)  # noqa: S506  (a SafeLoader with less)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


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
    """Return the first lines that are prose: no heading, list, table, quote, code or HTML."""
    for block in re.split(r"\n\s*\n", body[:20_000]):
        lines = [line.strip() for line in block.strip().splitlines()]
        if lines and lines[0] and not re.match(r"[#>|<`!\-*=+]|\d+\.|\[", lines[0]):
            return " ".join(" ".join(lines).split())[:MAX_DESCRIPTION_LENGTH]
    return ""
