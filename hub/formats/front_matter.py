"""The front matter of a model card: what README.md says of an adapter between its first two `---` lines.

    front, text = split_front_matter(readme)
    front.text("license"), front.texts("tags"), front.problem

Every scalar stays a text (`license: no` is the text "no"), so nothing that YAML guesses can surprise.  Aliases are
refused: 306 bytes of them stand for a gigabyte.  Size, depth and the number of entries are bounded, because PyYAML
takes a second for 30 KB of brackets.  Needs PyYAML, which a registry has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.errors import HubError

MAX_FRONT_MATTER_BYTES = 16 * 1024
MAX_DEPTH = 12
MAX_EVENTS = 4_000
_FENCES = frozenset({"---", "..."})


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """What the block says.  problem: why it could not be read; empty otherwise."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    def text(self, name: str) -> str | None:
        """Return a field that is one text, or None."""
        value = self.fields.get(name)
        return value.strip() or None if isinstance(value, str) else None

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a field that is a text or a list of texts, as texts, each once."""
        value = self.fields.get(name)
        items = value if isinstance(value, list) else [value]
        return tuple(dict.fromkeys(item.strip() for item in items if isinstance(item, str) and item.strip()))


def split_front_matter(card: str) -> tuple[FrontMatter, str]:
    """Return the front matter and the rest of a card.  A block that can't be read is left out, and says why."""
    body = card.removeprefix("\ufeff")
    first, newline, rest = body.partition("\n")
    if first.rstrip() != "---" or not newline:
        return FrontMatter(), body
    position = 0
    for line in rest.splitlines(keepends=True):
        if line.rstrip() in _FENCES:
            return parse_front_matter(rest[:position]), rest[position + len(line) :]
        position += len(line)
    return FrontMatter(), body


def parse_front_matter(source: str) -> FrontMatter:
    """Read the YAML between the fences.  Never raises for what it says: the card is worth showing all the same."""
    if len(source.encode("utf-8", "replace")) > MAX_FRONT_MATTER_BYTES:
        return FrontMatter(problem=f"The front matter has more than {MAX_FRONT_MATTER_BYTES // 1024} KB.")
    yaml = _yaml()
    try:
        problem = _find_bomb(source, yaml)
        loaded = None if problem else yaml.load(source, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        problem, loaded = f"The front matter is not YAML: {reason}.", None
    if loaded and not isinstance(loaded, dict):
        problem = "The front matter is not a list of `name: value` lines."
    if problem or not loaded:
        return FrontMatter(problem=problem)
    return FrontMatter({key: value for key, value in loaded.items() if isinstance(key, str)})


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise HubError("Reading a card's front matter needs PyYAML. Run: pip install pyyaml") from error
    return yaml


def _find_bomb(source: str, yaml: Any) -> str:
    """Return why the block must not be loaded, or an empty text.  Events alone cannot multiply."""
    depth = 0
    for count, event in enumerate(yaml.parse(source, Loader=yaml.BaseLoader)):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            return "The front matter uses YAML anchors or aliases, which are not read."
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or count > MAX_EVENTS:
            return "The front matter is nested too deeply or has too many entries."
    return ""
