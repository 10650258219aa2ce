"""Which key of `rank_pattern` or `alpha_pattern` a module's name matches, by PEFT's rule and without its cost.

PEFT tries the keys in order, each as `re.match(rf"(.*\\.)?({key})$", name)`, and takes the first that matches.  Nearly
every key is a plain name, in which '.' stands for any character.  Plain keys are looked up in a dictionary per layout
(length and places of the dots), so that 1,000 keys cost a name no more than 10.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hub.formats.safe_pattern import PatternCost, UnsafePattern, check_pattern

MAX_KEYS = 20_000
MAX_LAYOUTS = 256
MAX_REGEX_KEYS = 256
MAX_REGEX_CHARACTERS = 20_000
MAX_KEY_REPEATS = 2

_PLAIN = re.compile(r"(\^?)((?:[A-Za-z0-9_-]|\\?\.)+)\$?\Z")
_Layout = tuple[int, tuple[int, ...], bool]
"""Length, places of the dots that stand for any character, and whether the key begins at the name's start."""


class PatternTable:
    """The keys of one pattern field, ready to be asked for any module."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Raise UnsafePattern for a key outside the grammar, or for keys that cost too much together."""
        self.keys = tuple(keys)
        self._plain: dict[_Layout, dict[str, int]] = {}
        self._regexes: list[tuple[int, re.Pattern[str], PatternCost]] = []
        plain = [_PLAIN.match(key) for key in self.keys]
        regexes = [key for key, found in zip(self.keys, plain, strict=True) if not found]
        if len(self.keys) > MAX_KEYS or len(regexes) > MAX_REGEX_KEYS:
            raise UnsafePattern("list has too many keys; write plain module names")
        if sum(map(len, regexes)) > MAX_REGEX_CHARACTERS:
            raise UnsafePattern(f"list has regular expressions of more than {MAX_REGEX_CHARACTERS:,} characters")
        for index, (key, found) in enumerate(zip(self.keys, plain, strict=True)):
            if found:
                self._add_plain(index, found)
            else:
                self._add_regex(index, key)
        if len(self._plain) > MAX_LAYOUTS:
            raise UnsafePattern("list has too many different keys; write plain module names")

    def steps(self, module: str) -> int:
        """Return how many steps `first_match` may take for `module`, at the worst."""
        starts = module.count(".") + 1
        lookups = min(len(self._plain), starts + sum(1 for layout in self._plain if layout[2]))
        tries = sum(cost.steps(len(module)) for _, _, cost in self._regexes)
        return lookups * (50 + 3 * len(module)) + starts * tries  # a lookup copies the name

    def first_match(self, module: str) -> str | None:
        """Return the first key that matches `module` as PEFT matches, or None."""
        if not self.keys:
            return None
        best = min(self._plain_matches(module), default=len(self.keys))
        starts = [0, *(place + 1 for place, character in enumerate(module) if character == ".")]
        for index, regex, _ in self._regexes:
            if index >= best:
                break
            # PEFT's optional `(.*\.)?` in front: the key may begin at any part of the name.
            if any(regex.match(module, start) for start in starts):
                return self.keys[index]
        return self.keys[best] if best < len(self.keys) else None

    def _add_plain(self, index: int, found: re.Match[str]) -> None:
        text, dots = _unescape(found[2])
        layout = (len(text), dots, bool(found[1]))
        self._plain.setdefault(layout, {}).setdefault(_mask(text, dots), index)

    def _add_regex(self, index: int, key: str) -> None:
        cost = check_pattern(key)
        if cost.repeats > MAX_KEY_REPEATS:
            raise UnsafePattern(
                f"has {cost.repeats} unbounded repeats in a row; {MAX_KEY_REPEATS} are allowed in a key"
            )
        self._regexes.append((index, re.compile(rf"({key})$"), cost))

    def _plain_matches(self, module: str) -> Iterable[int]:
        for (length, dots, anchored), keys in self._plain.items():
            before = len(module) - length
            if before < 0 or (before and (anchored or module[before - 1] != ".")):
                continue
            index = keys.get(_mask(module[before:], dots))
            if index is not None:
                yield index


def _unescape(text: str) -> tuple[str, tuple[int, ...]]:
    """Return the characters that a plain key matches, and the places of its unescaped dots."""
    pieces = re.findall(r"\\\.|.", text)
    return "".join(piece[-1] for piece in pieces), tuple(i for i, piece in enumerate(pieces) if piece == ".")


def _mask(text: str, dots: tuple[int, ...]) -> str:
    characters = list(text)
    for place in dots:
        characters[place] = "."
    return "".join(characters)
