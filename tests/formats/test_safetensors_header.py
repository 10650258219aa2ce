"""The header reader: what it accepts, the library accepts with the same meaning; bombs cost it nothing."""

from __future__ import annotations

import json
import struct
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from hub.errors import InvalidSafetensors
from hub.formats.safetensors_header import DTYPE_BYTES, MAX_HEADER_BYTES, MAX_TENSORS, parse_header, read_header
from tests.support.bombs import check_bombs, read_in_child


def pack(header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def parse(blob):
    return parse_header(lambda offset, size: blob[offset : offset + size], len(blob))


def library_reads(blob, tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(blob)
    with safe_open(path, "numpy") as file:
        return {name: file.get_slice(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)} | more


SOUND = {
    "__metadata__": {"format": "pt"},
    "a.weight": entry(),
    "b": entry("U8", (1, 3), (8, 11)),
    "none": entry("F16", (0, 4), (11, 11)),
}


def test_a_file_of_the_library_is_read_as_the_library_reads_it(tmp_path):
    tensors = {
        "z.lora_A.weight": torch.randn(4, 8),
        "a.lora_B.weight": torch.randn(8, 4).bfloat16(),
        "half": torch.randn(3).half(),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 2),
        "flags": torch.tensor([True, False]),
    }
    path = tmp_path / "adapter_model.safetensors"
    save_file(tensors, path, metadata={"format": "pt", "note": "ä"})
    header, blob = read_header(path), path.read_bytes()
    with safe_open(path, "pt") as file:
        assert set(header.tensors) == set(file.keys())
        assert header.metadata == file.metadata()
        for name, info in header.tensors.items():
            assert (info.dtype, list(info.shape)) == (
                file.get_slice(name).get_dtype(),
                file.get_slice(name).get_shape(),
            )
            assert info.numel == tensors[name].numel()
            raw = tensors[name].reshape(-1).view(torch.uint8) if info.dtype != "BOOL" else tensors[name].to(torch.uint8)
            assert blob[info.start : info.end] == raw.numpy().tobytes()


def test_the_smallest_sound_file_is_read(tmp_path):
    blob = pack(SOUND, bytes(11))
    header = parse(blob)
    assert header.tensors["b"].shape == (1, 3)
    assert header.tensors["b"].start == header.data_start + 8
    slices, metadata = library_reads(blob, tmp_path)
    assert set(slices) == set(header.tensors)
    assert metadata == header.metadata


HOLE = {"a": entry(), "b": entry(offsets=(12, 20))}
OVERLAP = {"a": entry(), "b": entry(offsets=(4, 12))}
TWICE = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}'

