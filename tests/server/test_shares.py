"""Connections and threads are shared between addresses, and where a request ends does not depend on its packets."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.web.server.heads import find_head, forwarded_address
from hub.web.server.shares import Crowd, FairPool, Full, Turns
from tests.attack.slow_clients import PING, Fate
from tests.server.wire import connect, read_all, status_of
from tests.support.server import running_server
from tests.support.threads import run_async


@dataclass(eq=False)
class Guest:
    address: str
    rests: bool = False
    waits: bool = False


def crowd_of(*guests: Guest) -> Crowd[Guest]:
    crowd: Crowd[Guest] = Crowd(len(guests))
    for guest in guests:
        crowd.add(guest)
    return crowd


def test_the_address_with_most_connections_loses_the_oldest_that_rests() -> None:
    lonely, busy = Guest("a", rests=True, waits=True), Guest("b")
    first, second = Guest("b", rests=True, waits=True), Guest("b", rests=True, waits=True)
    crowd = crowd_of(lonely, busy, first, second)
    assert crowd.is_full
    assert crowd.who_leaves("c") is first
    assert crowd.who_leaves("b") is first


def test_a_slow_reader_leaves_for_another_address_and_not_for_its_own() -> None:
    working, reading = Guest("a"), Guest("a", waits=True)
    crowd = crowd_of(working, reading)
    assert crowd.who_leaves("b") is reading
    assert crowd.who_leaves("a") is None


def test_nobody_at_work_is_interrupted() -> None:
    assert crowd_of(Guest("a"), Guest("a")).who_leaves("b") is None


def test_who_left_is_not_counted() -> None:
    one, other = Guest("a"), Guest("b")
    crowd = crowd_of(one, other)
    crowd.remove(one)
    crowd.remove(one)
    assert (len(crowd), list(crowd)) == (1, [other])


def test_an_address_that_waits_for_threads_leaves_one_to_others() -> None:
    async def scene() -> list[str]:
        pool, gate, done = FairPool(4, 3, "test"), threading.Event(), []
        crowd = [asyncio.ensure_future(pool.run("many", gate.wait)) for _ in range(20)]
        await asyncio.sleep(0)
        await pool.run("one", lambda: done.append("one"))
        with pytest.raises(Full):
            await pool.run_now("many", lambda: None)
        done.append("many")
        gate.set()
        assert all(await asyncio.gather(*crowd))
        return done

    assert run_async(scene()) == ["one", "many"]


def test_lines_of_addresses_take_turns() -> None:
    async def scene() -> list[str]:
        pool, gate, order = FairPool(1, 1, "test"), threading.Event(), []
        held = asyncio.ensure_future(pool.run("a", gate.wait))
        await asyncio.sleep(0)
        waiting = [
            asyncio.ensure_future(pool.run(address, lambda address=address: order.append(address)))  # type: ignore[misc]
            for address in "aaab"
        ]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(held, *waiting)
        return order

    assert run_async(scene()).index("b") <= 1


def test_what_fails_in_a_thread_fails_for_its_caller_alone() -> None:
    async def scene() -> int:
        pool = FairPool(1, 1, "test")
        with pytest.raises(ZeroDivisionError):
            await pool.run("a", lambda: 1 // 0)
        return await pool.run("a", lambda: 7)

    assert run_async(scene()) == 7


HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n"


@given(st.lists(st.integers(1, 30), max_size=20))
def test_a_head_is_found_whatever_packets_it_comes_in(cuts: list[int]) -> None:
    seen, scanned, head = bytearray(), 0, None
    for size in [*cuts, len(HEAD)]:
        seen += HEAD[len(seen) : len(seen) + size]
        head = find_head(seen, scanned)
        scanned = len(seen)
        assert (head is not None) == (len(seen) == len(HEAD))
        if head is not None:
            break
    assert head is not None
    assert (head.size, head.length, head.expects, head.is_short) == (len(HEAD), 12, True, True)


@pytest.mark.parametrize("field", [b"Transfer-Encoding: chunked", b"transfer-encoding : chunked\r\nContent-Length: 3"])
def test_a_body_that_its_coding_ends_is_long(field: bytes) -> None:
    head = find_head(bytearray(b"POST /x HTTP/1.1\r\n" + field + b"\r\n\r\n"), 0)
    assert head is not None
    assert not head.is_short


@pytest.mark.parametrize(
    ("hops", "expected"), [(0, "10.0.0.9"), (1, "3.3.3.3"), (2, "2.2.2.2"), (3, "1.1.1.1"), (4, "10.0.0.9")]
)
def test_behind_proxies_the_client_is_whom_they_name(hops: int, expected: str) -> None:
    head = b"GET / HTTP/1.1\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-For: 3.3.3.3\r\n\r\n"
    assert forwarded_address(head, "10.0.0.9", hops) == expected


def test_a_full_house_has_room_for_another_address(tmp_path: Path) -> None:
    """Idle connections of one address take every place: newcomers are served, and the first of the idle ones leave."""
    with running_server(tmp_path, LORAHUB_CONNECTIONS="30") as server:
        idle = [connect(server.url, source="127.0.0.2") for _ in range(30)]
        others = Fate()
        for _ in range(10):
            others.ask(server.url, PING)
        assert others.was_served, others
        assert status_of(read_all(idle[0])) == 503
        idle[-1].sendall(PING)
        assert status_of(read_all(idle[-1])) == 200
        for one in idle:
            one.close()


def test_a_crowd_of_one_address_leaves_the_loop_to_others_in_each_round() -> None:
    async def scene() -> list[str]:
        turns, order = Turns(2), []

        async def go(address: str) -> None:
            await turns.next(address)
            order.append(address)

        await asyncio.gather(*[go("many") for _ in range(9)], go("one"))
        return order

    order = run_async(scene())
    assert order.index("one") <= 2
    assert order.count("many") == 9
