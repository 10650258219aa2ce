"""The YAML block at the head of a model card: read without aliases, without types, within bounds.

Every scalar stays text (`license: no` is the text "no"), so nothing that YAML 1.1 guesses can surprise, and a number
with a million digits costs nothing.  Aliases are refused: nine lines of them stand for gigabytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_FRONT_MATTER_BYTES = 16 * 1024
MAX_DEPTH = 12
MAX_EVENTS = 4_000
_FENCE = "---"


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """What the block says.  `problem` tells the reader why it could not be read; it is empty otherwise."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    def text(self, name: str) -> str | None:
        """Return a field that is one text, or None."""
        value = self.fields.get(name)
        return value.strip() or None if isinstance(value, str) else None

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a field that is a text or a list of texts, as a list."""
        value = self.fields.get(name)
        items = value if isinstance(value, list) else [value]
        return tuple(item.strip() for item in items if isinstance(item, str) and item.strip())


def split_front_matter(text: str) -> tuple[FrontMatter, str]:
    """Return the front matter and the rest of a card.  A block that can't be read is left out, and says why."""
    body = text.removeprefix("\ufeff")
    first, newline, rest = body.partition("\n")
    if first.rstrip() != _FENCE or not newline:
        return FrontMatter(), body
    head, end, tail = _find_end(rest)
    if not end:
        return FrontMatter(), body
    return parse_front_matter(head), tail


def parse_front_matter(text: str) -> FrontMatter:
    """Read the YAML between the fences.  Never raises: the card below it is worth showing all the same."""
    if len(text.encode("utf-8", "replace")) > MAX_FRONT_MATTER_BYTES:
        return FrontMatter(problem=f"The front matter has more than {MAX_FRONT_MATTER_BYTES // 1024} KB.")
    try:
        problem = _find_bomb(text)
        if problem:
            return FrontMatter(problem=problem)
        loaded = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - BaseLoader makes texts, lists and mappings only
    except (yaml.YAMLError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        return FrontMatter(problem=f"The front matter is not YAML: {reason}.")
    if loaded is None or loaded == "":
        return FrontMatter()
    if not isinstance(loaded, dict):
        return FrontMatter(problem="The front matter is not a list of fields.")
    return FrontMatter({key: value for key, value in loaded.items() if isinstance(key, str)})


def _find_end(rest: str) -> tuple[str, bool, str]:
    """Split at the closing fence: (head, whether it was found, tail)."""
    position = 0
    while position <= len(rest):
        end = rest.find("\n", position)
        line = rest[position:] if end < 0 else rest[position:end]
        if line.rstrip() in {_FENCE, "..."}:
            return rest[:position], True, "" if end < 0 else rest[end + 1 :]
        if end < 0 or position > MAX_FRONT_MATTER_BYTES:
            break
        position = end + 1
    return "", False, ""


def _find_bomb(text: str) -> str:
    """Return why the block must not be loaded, or an empty text.  Reads events only, which cannot multiply."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.BaseLoader)):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            return "The front matter uses YAML anchors or aliases, which are not read."
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or count > MAX_EVENTS:
            return "The front matter is nested too deeply or has too many entries."
    return ""
