"""The hashes of the Xet protocol: chunk, xorb, file and range.

Every one is BLAKE3 with a key that says what is hashed.  A xorb (a pack of chunks) and a file are named by the root of
a Merkle tree over their chunks, so a name can be checked against the chunks alone.
Source: the Xet protocol specification, "Hashing" (huggingface.co/docs/xet/hashing), and draft-denis-xet.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

from blake3 import blake3

from hub.errors import InvalidRequest
from hub.formats.readable import SHA256_HEX

HASH_BYTES = 32
EMPTY_HASH = bytes(HASH_BYTES)

_CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
_FILE_KEY = bytes(HASH_BYTES)

_MEAN_CHILDREN = 4
_MIN_CHILDREN = 2
_MAX_CHILDREN = 2 * _MEAN_CHILDREN + 1


class Leaf(NamedTuple):
    """One chunk as its tree sees it: its hash (32 bytes), and its size unpacked, in bytes."""

    hash: bytes
    size: int


def hash_chunk(data: bytes) -> bytes:
    return blake3(data, key=_CHUNK_KEY).digest()


def hash_xorb(leaves: Iterable[Leaf]) -> bytes:
    """Return the name of the pack that holds these chunks in this order."""
    return _root(leaves) or EMPTY_HASH


def hash_file(leaves: Iterable[Leaf]) -> bytes:
    """Return the name of the file that is made of these chunks in this order.

    The chunks may come from an iterator: no more than a few of them are held at a time.
    """
    root = _root(leaves)
    return blake3(root, key=_FILE_KEY).digest() if root else EMPTY_HASH


def hash_range(hashes: Iterable[bytes]) -> bytes:
    """Return the hash by which a shard proves that its sender knows the chunks of one segment."""
    proof = blake3(key=_RANGE_KEY)
    for each in hashes:
        proof.update(each)
    return proof.digest()


def to_text(raw: bytes) -> str:
    """Write a hash as the protocol does: four little-endian 64-bit numbers in hex, not byte by byte."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def from_text(text: str) -> bytes:
    """Read what `to_text` wrote.  Raises InvalidRequest."""
    if not SHA256_HEX.match(text):
        raise InvalidRequest(f"{text[:80]!r} is not a Xet hash: it takes 64 lower-case hex digits.")
    return struct.pack("<4Q", *(int(text[at : at + 16], 16) for at in range(0, 64, 16)))


def _root(leaves: Iterable[Leaf]) -> bytes | None:
    tree = _Tree()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


class _Tree:
    """The tree over leaves that come one by one: of each level it holds the group that is still open."""

    def __init__(self) -> None:
        self._open: list[list[Leaf]] = []

    def add(self, node: Leaf, level: int = 0) -> None:
        for at in count(level):
            if at == len(self._open):
                self._open.append([])
            group = self._open[at]
            group.append(node)
            if not _is_complete(group):
                return
            node, self._open[at] = _node(group), []

    def root(self) -> bytes | None:
        """Return the hash at the top; None if there were no leaves.  Nothing can be added afterwards."""
        for level in count():
            if level == len(self._open):
                return None
            group = self._open[level]
            if level == len(self._open) - 1 and len(group) == 1:
                return group[0].hash
            if group:
                self.add(_node(group), level + 1)
        return None


def _is_complete(group: Sequence[Leaf]) -> bool:
    """Whether a group ends here: the hashes themselves decide, four children on average."""
    if len(group) == _MAX_CHILDREN:
        return True
    return len(group) > _MIN_CHILDREN and int.from_bytes(group[-1].hash[24:], "little") % _MEAN_CHILDREN == 0


def _node(children: Sequence[Leaf]) -> Leaf:
    lines = "".join(f"{to_text(child.hash)} : {child.size}\n" for child in children)
    return Leaf(blake3(lines.encode("ascii"), key=_NODE_KEY).digest(), sum(child.size for child in children))
