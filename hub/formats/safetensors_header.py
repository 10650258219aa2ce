"""Read the header of a safetensors file: what tensors it holds and where, without touching them.

    offset 0       8 bytes, little endian: N, the header's length
    offset 8       N bytes of JSON, perhaps padded with spaces:
                   {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets": [start, end]}, …}
    offset 8 + N   the tensors' bytes, one after the other, without a hole and without an overlap

The reader is bounded, and stricter than the safetensors library: a file that it accepts, the library accepts with the
same meaning.  The library takes the last of two tensors of one name, white space before the header, empty names, and
names such as `../x`; such a file means different things to different programs, so it is refused here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from hub.errors import InvalidSafetensors
from hub.formats import strict_json

MAX_HEADER_BYTES = 10 * 1024 * 1024
MAX_TENSORS = 50_000
MAX_NAME_LENGTH = 512
MAX_DIMENSIONS = 8
MAX_METADATA_BYTES = 1024 * 1024

DTYPE_BYTES: Mapping[str, int] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}

ReadBytes = Callable[[int, int], bytes]
"""`read(offset, size)` returns `size` bytes, or fewer at the file's end."""

_UNSAFE_NAME = re.compile(r"[\x00-\x1f\x7f\\/]|\.\.")
_LARGEST_TENSOR = 2**62
_FIELDS = frozenset({"dtype", "shape", "data_offsets"})


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies.  `start` and `end` are byte offsets in the file, not in its data part."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.start

    @property
    def numel(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """One file's tensors by name, in the order of their bytes, and its metadata."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int


def read_header(path: Path | str) -> Header:
    """Return the header of the file at `path`.  Raises InvalidSafetensors, which names the file."""
    with open(path, "rb") as file:

        def read(offset: int, size: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        try:
            return parse_header(read, os.fstat(file.fileno()).st_size)
        except InvalidSafetensors as error:
            raise InvalidSafetensors(f"{Path(path).name}: {error.message}", **error.details) from error


def parse_header(read: ReadBytes, file_size: int) -> Header:
    """Return the header of a file of `file_size` bytes.  Raises InvalidSafetensors unless all of it is sound."""
    length = _header_length(read(0, 8), file_size)
    raw = read(8, length)
    if len(raw) < length:
        raise _invalid(f"it ends in its header, after {8 + len(raw):,} bytes")
    if not raw.startswith(b"{"):
        raise _invalid("its header does not start with '{'")
    payload = _parse_json(raw)
    metadata = _parse_metadata(payload.pop("__metadata__", {}))
    if len(payload) > MAX_TENSORS:
        raise _invalid(f"it names {len(payload):,} tensors; {MAX_TENSORS:,} are allowed")
    data_start = 8 + length
    tensors = [_parse_tensor(name, entry, data_start) for name, entry in payload.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.end))
    _check_layout(tensors, data_start, file_size)
    return Header({tensor.name: tensor for tensor in tensors}, metadata, data_start)


def _invalid(reason: str) -> InvalidSafetensors:
    return InvalidSafetensors(
        f"This is not a sound safetensors file: {reason}. Write it again, e.g. with model.save_pretrained(folder)."
    )


def _header_length(prefix: bytes, file_size: int) -> int:
    if len(prefix) < 8:
        raise _invalid(f"it has {file_size:,} bytes, fewer than the header's length takes")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise _invalid(f"its header claims {length:,} bytes; {MAX_HEADER_BYTES:,} are allowed")
    if 8 + length > file_size:
        raise _invalid(f"its header claims {length:,} bytes, but the file has {file_size:,}: it is cut short")
    return length


def _parse_json(raw: bytes) -> dict[str, Any]:
    try:
        # Per tensor: 3 fields, 2 offsets and the shape's sides; per metadata entry: 1.
        payload = strict_json.loads(
            raw, max_bytes=MAX_HEADER_BYTES, max_values=16 * MAX_TENSORS, max_depth=None, check_numbers=False
        )
    except strict_json.StrictJsonError as error:
        raise _invalid(f"its header {error}") from error
    if raw.rstrip(b" ")[-1:] != b"}" or not isinstance(payload, dict):
        raise _invalid("its header is padded with something else than spaces")
    return payload


def _parse_metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise _invalid("its __metadata__ is not an object of texts")
    if sum(len(key) + len(item) for key, item in value.items()) > MAX_METADATA_BYTES:
        raise _invalid(f"its __metadata__ has more than {MAX_METADATA_BYTES:,} characters")
    return value


def _parse_tensor(name: str, entry: object, data_start: int) -> TensorInfo:
    if not name or len(name) > MAX_NAME_LENGTH or _UNSAFE_NAME.search(name):
        raise _invalid(f"the tensor name {name[:80]!r} is empty, too long, or unsafe")
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise _invalid(f"the entry of tensor {name[:80]!r} does not say dtype, shape and data_offsets, and no more")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise _invalid(f"tensor {name[:80]!r} has the dtype {str(dtype)[:20]!r}, which is unknown")
    if not isinstance(offsets, list) or len(offsets) != 2:
        raise _invalid(f"the data_offsets of tensor {name[:80]!r} are malformed")
    start, end = offsets
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        raise _invalid(f"the data_offsets of tensor {name[:80]!r} are malformed")
    if _size_bytes(name, shape, DTYPE_BYTES[dtype]) != end - start:
        raise _invalid(f"the shape and dtype of tensor {name[:80]!r} take other than its {end - start:,} bytes")
    return TensorInfo(name, dtype, tuple(shape), data_start + start, data_start + end)


def _size_bytes(name: str, shape: object, item_bytes: int) -> int:
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise _invalid(f"the shape of tensor {name[:80]!r} is malformed")
    size = item_bytes
    for side in shape:
        if type(side) is not int or side < 0:
            raise _invalid(f"the shape of tensor {name[:80]!r} is malformed")
        size *= side
        if size > _LARGEST_TENSOR:  # a zero side must not hide sides whose product no reader can hold
            raise _invalid(f"tensor {name[:80]!r} is larger than any file")
    return size


def _check_layout(tensors: list[TensorInfo], data_start: int, file_size: int) -> None:
    position = data_start
    for tensor in tensors:
        if tensor.start != position:
            fault = "overlaps the one before it" if tensor.start < position else "leaves a hole before it"
            raise _invalid(f"tensor {tensor.name[:80]!r} {fault}")
        position = tensor.end
    if position > file_size:
        raise _invalid(f"its tensors need {position:,} bytes, but the file has {file_size:,}: it is cut short")
    if position < file_size:
        raise _invalid(f"{file_size - position:,} bytes follow its last tensor")
