"""Which key of `rank_pattern` or `alpha_pattern` a module's name matches, by PEFT's rule and without its cost.

PEFT tries the keys in order, each as `re.match(rf"(.*\\.)?({key})$", name)`, and takes the first that matches.  Nearly
every key is a plain name, in which '.' stands for any character.  Plain keys are looked up in a dictionary per layout
(length and places of the dots), so that 1,000 keys cost a name no more than 10.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hub.safe_pattern import UnsafePattern, check_pattern, has_repeats

MAX_KEYS = 20_000
MAX_REGEX_KEYS = 256
MAX_REPEATING_KEYS = 64
MAX_LAYOUTS = 256

_PLAIN = re.compile(r"(\^?)((?:[A-Za-z0-9_-]|\\?\.)+)\$?\Z")

_Layout = tuple[int, tuple[int, ...], bool]
"""Length, places of the dots that stand for any character, and whether the key begins at the name's start."""


class PatternTable:
    """The keys of one pattern field, ready to be asked for any module."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Raise UnsafePattern for a key outside the grammar, or for keys that cost too much together."""
        self.keys = tuple(keys)
        self._plain: dict[_Layout, dict[str, int]] = {}
        self._regexes: list[tuple[int, re.Pattern[str]]] = []
        if len(self.keys) > MAX_KEYS:
            raise UnsafePattern(f"list has {len(self.keys):,} keys; {MAX_KEYS:,} are allowed")
        for index, key in enumerate(self.keys):
            self._add(index, key)
        if len(self._plain) > MAX_LAYOUTS or len(self._regexes) > MAX_REGEX_KEYS:
            raise UnsafePattern("list has too many different keys; write plain module names")
        if sum(map(has_repeats, self.keys)) > MAX_REPEATING_KEYS:
            raise UnsafePattern(f"list has more than {MAX_REPEATING_KEYS} keys with repeats; write plain module names")

    def first_match(self, module: str) -> str | None:
        """Return the first key that matches `module` as PEFT matches, or None."""
        if not self.keys:
            return None
        best = min(self._plain_matches(module), default=len(self.keys))
        for index, regex in self._regexes:
            if index >= best:
                break
            if regex.match(module):
                return self.keys[index]
        return self.keys[best] if best < len(self.keys) else None

    def _add(self, index: int, key: str) -> None:
        plain = _PLAIN.match(key)
        if not plain:
            check_pattern(key)
            self._regexes.append((index, re.compile(rf"(.*\.)?({key})$")))
            return
        text, dots = _unescape(plain[2])
        layout = (len(text), dots, bool(plain[1]))
        self._plain.setdefault(layout, {}).setdefault(_mask(text, dots), index)

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
