"""What strangers send is refused before it costs: configs, manifests and front matter made to explode."""

from __future__ import annotations

import json

from hub.adapter.config import MAX_CONFIG_BYTES
from hub.formats.front_matter import MAX_FRONT_MATTER_BYTES
from hub.manifest import MAX_MANIFEST_BYTES
from tests.formats.test_front_matter import BOMBS as CARD_BOMBS
from tests.support.bombs import check_bombs


def bombs_of_json(size: int) -> dict[str, bytes]:
    """Return texts of nearly `size` bytes that are cheap to write and dear to read."""
    return {
        "a wide list": b'{"a":[' + b"[]," * (size // 3 - 8) + b"1]}",
        "a wide object": b"{" + b",".join(b'"%07d":1' % n for n in range(size // 12)) + b"}",
        "one key again and again": b"{" + b",".join([b'"a":1'] * (size // 6 - 8)) + b"}",
        "a deep list": b"[" * (size - 1),
        "a deep object": b'{"a":' * (size // 5 - 1),
        "a deep list that ends": b"[" * (size // 2 - 1) + b"]" * (size // 2 - 1),
        "a long text": b'{"' + b"a" * (size - 10) + b'":1}',
        "a text of escapes": b'{"' + rb"\u0041" * (size // 6 - 4) + b'":1}',
        "an unfinished text": b'{"' + rb"\"" * (size // 2 - 4),
        "a long number": b'{"a":' + b"9" * (size - 10) + b"}",
        "a long fraction": b'{"a":0.' + b"9" * (size - 12) + b"}",
        "white space": b" " * (size - 1),
        "too many bytes": b" " * (size + 1),
    }


def config(**fields):
    return json.dumps({"peft_type": "LORA", "r": 8} | fields).encode()


def test_config_bombs(tmp_path):
    bombs = bombs_of_json(MAX_CONFIG_BYTES) | {
        "many regular expressions": config(rank_pattern={f"(a|b)?{n}": 1 for n in range(20_000)}),
        "long regular expressions": config(rank_pattern={"(a|b)" * 390 + str(n): 1 for n in range(256)}),
        "many layouts": config(rank_pattern={"a" * n: 1 for n in range(1, 480)}),
        "a repeated repeat": config(target_modules=r"([\w.]+)+!"),
        "a nest of groups": config(target_modules="(" * 900 + ")" * 900),
        "many tokens": config(trainable_token_indices={f"m{n}": [n] for n in range(20_000)}),
    }
    check_bombs("config", bombs, tmp_path)


def test_manifest_bombs(tmp_path):
    check_bombs("manifest", bombs_of_json(MAX_MANIFEST_BYTES), tmp_path)


def test_front_matter_bombs(tmp_path):
    bombs = {name: text.encode() for name, text in CARD_BOMBS.items()}
    check_bombs("card", bombs | {"a long block": b"a: b\n" * (MAX_FRONT_MATTER_BYTES // 5 + 1)}, tmp_path)
