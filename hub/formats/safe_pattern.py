"""The small grammar of regular expressions that an adapter's config may use.

PEFT runs `re` on `target_modules`, on the keys of `rank_pattern` and on a few more fields.  A stranger's pattern such
as `([\\w.]+)+!` keeps `re` busy for ever, here and at everyone who loads the adapter with PEFT.  So a pattern is either
literal words, or made of these parts, whose worst case is bounded:

    a  _  -  .  \\.  \\d  \\w  \\b  ^  $  [a-z0-9]     one character or one place
    x*  x+  x?  x{2}  x{1,3}  (lazy: x*?)             of one character only; at most 4 of them without a bound
    (…)  (?:…)  a|b  (…)?  (?=…)  (?!…)               groups are never repeated
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise

MAX_PATTERN_LENGTH = 2_000
MAX_REPEATS = 4
MAX_CHOICES = (64, 64, 64, 16, 4)
"""By the number of unbounded repeats: together they bound the steps on one name."""

_MAX_NESTING = 6
_LITERAL = re.compile(r"[\w.-]+\Z", re.ASCII)
_PLAIN_CHARACTER = re.compile(r"[A-Za-z0-9_\- /:,@~!=<>%&#;'\"]")
_ESCAPE = re.compile(r"\\[dDwWsSbB.\-_/^$|()\[\]{}+*?]")
_CLASS = re.compile(r"\[\^?(?:\\[dws.\-_\]]|[\w. -])+\]", re.ASCII)
_QUANTIFIER = re.compile(r"(?:[*+?]|\{(\d{1,3})?(,)?(\d{1,3})?\})\??")
_GROUP_START = re.compile(r"\((\?:|\?=|\?!)?")


class UnsafePattern(ValueError):
    """A pattern outside the grammar.  Its message says what part, and follows "the pattern …"."""


def is_literal(text: str) -> bool:
    """Whether `text` is a plain dotted name, in which only '.' means something to `re`."""
    return _LITERAL.match(text) is not None


@dataclass(frozen=True, slots=True)
class PatternCost:
    """How often `re` may have to try again on one name."""

    repeats: int = 0
    choices: int = 1

    def steps(self, size: int) -> int:
        """Return how many steps a name of `size` characters may take: all ways to place the repeats."""
        return self.choices * (math.comb(size, self.repeats) if self.repeats else 1)

    def then(self, other: PatternCost) -> PatternCost:
        # Capped, so that a long pattern can't make the number itself expensive.
        return PatternCost(self.repeats + other.repeats, min(self.choices * other.choices, 10**6))


def check_pattern(text: str) -> PatternCost:
    """Return what matching `text` may cost.  Raises UnsafePattern unless it is within the grammar and valid."""
    if len(text) > MAX_PATTERN_LENGTH:
        raise UnsafePattern(f"has {len(text):,} characters; {MAX_PATTERN_LENGTH:,} are allowed")
    if is_literal(text):
        return PatternCost()
    reader = _Reader(text)
    cost = reader.alternatives(0)
    if reader.position != len(text):
        raise UnsafePattern(f"has an unmatched ')' at {reader.position}")
    if cost.repeats > MAX_REPEATS:
        raise UnsafePattern(f"has {cost.repeats} unbounded repeats in a row; {MAX_REPEATS} are allowed")
    if cost.choices > MAX_CHOICES[cost.repeats]:
        raise UnsafePattern("can match one name in too many ways")
    try:
        re.compile(text)
    except (re.error, OverflowError) as error:
        raise UnsafePattern(f"is not a regular expression: {error}") from error
    return cost


class _Reader:
    """One pass over a pattern, by recursive descent."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def alternatives(self, nesting: int) -> PatternCost:
        if nesting > _MAX_NESTING:
            raise UnsafePattern(f"is nested more than {_MAX_NESTING} groups deep")
        start, costs, words = self.position, [self._sequence(nesting)], []
        words.append(self.text[start : self.position])
        while self._peek() == "|":
            self.position += 1
            start = self.position
            costs.append(self._sequence(nesting))
            words.append(self.text[start : self.position])
        ways = _ambiguity(words) if all(map(is_literal, words)) else sum(cost.choices for cost in costs)
        return PatternCost(max(cost.repeats for cost in costs), ways)

    def _sequence(self, nesting: int) -> PatternCost:
        cost = PatternCost()
        while self._peek() not in {"", "|", ")"}:
            cost = cost.then(self._item(nesting))
        return cost

    def _item(self, nesting: int) -> PatternCost:
        group = _GROUP_START.match(self.text, self.position)
        if group:
            return self._group(group, nesting)
        if self._peek() in {"^", "$"}:
            self.position += 1
            return PatternCost()
        self._character()
        return self._repeat_of_a_character()

    def _group(self, opening: re.Match[str], nesting: int) -> PatternCost:
        self.position = opening.end()
        cost = self.alternatives(nesting + 1)
        if self._peek() != ")":
            raise UnsafePattern("has an unmatched '('")
        self.position += 1
        quantifier = _QUANTIFIER.match(self.text, self.position)
        if not quantifier:
            return cost
        if quantifier[0] not in {"?", "??"} or opening[1] in {"?=", "?!"}:
            raise UnsafePattern(f"repeats a group at {self.position}")
        self.position = quantifier.end()
        return PatternCost(cost.repeats, cost.choices + 1)

    def _character(self) -> None:
        for kind in (_ESCAPE, _CLASS, _PLAIN_CHARACTER):
            found = kind.match(self.text, self.position)
            if found:
                self.position = found.end()
                return
        if self._peek() != ".":
            raise UnsafePattern(f"has {self.text[self.position : self.position + 8]!r} at {self.position}")
        self.position += 1

    def _repeat_of_a_character(self) -> PatternCost:
        quantifier = _QUANTIFIER.match(self.text, self.position)
        if not quantifier:
            return PatternCost()
        self.position = quantifier.end()
        if self._peek() in {"*", "+", "?", "{"}:
            raise UnsafePattern(f"repeats a repeat at {self.position}")
        if quantifier[0][0] == "?":
            return PatternCost(0, 2)
        least, comma, most = quantifier.groups()
        is_fixed = least is not None and (comma is None or most == least)
        return PatternCost() if is_fixed and quantifier[0][0] == "{" else PatternCost(1, 1)

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]


def _ambiguity(words: list[str]) -> int:
    """How many of the words can match at one place: only those that begin one another."""
    ordered = sorted(words)
    ways = most = 1
    for shorter, longer in pairwise(ordered):
        ways = ways + 1 if "." in shorter + longer or longer.startswith(shorter) else 1
        most = max(most, ways)
    return most
