"""A key-value cache remembers the choice that filled it: continued with another one, it is of no model at all."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import suppress
from typing import Any

from hub.errors import Conflict
from hub.runtime.choosing import label_of
from hub.runtime.selection import Choice

_MARK = "hub_choice"


def check_cache(kwargs: Mapping[str, Any], choice: Choice) -> None:
    """Raise Conflict if `past_key_values` among the arguments were filled by another choice."""
    cache = kwargs.get("past_key_values")
    filled_by = getattr(cache, _MARK, None)
    if filled_by is None or filled_by == _mark(choice) or _is_empty(cache):
        return
    raise Conflict(
        f"These past_key_values were filled with {filled_by[1]}, and this call is with {_say(choice)}: keys and values "
        "of one don't fit the other. Begin without them, or name the adapter that filled them: model(…, adapters=…)."
    )


def mark_cache(kwargs: Mapping[str, Any], output: Any, choice: Choice) -> None:
    """Let the caches that a call was given and has returned remember its choice."""
    for cache in (kwargs.get("past_key_values"), getattr(output, "past_key_values", None)):
        if cache is not None:
            with suppress(AttributeError, TypeError):  # a tuple of old remembers nothing
                setattr(cache, _MARK, _mark(choice))


def _mark(choice: Choice) -> tuple[Hashable, str]:
    labels = choice.rows or (choice.label,)
    return tuple(tuple(sorted(one.items())) if isinstance(one, Mapping) else one for one in labels), _say(choice)


def _say(choice: Choice) -> str:
    return ", ".join(label_of(label) for label in choice.rows or (choice.label,))


def _is_empty(cache: Any) -> bool:
    length = getattr(cache, "get_seq_length", None)
    return length is not None and int(length()) == 0
