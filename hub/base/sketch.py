"""A base model's weights in a few KB: enough to tell it from a fine-tune, and to recognise a cast or 4-bit copy of it.

The sketch is 32 blocks of 64 weights.  Which blocks is fixed by the names and shapes, so that two people sketch the
same places without talking.  The blocks are aligned as bitsandbytes aligns its own, so the codes of an NF4 copy can be
computed from the original's block, and compared one by one: no threshold, no similarity.

    bytes    1: format   1: number of blocks   then per block   1: kind   then its weights
    kind     0 unknown   1 F32   2 BF16   3 F16   4 NF4 codes   5 codes of 8 bits, all of one row
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hub.base.blueprint import ModuleShape
from hub.formats import nf4

BLOCKS = 32
_FORMAT = 1
_HALF = 0.5005
"""Half a step of a code, and what the product's rounding in float32 may add."""

_KINDS = ("", "F32", "BF16", "F16", "NF4", "I8")
_Cast = Callable[[float], float]
_CASTS: Mapping[str, tuple[_Cast, _Cast]] = {
    "BF16": (nf4.to_bfloat16, nf4.to_float16),
    "F16": (nf4.to_float16, nf4.to_bfloat16),
    "F32": (float, float),
}
"""By the format that results: the cast to it, and the one that may have come before."""

_SIZES = {
    "": 0,
    "F32": 4 * nf4.BLOCK,
    "BF16": 2 * nf4.BLOCK,
    "F16": 2 * nf4.BLOCK,
    "NF4": nf4.BLOCK // 2,
    "I8": nf4.BLOCK,
}


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive weights of a tensor as they are stored.

    dtype: F64, F32, F16, BF16, NF4 for packed codes of 64-weight blocks, or I8 for codes of rows.
    data: their bytes, little endian.
    """

    dtype: str
    data: bytes


ReadBlock = Callable[[str, int, int], Block | None]
"""`read(tensor, start, count)` returns `count` weights from the flat index `start` on, in the order of storage.

Storage means the tensor as it is kept: a Conv1D weight is (in, out) when dense, (out, in) when 4-bit.  None: unknown.
"""


@dataclass(frozen=True, slots=True)
class Place:
    """One block: 64 weights of a module's (out, in) matrix, from `start` on."""

    module: str
    start: int


