"""`.gitignore`, which Hugging Face clients leave to the server.  Source: git's manual, gitignore(5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

MAX_BYTES = 64 * 1024
MAX_RULES = 500


@dataclass(frozen=True, slots=True)
class Rule:
    """One line: its parts between slashes, whether it negates (`!`), whether it is only for folders (`…/`)."""

    parts: tuple[str, ...]
    negated: bool
    folders_only: bool

    def fits(self, path: Sequence[str]) -> bool:
        """Whether the parts of a path match, in time that depends on their number only."""
        places = {0}
        for part in self.parts:
            if part == "**":
                places = set(range(min(places), len(path) + 1))
            else:
                places = {place + 1 for place in places if place < len(path) and fnmatchcase(path[place], part)}
            if not places:
                return False
        return len(path) in places


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """Rules in order; the last match decides."""

    rules: tuple[Rule, ...]

    @classmethod
    def parse(cls, text: str) -> IgnoreRules:
        """Read at most 500 rules of at most 64 KB together; the rest is ignored."""
        lines = text[:MAX_BYTES].splitlines()
        return cls(tuple(rule for line in lines if (rule := _parse_line(line)))[:MAX_RULES])

    def ignores(self, path: str) -> bool:
        """Whether the file, or a folder that it lies in, is ignored."""
        parts = path.split("/")
        return any(self._decide(parts[:depth], depth < len(parts)) for depth in range(1, len(parts) + 1))

    def _decide(self, path: Sequence[str], is_folder: bool) -> bool:
        ignored = False
        for rule in self.rules:
            if (is_folder or not rule.folders_only) and rule.fits(path):
                ignored = not rule.negated
        return ignored


def _parse_line(line: str) -> Rule | None:
    """Return the rule of one line; None for a comment or an empty line."""
    text = line.rstrip()
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    text = text[1:] if negated else text.removeprefix("\\")
    pattern = text.rstrip("/")
    if not pattern:
        return None
    # A pattern with a slash is anchored at the top; one without matches at any depth.
    prefix = () if "/" in pattern else ("**",)
    parts = (*prefix, *(part for part in pattern.split("/") if part))
    return Rule(parts, negated, folders_only=text.endswith("/"))
