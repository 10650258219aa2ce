"""The Xet codec, against published reference values, and against anything at all."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lz4.frame
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.errors import DigestMismatch, HubError, TooLarge
from hub.web.xet.hash import Leaf, from_text, hash_file, hash_xorb, to_text
from hub.web.xet.shard import MAX_CHUNKS, MalformedShard, Segment, parse_shard
from hub.web.xet.store import XorbNotFound, XorbStore
from hub.web.xet.xorb import MAX_CHUNK_BYTES, MalformedXorb, read_chunks, unpack_chunk
from tests.xet.samples import BOOKEND, RECORD, TAG, Pack, group, pack_chunk, shard_of, write_shard

ZERO = "0" * 64
ONE = "cfc5d07f6f03c29bbf424132963fe08d19a37d5757aaf520bf08119f05cd56d6"
TWO = "c3e67584b5c4fc2a89837ec39e40f2c8a6bb0b2987ac94cd4b31e5fbdd210a72"
THREE = "0d2beb91b9196929a5ddec9f6e306924ddf4a24268e3e59fd8464738d525af37"
FOUR = "adf8773496a9b7319b2e50dc98093f344053b17d8ad37100b9c07d9805988784"


def outcome(call: Callable[[], Any]) -> Any:
    """Return what `call` returns, or the HubError that it raises; anything else fails the test."""
    try:
        return call()
    except HubError as error:
        return error


def whole(pack: Pack) -> Segment:
    return Segment(pack.name, 0, len(pack.chunks), sum(map(len, pack.chunks)), None)


def is_refusal(result: object) -> bool:
    return isinstance(result, HubError) and 400 <= result.status < 500


@pytest.mark.parametrize(
    ("leaves", "xorb", "file"),
    [
        ([], ZERO, ZERO),
        ([(ONE, 100)], ONE, "8e16257caa3fe079d484d872a8975264b2ff683b0d6db9028cc7c0f968a45661"),
        (
            [(ONE, 100), (TWO, 200), (THREE, 300)],
            "71ec1275fca074724e2dd666921b3277c7cee603e4d025bcab2d4050015be2bc",
            "54e55dccc6653c612bdb5576c5d3cb34bb31bc4e100248abccf4c908b3ef7715",
        ),
        (
            [(ONE, 100)] * 4,
            "89f2ada89ff8c96763c6b25010e6dd76a4c05b1466207633ea559acf2093211b",
            "2cdba690d0e09563596e0cda626d43eb4c96ef1e994fe72d9b2f5a83cfcd36dd",
        ),
        (
            [(ONE, 100), (TWO, 200), (ONE, 100), (TWO, 200), (THREE, 300), (FOUR, 400)],
            "52c826f99507aa05d0b45e9837fa1709e0485425cfbcb1e80db3905cf98b3ee9",
            "91d21684db364c8883ab8209fa5eb2e781cf07f37e1fa43e731c30839afe422f",
        ),
        (
            [(ZERO, 0), (ONE, 100), (ZERO, 0), (ONE, 100), (ZERO, 0)],
            "f36c6a6374a567efd36ed087aeb680b57e3af4e0b5b8e7be2593df4cb647a2de",
            "ab2f46d31855e1133b3b5b70e78f841394a648710a208923b221c1a8a0572a1f",
        ),
    ],
)
def test_tree_hashes_are_the_published_reference_values(leaves: list[tuple[str, int]], xorb: str, file: str) -> None:
    parsed = [Leaf(from_text(name), size) for name, size in leaves]
    assert to_text(hash_xorb(parsed)) == xorb
    assert to_text(hash_file(parsed)) == file


@given(st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 2**20)), min_size=1, max_size=200))
def test_a_tree_that_grows_leaf_by_leaf_is_the_tree_of_the_specification(leaves: list[tuple[bytes, int]]) -> None:
    assert hash_xorb([Leaf(*leaf) for leaf in leaves]) == level_by_level([Leaf(*leaf) for leaf in leaves])


def level_by_level(level: list[Leaf]) -> bytes:
    """The tree as the specification builds it: a level is cut into groups of 2 to 9, at hashes that 4 divides."""
    while len(level) > 1:
        above, start = [], 0
        while start < len(level):
            end = min(start + 9, len(level))
            cuts = (at + 1 for at in range(start + 2, end) if int.from_bytes(level[at].hash[24:], "little") % 4 == 0)
            stop = next(cuts, end)
            text = "".join(f"{to_text(leaf.hash)} : {leaf.size}\n" for leaf in level[start:stop])
            key = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
            above.append(Leaf(blake3(text.encode(), key=key).digest(), sum(leaf.size for leaf in level[start:stop])))
            start = stop
        level = above
    return level[0].hash


@given(st.data())
def test_a_run_of_chunks_is_read_by_itself(data: st.DataObject) -> None:
    chunks = tuple(data.draw(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=20)))
    pack = Pack(chunks)
    start = data.draw(st.integers(0, len(chunks) - 1))
    end = data.draw(st.integers(start + 1, len(chunks)))
    size = sum(map(len, chunks[start:end]))
    with TemporaryDirectory() as folder:
        store = XorbStore(Path(folder), 10**9)
        space = store.space(str(store.current_period()), "task", "owner")
        space.add(pack.name, io.BytesIO(pack.sent))
        run = space.run(Segment(pack.name, start, end, size, None))
        assert list(run.leaves()) == pack.leaves[start:end]
        assert b"".join(run.read()) == b"".join(chunks[start:end])
        assert is_refusal(outcome(lambda: space.run(Segment(pack.name, start, end, size + 1, None))))
        assert is_refusal(outcome(lambda: space.run(Segment(pack.name, start, len(chunks) + 1, size, None))))


def test_a_shard_that_names_more_chunks_than_any_file_has_is_refused_before_they_are_looked_up() -> None:
    shard = shard_of(hashlib.sha256(b"xorb").digest(), segments=100, chunks=MAX_CHUNKS // 99, size=1)
    with pytest.raises(TooLarge):
        parse_shard(shard)


def test_a_hash_is_written_as_four_little_endian_numbers() -> None:
    assert to_text(bytes(range(32))) == "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"
    assert from_text(to_text(bytes(range(32)))) == bytes(range(32))


@given(st.binary(min_size=1, max_size=5_000), st.sampled_from([0, 1, 2]))
def test_every_scheme_unpacks_to_what_was_packed(data: bytes, scheme: int) -> None:
    assert list(read_chunks(io.BytesIO(pack_chunk(data, scheme)))) == [data]


def test_grouping_takes_every_fourth_byte() -> None:
    assert group(b"ABCDABCDAB") == b"AAABBBCCDD"
    assert unpack_chunk(lz4.frame.compress(b"AAABBBCCDD"), 2, 10) == b"ABCDABCDAB"


def test_a_chunk_never_unpacks_to_more_than_it_said() -> None:
    bomb = lz4.frame.compress(bytes(100_000_000))
    with pytest.raises(MalformedXorb):
        unpack_chunk(bomb, 1, 1_000)


def test_a_chunk_above_the_protocols_limit_is_refused_before_it_is_read() -> None:
    header = b"\0" + (10).to_bytes(3, "little") + b"\1" + (MAX_CHUNK_BYTES + 1).to_bytes(3, "little")
    with pytest.raises(TooLarge):
        list(read_chunks(io.BytesIO(header + bytes(10))))


def test_a_xorb_that_unpacks_to_more_than_64_mib_is_refused() -> None:
    chunk = pack_chunk(bytes(MAX_CHUNK_BYTES), 1)
    with pytest.raises(TooLarge):
        for _ in read_chunks(io.BytesIO(chunk * 513)):
            pass


def test_an_older_clients_footer_is_left_unread() -> None:
    assert list(read_chunks(io.BytesIO(pack_chunk(b"data", 0) + b"XETBLOB\1whatever"))) == [b"data"]


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_random_bytes_are_no_xorb_and_nothing_worse_happens(data: bytes) -> None:
    chunks = outcome(lambda: list(read_chunks(io.BytesIO(data))))
    assert is_refusal(chunks) or sum(map(len, chunks)) <= len(data) * 300


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_xorb_is_refused(data: st.DataObject) -> None:
    pack = Pack((b"hello " * 50, bytes(range(256)), b"z"), (1, 2, 0))
    sent = bytearray(pack.sent)
    sent[data.draw(st.integers(0, len(sent) - 1))] ^= data.draw(st.integers(1, 255))
    with TemporaryDirectory() as folder:
        store = XorbStore(Path(folder), 10**9)
        space = store.space(str(store.current_period()), "task", "owner")
        added = outcome(lambda: space.add(pack.name, io.BytesIO(bytes(sent))))
        # A bit that means nothing (in an LZ4 frame's descriptor) may change: what is kept is still what was named.
        kept = b"".join(space.run(whole(pack)).read()) if space.has(pack.name) else None
    assert kept == b"".join(pack.chunks) if added is True else is_refusal(added) and kept is None


@settings(max_examples=400)
@given(st.data())
def test_a_damaged_shard_is_read_or_refused(data: st.DataObject) -> None:
    pack = Pack((b"abc", b"defg"))
    shard = bytearray(write_shard([(pack, "ab" * 32, [(0, 1), (1, 2)]), (pack, "cd" * 32, [(0, 2)])]))
    for _ in range(data.draw(st.integers(1, 4))):
        shard[data.draw(st.integers(0, len(shard) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(shard)))
    files = outcome(lambda: parse_shard(bytes(shard[:cut])))
    assert is_refusal(files) or len(files) <= 2


def test_a_shard_names_its_files() -> None:
    pack = Pack((b"abc", b"defg"))
    (file,) = parse_shard(write_shard([(pack, "ab" * 32, [(0, 1), (0, 2)])]))
    assert file.sha256 == "ab" * 32
    assert file.size == 3 + 7
    assert [(s.start, s.end, s.size) for s in file.segments] == [(0, 1, 3), (0, 2, 7)]


def test_a_shard_that_announces_more_than_it_has_costs_nothing() -> None:
    header = TAG + struct.pack("<QQ", 2, 0) + RECORD.pack(bytes(32), 0, 2**32 - 1, 0, 0)
    with pytest.raises(MalformedShard):
        parse_shard(header + BOOKEND * 2)


def test_a_xorb_kept_for_one_adapter_is_not_there_for_another(tmp_path: Path) -> None:
    pack = Pack((b"weights",))
    store = XorbStore(tmp_path, 10**9)
    period = str(store.current_period())
    assert store.space(period, "mine", "owner").add(pack.name, io.BytesIO(pack.sent)) is True
    assert store.space(period, "mine", "owner").add(pack.name, io.BytesIO(pack.sent)) is False
    with pytest.raises(XorbNotFound):
        store.space(period, "yours", "owner").run(whole(pack))


def test_a_xorb_under_another_name_is_refused(tmp_path: Path) -> None:
    store = XorbStore(tmp_path, 10**9)
    space = store.space(str(store.current_period()), "mine", "owner")
    with pytest.raises(DigestMismatch):
        space.add(hashlib.sha256(b"other").digest(), io.BytesIO(Pack((b"weights",)).sent))
    assert not list(space.folder.iterdir())


def test_an_old_period_is_swept_and_its_address_expires(tmp_path: Path) -> None:
    store = XorbStore(tmp_path, 10**9)
    now = store.current_period()
    for period in (now - 3, now - 1, now):
        (store.root / str(period) / "task").mkdir(parents=True)
    store.sweep()
    assert sorted(folder.name for folder in store.root.iterdir()) == [str(now - 1), str(now)]
    with pytest.raises(XorbNotFound):
        store.space(str(now - 2), "task", "owner")
    for odd in ("../..", f"0{now}", f"{now} ", f"+{now}"):
        with pytest.raises(XorbNotFound):
            store.space(odd, "task", "owner")
