"""Rate limits count by what was authenticated, and guessing tokens keeps nobody out but the guesser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from hub.web.http.limits import FAILED_LOGINS_PER_MINUTE, address_key
from tests.support.server import RunningServer, running_server

WRITES = 20


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("limits")
    with running_server(folder, "--workers", "2", LORAHUB_WRITES_PER_MINUTE=str(WRITES)) as running:
        yield running


@contextmanager
def client(server: RunningServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, trust_env=False) as opened:
        yield opened


def statuses(server: RunningServer, method: str, path: str, headers: list[str | None]) -> list[int]:
    with client(server) as http:
        return [
            http.request(method, path, headers={} if value is None else {"Authorization": value}).status_code
            for value in headers
        ]


def test_one_token_has_one_bucket_however_it_is_written(server: RunningServer) -> None:
    ways = [f"Bearer{' ' * n}{server.token}" for n in range(1, 101)]
    ways += [f"{word} {server.token}" for word in ("bearer", "BEARER", "bEARER") for _ in range(20)]
    got = statuses(server, "DELETE", "/api/v1/tokens/987654", ways)
    # Some come while the bucket fills again: a third of one a second.
    assert sum(status != 429 for status in got) <= WRITES + 10
    assert got.count(429) >= len(ways) - WRITES - 10


def test_one_user_has_one_bucket_however_many_tokens(server: RunningServer) -> None:
    tokens = [server.cli("token", "create", f"t{n}", "--scope", "read").stdout.strip() for n in range(3)]
    got = statuses(server, "DELETE", "/api/v1/tokens/987654", [f"Bearer {tokens[n % 3]}" for n in range(60)])
    assert sum(status != 429 for status in got) <= WRITES + 5


def test_bad_tokens_lock_out_bad_tokens_alone(server: RunningServer) -> None:
    bad = [f"Bearer lhub_{n:043d}" for n in range(2 * FAILED_LOGINS_PER_MINUTE + 10)]
    got = statuses(server, "GET", "/api/v1/whoami", bad)
    assert got[:10] == [401] * 10
    assert 429 in got
    assert statuses(server, "GET", "/api/v1/whoami", [f"Bearer {server.token}"] * 20) == [200] * 20
    assert statuses(server, "GET", "/api/v1/adapters", [None] * 5) == [200] * 5
    # Writing with a bad token costs no write of the good one's, nor of those without.
    statuses(server, "DELETE", "/api/v1/tokens/987654", ["Bearer nonsense"] * (2 * WRITES))
    assert statuses(server, "DELETE", "/api/v1/tokens/987654", [f"Bearer {server.token}"] * 5) == [404] * 5
    assert statuses(server, "DELETE", "/api/v1/tokens/987654", [None] * 5) == [401] * 5


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::"),
        ("unix", "unix"),
        (None, "None"),
    ],
)
def test_a_network_that_one_caller_has_whole_is_one_address(address: str | None, key: str) -> None:
    assert address_key(address) == key
