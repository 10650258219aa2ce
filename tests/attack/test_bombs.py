"""A bomb for each parser, sent to a real server: what it may cost is said beside it.

Memory is by how much the server's processes grew at their peak.  Time is processor time, of the server and of what it
started, in seconds of a machine that hashes 1 GB in 0.6 s: it is measured against such hashing, where the test runs.
`pytest -s` prints both; the bounds are about three times what was measured.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hub.formats.front_matter import MAX_FRONT_MATTER_BYTES
from hub.web.catalog.cards import MAX_CARD_BYTES
from hub.web.catalog.pages.insight import NOT_YET
from hub.web.http.json_bodies import STRANGERS_BYTES
from hub.web.xet.shard import MAX_CHUNKS
from tests.catalog.payloads import costly
from tests.formats.test_bombs import bombs_of_json
from tests.hf.conftest import Wire, prepare
from tests.hf.test_json_bodies import post
from tests.hf.test_xet_uploads import Cas, wire_request
from tests.support.adapters import write_adapter, write_safetensors
from tests.support.cost import Cost
from tests.support.rounds import rounds
from tests.support.server import running_server
from tests.xet.samples import Pack, shard_of

MB = 10**6


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    with running_server(tmp_path_factory.mktemp("attack")) as server:
        found = prepare(server)
        found.namespace("bombs")
        yield found


@dataclass(frozen=True)
class Bounds:
    """Asserts what the server spends in a block: at most so many bytes, and seconds of the machine above."""

    wire: Wire
    second: float

    def hold(self, work: Callable[[], Any], *, megabytes: float, seconds: float) -> Any:
        cost = Cost.of(self.wire.server.process.pid)
        result = work()
        spent, grown = cost.spent_seconds(), cost.grown_bytes()
        print(f"{spent / self.second:.2f} s of {seconds:g}, {grown / MB:.0f} MB of {megabytes:g}")
        assert grown < megabytes * MB, f"{grown / MB:.0f} MB"
        assert spent < seconds * self.second + 0.5, f"{spent:.2f} s, of which a second is {self.second:.2f}"
        return result


@pytest.fixture(scope="module")
def bounds(wire: Wire) -> Bounds:
    block, start = bytes(MB), time.process_time()
    for _ in range(500):
        hashlib.sha256(block).digest()
    return Bounds(wire, (time.process_time() - start) / 0.3)


def refused(status: int) -> bool:
    return 400 <= status < 500


# JSON, YAML and patterns in requests ------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True], ids=["stranger", "publisher"])
def test_json(wire: Wire, bounds: Bounds, known: bool) -> None:
    size = STRANGERS_BYTES if not known else 2 * MB
    token = wire.token if known else None

    def send() -> list[int]:
        return [post(wire.url, "/api/validate-yaml", bomb, token)[0] for bomb in bombs_of_json(size).values()]

    statuses = bounds.hold(send, megabytes=60 if known else 30, seconds=3 if known else 1)
    assert all(map(refused, statuses)), statuses


def test_a_manifest(wire: Wire, bounds: Bounds) -> None:
    def send() -> list[int]:
        bombs = [b'{"manifest":' + bomb + b"}" for bomb in bombs_of_json(8 * MB).values()]
        return [post(wire.url, "/api/v1/adapters/bombs/qa/versions", bomb, wire.token)[0] for bomb in bombs]

    statuses = bounds.hold(send, megabytes=100, seconds=4)
    assert all(map(refused, statuses)), statuses


def test_yaml(wire: Wire, bounds: Bounds) -> None:
    level = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    heads = (
        level,
        "[" * 5_000,
        "- " * 5_000,
        "? " * 5_000,
        "a: b\n" * 9_000,
        "!!python/object:os.system x",
        "'" * 9_000,
    )

    def send() -> list[int]:
        bodies = [json.dumps({"content": f"---\n{head}\n---\n"[:MAX_FRONT_MATTER_BYTES]}).encode() for head in heads]
        return [post(wire.url, "/api/validate-yaml", body)[0] for body in bodies]

    statuses = bounds.hold(send, megabytes=30, seconds=1)
    assert all(status == 200 or refused(status) for status in statuses), statuses


def test_ignore_patterns(wire: Wire, bounds: Bounds) -> None:
    repo = "bombs/ignored"
    post(wire.url, "/api/repos/create", json.dumps({"name": repo}).encode(), wire.token)
    files = [{"path": f"{'a' * 150}/{number}.txt", "size": 1, "sample": ""} for number in range(500)]
    patterns = (
        "*a" * 60 + "b",
        "**/" * 60 + "b",
        "\n".join(["*a*a*a*b"] * 5_000),
        "[" * 5_000,
        "?" * 5_000,
        "!" * 5_000,
    )

    def send() -> list[int]:
        path = f"/api/models/{repo}/preupload/main"
        bodies = [json.dumps({"files": files, "gitIgnore": pattern}).encode() for pattern in patterns]
        return [post(wire.url, path, body, wire.token)[0] for body in bodies]

    statuses = bounds.hold(send, megabytes=50, seconds=6)
    assert all(status == 200 or refused(status) for status in statuses), statuses


# What is published ------------------------------------------------------------------------------------------------


def publish(wire: Wire, repo: str, files: dict[str, bytes]) -> int:
    """Send files as a stock client sends small ones, in one commit; return its status."""
    import base64

    post(wire.url, "/api/repos/create", json.dumps({"name": repo}).encode(), wire.token)
    lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": "bomb"}}]
    for path, data in files.items():
        content = base64.b64encode(data).decode()
        lines.append({"key": "file", "value": {"path": path, "content": content, "encoding": "base64"}})
    body = "\n".join(map(json.dumps, lines)).encode()
    return wire_request(wire, "POST", f"/api/models/{repo}/commit/main", body, quiet=True)[0]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = write_adapter(tmp_path_factory.mktemp("adapter") / "small", layers=2)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def header_bombs() -> dict[str, bytes]:
    entry = '"%s":{"dtype":"F32","shape":[%s],"data_offsets":[0,0]}'
    many = "{" + ",".join(entry % (f"{number:07d}", "0") for number in range(200_000)) + "}"
    texts = {
        "many tensors": many,
        "many dimensions": "{" + entry % ("a", ",".join(["0"] * 2_000_000)) + "}",
        "one name again and again": "{" + ",".join([entry % ("a", "0")] * 150_000) + "}",
        "depth": "[" * 5 * MB,
        "metadata": '{"__metadata__":{' + ",".join(f'"{n}":"x"' for n in range(500_000)) + "}}",
        "white space": " " * 5 * MB + "{}",
    }
    framed = {name: len(text).to_bytes(8, "little") + text.encode() for name, text in texts.items()}
    return framed | {"a length that lies": (2**62).to_bytes(8, "little") + b"{}"}


def test_headers(wire: Wire, bounds: Bounds, adapter: dict[str, bytes]) -> None:
    def send() -> list[int]:
        return [
            publish(wire, f"bombs/header-{number}", adapter | {"adapter_model.safetensors": bomb})
            for number, bomb in enumerate(header_bombs().values())
        ]

    statuses = bounds.hold(send, megabytes=120, seconds=5)
    assert all(status == 200 or refused(status) for status in statuses), statuses
    for number in range(len(statuses)):
        assert (
            wire_request(wire, "GET", f"/api/v1/adapters/bombs/header-{number}/versions/latest", quiet=True)[0] == 404
        )


def test_configs(wire: Wire, bounds: Bounds, adapter: dict[str, bytes]) -> None:
    known = json.loads(adapter["adapter_config.json"])
    patterns = ({f"(a|b)?{n}": 1 for n in range(20_000)}, {"a" * n: 1 for n in range(1, 480)}, {"([\\w.]+)+!": 1})
    bombs = [*bombs_of_json(MB).values(), *(json.dumps(known | {"rank_pattern": each}).encode() for each in patterns)]
    bombs.append(json.dumps(known | {"target_modules": "(" * 900 + ")" * 900}).encode())

    def send() -> list[int]:
        return [
            publish(wire, f"bombs/config-{number}", adapter | {"adapter_config.json": bomb})
            for number, bomb in enumerate(bombs)
        ]

    statuses = bounds.hold(send, megabytes=100, seconds=4)
    assert all(status == 200 or refused(status) for status in statuses), statuses


def card_bombs() -> list[bytes]:
    quadratic = {
        "ini": ": " * 8_000,
        "python": "\n\t" * 8_000,
        "yaml": "%`" * 8_000,
        "toml": "[" * 16_000,
    }
    fences = [f"```{language}\n{code}\n```\n" * 3 for language, code in quadratic.items()]
    return [text.encode() for text in (*fences, *costly(MAX_CARD_BYTES).values())]


def test_cards_cost_their_publisher_once_and_no_reader(wire: Wire, bounds: Bounds, adapter: dict[str, bytes]) -> None:
    def send() -> None:
        for bomb in card_bombs():
            assert publish(wire, "bombs/cards", adapter | {"README.md": bomb}) == 200
        until = time.monotonic() + 300
        for number in range(1, len(card_bombs()) + 1):
            while NOT_YET in page(wire, f"/bombs/cards/versions/{number}"):
                assert time.monotonic() < until, f"the card of v{number} is not there"
                time.sleep(0.2)

    bounds.hold(send, megabytes=100, seconds=40)

    def read() -> None:
        for number in range(1, len(card_bombs()) + 1):
            page(wire, f"/bombs/cards/versions/{number}")

    bounds.hold(read, megabytes=100, seconds=0.3 * len(card_bombs()))


def page(wire: Wire, address: str) -> str:
    status, body = wire_request(wire, "GET", address, quiet=True)
    assert status == 200, address
    return body.decode()


def test_weights_that_no_map_can_be_drawn_of(wire: Wire, bounds: Bounds, tmp_path: Path) -> None:
    """One NaN, and a rank of 1,024: neither page fails, and none waits for a map."""
    wide, rank = 1024, 1024
    numbers = random.Random(1).randbytes(4 * rank * wide // 8) * 8
    prefix = "base_model.model.model.layers.%d.self_attn.q_proj.lora_%s.weight"
    tensors = {prefix % (layer, part): ((rank, wide), numbers) for layer in range(3) for part in "AB"}
    heavy = write_adapter(tmp_path / "heavy", rank=rank, layers=0, targets=("q_proj",), tensors=tensors)
    nan = write_adapter(tmp_path / "nan", layers=1, targets=("q_proj",))
    write_safetensors(
        nan / "adapter_model.safetensors",
        {prefix % (0, "A"): ((4, 32), b"\xff" * 512), prefix % (0, "B"): ((32, 4), bytes(512))},
    )
    for folder in (heavy, nan):
        wire.server.cli("push", str(folder), f"bombs/{folder.name}")
        bounds.hold(lambda f=folder: page(wire, f"/bombs/{f.name}/versions/1"), megabytes=50, seconds=1)  # type: ignore[misc]
    until = time.monotonic() + 300
    for name in ("heavy", "nan"):
        while NOT_YET in page(wire, f"/bombs/{name}/versions/1"):
            assert time.monotonic() < until
            time.sleep(0.5)
    assert "1 tensor holds NaN or infinity" in page(wire, "/bombs/nan/versions/1")


# Xet --------------------------------------------------------------------------------------------------------------


def test_a_small_shard_that_names_a_small_xorb_again_and_again(wire: Wire, bounds: Bounds) -> None:
    cas = Cas(wire, "bombs/xet")
    pack = Pack(tuple(b"%d" % (number % 7) for number in range(32_768)))
    assert cas.put_xorb(pack.name, pack.sent) == 200
    whole = len(pack.chunks)
    shards = {
        "1,500 times": shard_of(pack.name, 1_500, whole, whole),
        "200 times": shard_of(pack.name, 200, whole, whole),
        "as often as may be": shard_of(pack.name, MAX_CHUNKS // whole, whole, whole),
        "a terabyte": shard_of(pack.name, 300, 1, 2**32 - 1),
        "a chunk at a time": shard_of(pack.name, 50_000, 1, 1),
    }
    for name, shard in shards.items():
        status = bounds.hold(lambda s=shard: cas.put_shard(s), megabytes=40, seconds=10)  # type: ignore[misc]
        assert refused(status), name


def test_xorbs(wire: Wire, bounds: Bounds) -> None:
    cas = Cas(wire, "bombs/xorbs")
    zeros = Pack((bytes(131_072),) * 600, (1,) * 600)
    tiny = Pack((b"x",) * 33_000)
    lying = b"\0\xff\xff\0\1\xff\xff\1" * 1_000

    def send() -> list[int]:
        return [cas.put_xorb(hashlib.sha256(body).digest(), body) for body in (zeros.sent, tiny.sent, lying)]

    statuses = bounds.hold(send, megabytes=50, seconds=2)
    assert all(map(refused, statuses)), statuses


@pytest.mark.parametrize("seed", range(rounds(2)))
def test_bytes_at_random(wire: Wire, bounds: Bounds, seed: int) -> None:
    """Whatever comes to the routes that read bytes, the answer is the sender's mistake."""
    cas, numbers = Cas(wire, "bombs/random"), random.Random(seed)

    def send() -> list[int]:
        data = [numbers.randbytes(numbers.randrange(1, 5_000)) for _ in range(20)]
        statuses = [cas.put_xorb(hashlib.sha256(each).digest(), each) for each in data]
        statuses += [cas.put_shard(each) for each in data]
        return statuses + [
            wire_request(wire, "POST", "/api/models/bombs/random/commit/main", each, quiet=True)[0] for each in data
        ]

    assert all(map(refused, bounds.hold(send, megabytes=30, seconds=2)))
