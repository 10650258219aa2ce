"""The front matter of a model card: what README.md says of an adapter in its first lines.

    ---
    license: apache-2.0
    base_model: HuggingFaceTB/SmolLM2-135M-Instruct
    tags: [lora, qa]
    ---
    # The card itself …

Read with PyYAML's plainest loader, in which every scalar is a text, so no value means something else than it says.
Aliases are refused (306 bytes of them make a gigabyte), and size and depth are bounded.  A card without front matter,
or with one that can't be read, is still a card: `parse_card` raises, `read_card` falls back to the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.errors import HubError, InvalidAdapter

MAX_CARD_BYTES = 1024 * 1024
MAX_FRONT_MATTER_BYTES = 32 * 1024
MAX_TAGS = 50
MAX_TEXT = 300
_MAX_DEPTH = 12

_FENCE = re.compile(r"\A(?:\ufeff)?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$\n?", re.DOTALL | re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Card:
    """A model card.  text: the markdown below the front matter.  metadata: the whole front matter, scalars as texts."""

    text: str
    license: str | None = None
    tags: tuple[str, ...] = ()
    base_model: str | None = None
    task: str | None = None
    description: str | None = None
    language: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_card(data: bytes) -> Card:
    """Return the card, without metadata if its front matter can't be read.  Never raises for what a card may hold."""
    try:
        return parse_card(data)
    except InvalidAdapter:
        text = data[:MAX_CARD_BYTES].decode("utf-8", "replace")
        return Card(_FENCE.sub("", text, count=1))


def parse_card(data: bytes) -> Card:
    """Return the card.  Raises InvalidAdapter for one that is too large, no UTF-8, or has malformed front matter."""
    if len(data) > MAX_CARD_BYTES:
        raise InvalidAdapter(f"README.md has {len(data):,} bytes; {MAX_CARD_BYTES:,} are allowed. Shorten it.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidAdapter("README.md is not UTF-8 text. Save it as UTF-8.") from error
    found = _FENCE.match(text)
    if not found:
        return Card(text)
    metadata = _load(found[1])
    return Card(
        text=text[found.end() :].lstrip("\r\n"),
        license=_text(metadata, "license"),
        tags=_texts(metadata, "tags"),
        base_model=_first(metadata, "base_model"),
        task=_text(metadata, "task") or _text(metadata, "pipeline_tag"),
        description=_text(metadata, "description") or _text(metadata, "summary"),
        language=_texts(metadata, "language"),
        datasets=_texts(metadata, "datasets"),
        metadata=metadata,
    )


def _load(source: str) -> dict[str, Any]:
    if len(source.encode("utf-8")) > MAX_FRONT_MATTER_BYTES:
        raise _invalid(f"has more than {MAX_FRONT_MATTER_BYTES:,} bytes")
    try:
        import yaml
    except ImportError as error:
        raise HubError("Reading a card's front matter needs PyYAML. Run: pip install pyyaml") from error
    try:
        _check_events(yaml.parse(source, Loader=yaml.SafeLoader), yaml)
        value = yaml.load(source, Loader=yaml.BaseLoader)  # noqa: S506  (every scalar stays a text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _invalid(f"is not YAML ({str(error).splitlines()[0][:100]})") from error
    if value is None or value == "":
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise _invalid("is not a list of `name: value` lines")
    return value


def _check_events(events: Any, yaml: Any) -> None:
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _invalid("has an anchor or an alias")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise _invalid(f"is nested more than {_MAX_DEPTH} levels deep")


def _invalid(fault: str) -> InvalidAdapter:
    return InvalidAdapter(f"The front matter of README.md {fault}. Correct the lines between the two ---.")


def _text(metadata: Mapping[str, Any], name: str) -> str | None:
    value = metadata.get(name)
    return _clean(value) if isinstance(value, str) else None


def _texts(metadata: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = metadata.get(name)
    items = value if isinstance(value, list) else [value]
    cleaned = (_clean(item) for item in items if isinstance(item, str))
    return tuple(dict.fromkeys(item for item in cleaned if item))[:MAX_TAGS]


def _first(metadata: Mapping[str, Any], name: str) -> str | None:
    values = _texts(metadata, name)
    return values[0] if values else None


def _clean(value: str) -> str | None:
    return _CONTROL.sub(" ", value).strip()[:MAX_TEXT] or None