def sketch_places(modules: Mapping[str, ModuleShape]) -> list[Place]:
    """Return where to sketch a model of these modules: names and shapes alone decide."""
    eligible = sorted(name for name, shape in modules.items() if _is_sketched(name, shape))
    if not eligible:
        return []
    seed = hashlib.sha256("\n".join(f"{name} {_count(modules[name])}" for name in eligible).encode()).digest()
    places = []
    for index in range(BLOCKS):
        draw = hashlib.sha256(seed + bytes([index])).digest()
        module = eligible[int.from_bytes(draw[:8], "big") % len(eligible)]
        block = int.from_bytes(draw[8:16], "big") % (_count(modules[module]) // nf4.BLOCK)
        places.append(Place(module, block * nf4.BLOCK))
    return places


def take_sketch(modules: Mapping[str, ModuleShape], read: ReadBlock) -> str | None:
    """Return the sketch of a model, as base64, or None if no block of it can be read."""
    blocks = [_read_place(place, modules[place.module], read) for place in sketch_places(modules)]
    if not any(block.dtype for block in blocks):
        return None
    payload = b"".join(bytes([_KINDS.index(block.dtype)]) + block.data for block in blocks)
    return base64.b64encode(bytes([_FORMAT, len(blocks)]) + payload).decode("ascii")


def is_same_model(first: str, second: str) -> bool | None:
    """Whether two sketches, taken at the same places, can be of one model: equal, cast, or quantized to NF4.

    None if they can't be compared, because of an unknown format or because no block is known to both.
    """
    ours, theirs = list(_parse(first)), list(_parse(second))
    if len(ours) != len(theirs):
        return None
    verdicts = [_compare(a, b) for a, b in zip(ours, theirs, strict=True)]
    known = [verdict for verdict in verdicts if verdict is not None]
    return all(known) if known else None


def _is_sketched(name: str, shape: ModuleShape) -> bool:
    """Only layers that a 4-bit copy quantizes: not the output layer, not embeddings."""
    is_output = name.rpartition(".")[2] in {"lm_head", "score", "embed_out"}
    return shape.kind != "embedding" and not is_output and _count(shape) >= nf4.BLOCK


def _count(shape: ModuleShape) -> int:
    return shape.in_features * shape.out_features


def _read_place(place: Place, shape: ModuleShape, read: ReadBlock) -> Block:
    name = f"{place.module}.weight"
    block = read(name, place.start, nf4.BLOCK)
    if block is not None and block.dtype not in ("NF4", "I8") and shape.kind == "conv1d":
        # Dense Conv1D weights are stored (in, out), and their 4-bit copies are made of the transpose.
        block = _read_transposed(name, place.start, shape, read)
    if block is None or block.dtype not in (*_KINDS[1:], "F64"):
        return Block("", b"")
    if block.dtype == "F64":
        return _as_float32(block)
    if block.dtype == "I8" and place.start % shape.in_features > shape.in_features - nf4.BLOCK:
        return Block("", b"")  # of two rows, with a scale each
    return block if len(block.data) == _SIZES[block.dtype] else Block("", b"")


def _read_transposed(name: str, start: int, shape: ModuleShape, read: ReadBlock) -> Block | None:
    places = (divmod(index, shape.in_features) for index in range(start, start + nf4.BLOCK))
    blocks = [read(name, column * shape.out_features + row, 1) for row, column in places]
    if any(block is None for block in blocks):
        return None
    known = [block for block in blocks if block is not None]
    return Block(known[0].dtype, b"".join(block.data for block in known))


def _as_float32(block: Block) -> Block:
    import struct

    values = nf4.decode_floats("F64", block.data)
    return Block("F32", struct.pack(f"<{len(values)}f", *map(nf4.to_float32, values)))


def _parse(sketch: str) -> Iterator[Block]:
    """Yield the blocks of a sketch; nothing if it is malformed or of another format."""
    try:
        data = base64.b64decode(sketch, validate=True)
    except ValueError:
        return
    if len(data) < 2 or data[0] != _FORMAT:
        return
    position, blocks = 2, []
    for _ in range(data[1]):
        if position >= len(data) or data[position] >= len(_KINDS):
            return
        kind = _KINDS[data[position]]
        blocks.append(Block(kind, data[position + 1 : position + 1 + _SIZES[kind]]))
        position += 1 + _SIZES[kind]
    if position == len(data):
        yield from blocks


def _compare(a: Block, b: Block) -> bool | None:
    if not a.dtype or not b.dtype:
        return None
    if a == b:
        return True
    if a.dtype == b.dtype:
        return False
    if "I8" in (a.dtype, b.dtype):
        dense, packed = (b, a) if a.dtype == "I8" else (a, b)
        return None if dense.dtype == "NF4" else _is_of_8_bits(nf4.decode_floats(dense.dtype, dense.data), packed.data)
    if "NF4" in (a.dtype, b.dtype):
        dense, packed = (b, a) if a.dtype == "NF4" else (a, b)
        return _is_quantized(nf4.decode_floats(dense.dtype, dense.data), nf4.unpack_codes(packed.data))
    return _is_cast(a, b) or _is_cast(b, a)


def _is_quantized(weights: Sequence[float], codes: Sequence[int]) -> bool | None:
    """Whether the codes are those of the weights, quantized as they are or after a cast to 16 bits."""
    if not any(weights):
        return None
    casts: tuple[_Cast, ...] = (float, nf4.to_bfloat16, nf4.to_float16)
    for cast in casts:
        ranges = nf4.code_ranges([cast(weight) for weight in weights])
        if all(low <= code <= high for (low, high), code in zip(ranges, codes, strict=True)):
            return True
    return False


def _is_of_8_bits(weights: Sequence[float], data: bytes) -> bool | None:
    """Whether the codes are `round(weight * s)` for one s > 0: for rows that is 127 / the row's largest weight."""
    if not any(weights):
        return None
    codes = [byte - 256 if byte > 127 else byte for byte in data]
    casts: tuple[_Cast, ...] = (nf4.to_float16, lambda weight: nf4.to_float16(nf4.to_bfloat16(weight)), float)
    return any(_has_one_scale([cast(weight) for weight in weights], codes) for cast in casts)


def _has_one_scale(weights: Sequence[float], codes: Sequence[int]) -> bool:
    least, most = 0.0, math.inf
    for weight, code in zip(weights, codes, strict=True):
        if weight == 0 or (code and (code > 0) != (weight > 0)):
            if code:
                return False
            continue
        least = max(least, (abs(code) - _HALF) / abs(weight))
        most = min(most, (abs(code) + _HALF) / abs(weight))
    return least <= most


def _is_cast(wide: Block, narrow: Block) -> bool:
    """Whether `narrow` is `wide` cast to narrow's format, directly or by way of the other 16-bit format."""
    values, target = nf4.decode_floats(wide.dtype, wide.data), nf4.decode_floats(narrow.dtype, narrow.data)
    direct, detour = _CASTS[narrow.dtype]
    return [direct(v) for v in values] == target or [direct(detour(v)) for v in values] == target
