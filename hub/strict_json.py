"""JSON from strangers: bounded in size, depth and number of values, and with one meaning only.

Python's reader takes more than JSON: duplicate keys (the last wins), NaN, "-0" as a whole number, lone surrogates.  Two
programs that read such a text differently can be played against each other, so it is refused here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

MAX_DEPTH = 32
_LARGEST_WHOLE_NUMBER = 2**53
_MOST_DIGITS = 22
"""Of a whole number: what the canonical form of a double may have."""


class StrictJsonError(ValueError):
    """A text that isn't JSON with one meaning.  Its message ends a sentence that names the file."""


def loads(
    data: bytes, *, max_bytes: int, max_values: int, max_depth: int = MAX_DEPTH, large_numbers: bool = False
) -> Any:
    """Return the value that `data` says.

    large_numbers: take whole numbers above 2**53, which a canonical text has for large doubles.

    Raises StrictJsonError for what is not UTF-8 JSON, has more than the allowed bytes, values or levels, repeats a key,
    or holds a number or a text that not every JSON reader would read the same way.
    """
    if len(data) > max_bytes:
        raise StrictJsonError(f"has {len(data):,} bytes; {max_bytes:,} are allowed")
    # Counted in texts too, which no sane file is full of: it costs nothing, and nothing is built of a bomb.
    if sum(data.count(mark) for mark in (b",", b":", b"[", b"{")) > max_values:
        raise StrictJsonError(f"has more than {max_values:,} values")
    value = _parse(data, _any_whole_number if large_numbers else _whole_number)
    if _depth(value, max_depth) > max_depth:
        raise StrictJsonError(f"is nested more than {max_depth} levels deep")
    return value


def _parse(data: bytes, parse_int: Callable[[str], int]) -> Any:
    try:
        text = data.decode("utf-8")
        return json.loads(
            text, object_pairs_hook=_object, parse_int=parse_int, parse_float=_float, parse_constant=_constant
        )
    except StrictJsonError:
        raise
    except UnicodeDecodeError as error:
        raise StrictJsonError("is not UTF-8 text") from error
    except RecursionError as error:
        raise StrictJsonError("is nested hundreds of levels deep") from error
    except ValueError as error:
        raise StrictJsonError(f"is not JSON ({str(error)[:100]})") from error


def _depth(value: Any, most: int) -> int:
    """Return how many levels of lists and objects there are, counting no further than one more than `most`."""
    depth, level = 0, [value]
    while depth <= most:
        level = [item for item in level if isinstance(item, (dict, list))]
        if not level:
            return depth
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
        depth += 1
    return depth


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise StrictJsonError(f"says {_first_repeated(pairs)[:80]!r} twice")
    for key, value in pairs:
        if not _is_unicode(key) or (isinstance(value, str) and not _is_unicode(value)):
            raise StrictJsonError("has a text that is not valid Unicode")
    return result


def _first_repeated(pairs: list[tuple[str, Any]]) -> str:
    keys = sorted(key for key, _ in pairs)
    return next(key for key, following in pairwise(keys) if key == following)


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _whole_number(text: str) -> int:
    if text == "-0" or len(text) > 17 or abs(int(text)) > _LARGEST_WHOLE_NUMBER:
        raise StrictJsonError(f"has the number {text[:20]}, which not every reader keeps exactly")
    return int(text)


def _any_whole_number(text: str) -> int:
    if text == "-0" or len(text) > _MOST_DIGITS:
        raise StrictJsonError(f"has the number {text[:20]}, which not every reader keeps exactly")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise StrictJsonError(f"has the number {text[:20]}, which is too large")
    return value


def _constant(text: str) -> Any:
    raise StrictJsonError(f"says {text}, which is not JSON")
