"""4-bit NormalFloat as bitsandbytes stores it, and casts between float formats, in plain Python.

A block of 64 weights is divided by its largest magnitude; each quotient becomes the code of the nearest of 16 fixed
levels; two codes fill a byte, the first in its high half.  Double quantization changes how the magnitudes are stored,
never the codes.  Source: Dettmers et al. 2023, arXiv:2305.14314, appendix E.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

BLOCK = 64

LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
_BOUNDS = tuple((low + high) / 2 for low, high in pairwise(LEVELS))
_ROUNDING = 1e-6
"""How far float32 arithmetic on another device may move a quotient."""


def code_ranges(weights: Sequence[float]) -> list[tuple[int, int]]:
    """Return, for each weight of a block, the lowest and the highest code that a quantizer may give it.

    They differ only where the quotient lies on a bound to within the rounding of float32.
    """
    largest = max(map(abs, weights), default=0.0)
    if largest == 0 or not math.isfinite(largest):
        return [(0, 15)] * len(weights)
    quotients = [weight / largest for weight in weights]
    return [(bisect_left(_BOUNDS, q - _ROUNDING), bisect_left(_BOUNDS, q + _ROUNDING)) for q in quotients]


def unpack_codes(packed: bytes) -> list[int]:
    """Return the codes of packed bytes, two each."""
    return [half for byte in packed for half in (byte >> 4, byte & 15)]


def to_float32(value: float) -> float:
    return _through("<f", value)


def to_float16(value: float) -> float:
    return _through("<e", value)


def to_bfloat16(value: float) -> float:
    """Round to the nearest bfloat16, ties to even, as hardware does."""
    if not math.isfinite(value):
        return value
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return float(struct.unpack("<f", struct.pack("<I", rounded))[0])


def decode_floats(dtype: str, data: bytes) -> list[float]:
    """Return the values of raw little-endian bytes.  dtype: F64, F32, F16 or BF16."""
    if dtype == "BF16":
        data = b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2))
        dtype = "F32"
    letter = {"F64": "d", "F32": "f", "F16": "e"}[dtype]
    return list(struct.unpack(f"<{len(data) // struct.calcsize(letter)}{letter}", data))


def _through(layout: str, value: float) -> float:
    try:
        return float(struct.unpack(layout, struct.pack(layout, value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)
