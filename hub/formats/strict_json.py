"""JSON from strangers: bounded in size, depth and number of values, and with one meaning only.

Python's reader takes more than JSON: duplicate keys (the last wins), NaN, "-0" as a whole number, lone surrogates.  Two
programs that read such a text differently can be played against each other, so it is refused here.
"""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate, pairwise
from typing import Any

MAX_DEPTH = 32
_LARGEST_WHOLE_NUMBER = 2**53
_TEXT = re.compile(rb'"(?:[^"\\]+|\\.)*+(?:"|\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = {**dict.fromkeys(b"[{", 1), **dict.fromkeys(b"]}", -1)}


class StrictJsonError(ValueError):
    """A text that isn't JSON with one meaning.  Its message ends a sentence that names the file."""


def loads(
    data: bytes, *, max_bytes: int, max_values: int, max_depth: int | None = MAX_DEPTH, check_numbers: bool = True
) -> Any:
    """Return the value that `data` says.

    max_depth: None leaves it to the caller, who knows the shape of what it reads.
    check_numbers: refuse whole numbers above 2**53, which not every reader keeps; False leaves that to the caller.
    Raises StrictJsonError for what is not UTF-8 JSON, has more than the allowed bytes, values or levels, repeats a key,
    or holds a number or a text that not every JSON reader would read the same way.
    """
    if len(data) > max_bytes:
        raise StrictJsonError(f"has {len(data):,} bytes; {max_bytes:,} are allowed")
    # Counted in texts too, which no sane file is full of: it costs nothing, and nothing is built of a bomb.
    if sum(data.count(mark) for mark in (b",", b":", b"[", b"{")) > max_values:
        raise StrictJsonError(f"has more than {max_values:,} values")
    if max_depth is not None:
        check_depth(data, max_depth)
    return _parse(data, check_numbers)


def check_depth(data: bytes, most: int) -> None:
    """Raise StrictJsonError if `data` opens more than `most` lists and objects inside each other.  Parses nothing."""
    if data.count(b"[") + data.count(b"{") <= most:
        return
    steps = _TEXT.sub(b"", data).translate(None, _NOT_BRACKETS)
    if max(accumulate(map(_STEPS.__getitem__, steps)), default=0) > most:
        raise StrictJsonError(f"is nested more than {most} levels deep")


def _parse(data: bytes, check_numbers: bool) -> Any:
    # These two hooks cost more than the reading itself, and nearly every text can do without them.
    parse_int = _whole_number if check_numbers else _no_minus_zero if b"-0" in data else None
    pairs_hook = _object_of_escapes if b"\\u" in data else _object
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=pairs_hook,
            parse_int=parse_int,
            parse_float=_float,
            parse_constant=_constant,
        )
    except StrictJsonError:
        raise
    except UnicodeDecodeError as error:
        raise StrictJsonError("is not UTF-8 text") from error
    except RecursionError as error:
        raise StrictJsonError("is nested hundreds of levels deep") from error
    except ValueError as error:
        raise StrictJsonError(f"is not JSON ({str(error)[:100]})") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise StrictJsonError(f"says {_first_repeated(pairs)[:80]!r} twice")
    return result


def _object_of_escapes(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`_object` for a text with escapes, which can write halves of characters.  In lists, too."""
    if not all(_is_unicode(key) and _is_unicode(value) for key, value in pairs):
        raise StrictJsonError("has a text that is not valid Unicode")
    return _object(pairs)


def _first_repeated(pairs: list[tuple[str, Any]]) -> str:
    keys = sorted(key for key, _ in pairs)
    return next(key for key, following in pairwise(keys) if key == following)


def _is_unicode(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_unicode, value))
    if not isinstance(value, str) or value.isascii():
        return True
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _whole_number(text: str) -> int:
    if text == "-0" or len(text) > 17 or abs(int(text)) > _LARGEST_WHOLE_NUMBER:
        raise StrictJsonError(f"has the number {text[:20]}, which not every reader keeps exactly")
    return int(text)


def _no_minus_zero(text: str) -> int:
    if text == "-0":
        raise StrictJsonError("has the number -0, which not every reader takes for a whole one")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise StrictJsonError(f"has the number {text[:20]}, which is too large")
    return value


def _constant(text: str) -> Any:
    raise StrictJsonError(f"says {text}, which is not JSON")