UNSOUND = {
    "empty file": b"",
    "seven bytes": bytes(7),
    "no header": struct.pack("<Q", 0),
    "length beyond the file": pack(b"{}", length=100),
    "length beyond the limit": pack(b"{}", length=MAX_HEADER_BYTES + 1),
    "length of 2**64 - 1": pack(b"{}", length=2**64 - 1),
    "cut in its header": pack(SOUND, bytes(11))[:40],
    "cut in its data": pack(SOUND, bytes(10)),
    "bytes after its data": pack(SOUND, bytes(12)),
    "white space first": pack(b" " + json.dumps(SOUND).encode(), bytes(11)),
    "padded with newlines": pack(json.dumps(SOUND).encode() + b"\n", bytes(11)),
    "padded with NUL": pack(json.dumps(SOUND).encode() + b"\0", bytes(11)),
    "a list": pack(b"[]"),
    "not JSON": pack(b"{]"),
    "not UTF-8": pack(b'{"\xff":1}'),
    "two values": pack(b"{}{}"),
    "a name twice": pack(TWICE, bytes(2)),
    "a field twice": pack(b'{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', bytes(1)),
    "metadata twice": pack(b'{"__metadata__":{},"__metadata__":{"a":"b"}}'),
    "an empty name": pack({"": entry()}, bytes(8)),
    "a name with NUL": pack({"a\0": entry()}, bytes(8)),
    "a name with a path": pack({"../a": entry()}, bytes(8)),
    "a name with a backslash": pack({"a\\b": entry()}, bytes(8)),
    "a very long name": pack({"a" * 600: entry()}, bytes(8)),
    "a lone surrogate": pack(b'{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', bytes(1)),
    "a hole": pack(HOLE, bytes(20)),
    "a hole at the start": pack({"a": entry(offsets=(4, 12))}, bytes(12)),
    "an overlap": pack(OVERLAP, bytes(12)),
    "one range for two": pack({"a": entry(), "b": entry()}, bytes(8)),
    "a range backwards": pack({"a": entry(offsets=(8, 0))}, bytes(8)),
    "a range too small": pack({"a": entry(offsets=(0, 4))}, bytes(4)),
    "a range too large": pack({"a": entry(offsets=(0, 12))}, bytes(12)),
    "three offsets": pack({"a": entry(offsets=(0, 8, 8))}, bytes(8)),
    "a negative side": pack({"a": entry(shape=(-2,))}, bytes(8)),
    "minus zero": pack(b'{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}'),
    "a side that is no whole number": pack({"a": entry(shape=(2.0,))}, bytes(8)),
    "a side that is true": pack({"a": entry(shape=(True, 2))}, bytes(8)),
    "a side that overflows beside a zero": pack({"a": entry(shape=(2**50, 2**50, 0), offsets=(0, 0))}),
    "nine dimensions": pack({"a": entry(shape=(1,) * 8 + (2,))}, bytes(8)),
    "an unknown dtype": pack({"a": entry("F31")}, bytes(8)),
    "a dtype that is no text": pack({"a": entry(7)}, bytes(8)),
    "an unknown field": pack({"a": entry(extra=1)}, bytes(8)),
    "no dtype": pack({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
    "metadata that is no text": pack({"__metadata__": {"a": 1}}),
    "metadata that is a list": pack({"__metadata__": []}),
    "a tensor that is a text": pack({"a": "b"}),
    "too deep": pack(b'{"a":' * 50 + b"1" + b"}" * 50),
    "a pickle": b"\x80\x04\x95" + bytes(100),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_file_is_refused_with_the_reason(name):
    with pytest.raises(InvalidSafetensors) as caught:
        parse(UNSOUND[name])
    assert "not a sound safetensors file" in caught.value.message
    assert len(caught.value.message) < 400


def test_the_library_is_looser_so_ours_has_a_reason_to_exist(tmp_path):
    accepted = [name for name in ("a name twice", "an empty name", "a name with a path") if _accepts(name, tmp_path)]
    assert accepted, "if the library refuses all of these by now, this reader can go"


def _accepts(name, tmp_path):
    try:
        library_reads(UNSOUND[name], tmp_path)
    except Exception:  # noqa: BLE001  (the library's own error class is not public)
        return False
    return True


def test_the_error_names_the_file(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"")
    with pytest.raises(InvalidSafetensors, match=r"^x\.safetensors: "):
        read_header(tmp_path / "x.safetensors")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_we_accept_the_library_accepts_with_equal_meaning(data, tmp_path_factory):
    """Sound files, mutated: both a byte of the text and the structure."""
    tensors, position = {}, 0
    for name in data.draw(st.lists(st.text(min_size=1, max_size=6), max_size=5, unique=True)):
        dtype = data.draw(st.sampled_from(sorted(DTYPE_BYTES)))
        shape = data.draw(st.lists(st.integers(0, 3), max_size=3))
        size = DTYPE_BYTES[dtype]
        for side in shape:
            size *= side
        shift = data.draw(st.sampled_from([0, 0, 0, 0, 1, -1]))
        tensors[name] = entry(dtype, shape, (position, position + size + shift))
        position += size
    raw = bytearray(
        json.dumps(tensors, ensure_ascii=data.draw(st.booleans())).encode() + b" " * data.draw(st.integers(0, 3))
    )
    for _ in range(data.draw(st.integers(0, 2))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    blob = pack(bytes(raw), bytes(max(0, position + data.draw(st.sampled_from([0, 0, 0, 1, -1])))))
    try:
        header = parse(blob)
    except InvalidSafetensors:
        return
    slices, _ = library_reads(blob, tmp_path_factory.mktemp("x"))
    assert set(slices) == set(header.tensors)
    for name, info in header.tensors.items():
        assert (list(info.shape), info.dtype) == (slices[name].get_shape(), slices[name].get_dtype())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_and_nothing_else(blob):
    with suppress(InvalidSafetensors):
        assert parse(pack(blob)).data_start == 8 + len(blob)


def _million_tensors():
    one = '"t%07d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    return pack(("{" + ",".join(one % n for n in range(1_000_000)) + "}").encode())


def _many_tensors(count):
    one = '"t%07d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    return pack(("{" + ",".join(one % n for n in range(count)) + "}").encode())


LIMIT = MAX_HEADER_BYTES - 64
BOMBS = {
    "59 MB of a million tensors": _million_tensors,
    "twice the tensors": lambda: _many_tensors(2 * MAX_TENSORS),
    "a wide list": lambda: pack(b'{"a":[' + b"[]," * (LIMIT // 3) + b"1]}"),
    "a wide object": lambda: pack(b"{" + b",".join(b'"%07d":1' % n for n in range(LIMIT // 12)) + b"}"),
    "a deep list": lambda: pack(b"[" * LIMIT),
    "a long text": lambda: pack(b'{"' + b"a" * (LIMIT - 8) + b'":1}'),
    "a text of escapes": lambda: pack(b'{"' + rb"\u0041" * ((LIMIT - 8) // 6) + b'":1}'),
    "an unfinished text of escapes": lambda: pack(b'{"' + rb"\"" * ((LIMIT - 8) // 2)),
    "many quotes": lambda: pack(b'{"":' + b'"",' * (LIMIT // 3)),
    "a long number": lambda: pack(b'{"a":' + b"9" * (LIMIT - 8) + b"}"),
    "much metadata": lambda: pack(b'{"__metadata__":{"a":"' + b"x" * (LIMIT - 100) + b'"}}'),
    "a long name twice": lambda: pack(b'{"' + b"a" * (LIMIT // 2 - 8) + b'":1,"' + b"a" * (LIMIT // 2 - 8) + b'":1}'),
    "one name fifty thousand times": lambda: pack(b"{" + b",".join([b'"a":1'] * 50_000) + b"}"),
}


def test_every_bomb_is_refused_in_bounded_time_and_memory(tmp_path):
    check_bombs("header", {name: make() for name, make in BOMBS.items()}, tmp_path)


def test_the_largest_allowed_file_is_read_in_bounded_memory(tmp_path):
    path = tmp_path / "largest.safetensors"
    path.write_bytes(_many_tensors(MAX_TENSORS))
    assert len(read_header(path).tensors) == MAX_TENSORS
    report = read_in_child("header", [path])
    assert report["refused"] == {}
    assert report["peak"] < 100_000_000
